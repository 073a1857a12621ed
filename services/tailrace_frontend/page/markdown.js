/* A little Markdown, drawn as it comes.
 *
 * Rule 1: text is made of DOM nodes, never of HTML: nothing a model writes can be more than text, and a link leads to
 *         http or https.
 * Rule 2: a line that is complete is never looked at again, so a long answer costs no more a token than a short one.
 *         Only the line in the making is drawn for now, and taken back when there is more of it.
 */

const LONG_LINE = 2_000;
const INLINE =
  /(`{1,2})(.+?)\1|\*\*(\S.*?)\*\*|(?<![*\w])\*([^\s*][^*]*)\*(?![*\w])|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;

/** Makes an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Appends a line's text: code, bold, italics and links, the rest as it is. */
export function inline(parent, text) {
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, , code, bold, italic, label, href] = match;
    parent.append(text.slice(end, match.index));
    end = match.index + whole.length;
    if (code) parent.append(element("code", {}, code));
    else if (href) parent.append(element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label));
    else inline(parent.appendChild(element(bold ? "strong" : "em")), bold ?? italic);
  }
  parent.append(text.slice(end));
}

/** Draws what is pushed under `root`. */
export class Prose {
  #rest = ""; // the line in the making; drawn for now, and taken back when there is more of it
  #state = { leaf: null, list: null, fence: null, indents: [], blank: false, midline: false };
  #takeBack = () => {};

  constructor(root) {
    this.root = root;
  }

  push(text) {
    this.#takeBack();
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      this.#cutLong(line);
      this.#state.midline = false;
    }
    if (this.#rest.length > LONG_LINE) this.#rest = this.#cutLong(this.#rest, true);
    this.#takeBack = this.#mark();
    if (this.#rest) this.#line(this.#rest);
  }

  /** Draws a line in pieces of bearable length; `open`: all but the last piece, which is returned. */
  #cutLong(line, open = false) {
    while (line.length > LONG_LINE) {
      const space = line.lastIndexOf(" ", LONG_LINE);
      const piece = line.slice(0, space > 0 ? space : LONG_LINE);
      this.#line(piece);
      this.#state.midline = true;
      line = line.slice(piece.length);
    }
    if (!open) this.#line(line, "\n");
    return line;
  }

  #mark() {
    const state = { ...this.#state, indents: [...this.#state.indents] };
    const ends = [this.root, state.list, state.leaf].map((parent) => [parent, parent?.lastChild]);
    return () => {
      this.#state = state;
      for (const [parent, last] of ends) while (parent && parent.lastChild !== last) parent.lastChild.remove();
    };
  }

  #line(line, newline = "") {
    const state = this.#state;
    if (state.fence) return this.#code(line, newline);
    if (state.midline) return inline(state.leaf ?? this.#block("p"), line);
    const [, indent, text] = /^([ \t]*)(.*?)\s?$/.exec(line) ?? ["", "", line];
    const was = state.blank;
    state.blank = !text;
    const match =
      !text ||
      this.#fence(text, indent) ||
      this.#item(text, indent.replaceAll("\t", "    ").length) ||
      this.#heading(text) ||
      this.#quote(text);
    if (match) return;
    if (state.leaf && (state.list ? indent || !was : !was)) state.leaf.append("\n");
    else this.#block("p");
    inline(state.leaf, text);
  }

  #block(name, properties) {
    Object.assign(this.#state, { list: null, indents: [] });
    return (this.#state.leaf = this.root.appendChild(element(name, properties)));
  }

  #fence(text, indent) {
    const [, fence] = /^(`{3,}|~{3,})[^`]*$/.exec(text) ?? [];
    if (!fence) return false;
    this.#state.leaf = this.#block("pre").appendChild(element("code"));
    this.#state.fence = { mark: fence, indent: indent.length };
    return true;
  }

  #code(line, newline) {
    const { mark, indent } = this.#state.fence;
    if (!this.#state.midline && line.trim().startsWith(mark) && !line.trim().slice(mark.length)) {
      Object.assign(this.#state, { fence: null, leaf: null });
    } else {
      const margin = this.#state.midline ? 0 : Math.min(indent, line.search(/\S|$/));
      this.#state.leaf.append(line.slice(margin) + newline);
    }
  }

  #item(text, indent) {
    const [, marker, said] = /^([-*+]|\d{1,9}[.)])\s+(.*)$/.exec(text) ?? [];
    if (!marker || /^([-*])(\s*\1){2,}$/.test(text)) return false;
    const state = this.#state;
    while (state.indents.at(-1) >= indent) state.indents.pop();
    const depth = String(Math.min(3, state.indents.length));
    state.indents.push(indent);
    const name = marker.length > 1 ? "ol" : "ul";
    if (state.list?.localName !== name || state.list.dataset.depth !== depth) {
      state.list = this.root.appendChild(element(name));
      state.list.dataset.depth = depth;
    }
    state.leaf = state.list.appendChild(element("li"));
    if (name === "ol") state.leaf.value = parseInt(marker);
    inline(state.leaf, said);
    return true;
  }

  #heading(text) {
    const [, marks, said] = /^(#{1,6})\s+(.*?)\s*#*$/.exec(text) ?? [];
    if (marks) inline(this.#block(`h${marks.length}`), said);
    else if (/^([-*_])(\s*\1){2,}$/.test(text)) this.#block("hr");
    else return false;
    this.#state.leaf = null;
    return true;
  }

  #quote(text) {
    if (!text.startsWith(">")) return false;
    const leaf = this.#state.leaf;
    if (leaf?.localName === "blockquote") leaf.append("\n");
    else this.#block("blockquote");
    inline(this.#state.leaf, text.replace(/^>\s?/, ""));
    return true;
  }
}
