/* A streaming renderer for a small subset of Markdown.
 *
 * Rule 1: Output is built from DOM nodes, never from HTML: a model's output can only become text, and a link can only
 *         lead to http or https.
 * Rule 2: A complete line is parsed once, so a token costs the same in a long answer as in a short one. The incomplete
 *         last line is drawn provisionally, and removed and drawn again when more of it arrives.
 */

const LONG_LINE = 2_000;
const INLINE =
  /(`{1,2})(.+?)\1|\*\*(\S.*?)\*\*|(?<![*\w])\*([^\s*][^*]*)\*(?![*\w])|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;

/** Creates an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

/** Appends a line's text to `parent`. Code, bold, italics and links become elements, the rest stays text. */
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

/** Renders pushed Markdown under `root`. */
export class Prose {
  #rest = ""; // the incomplete last line, drawn provisionally
  #state = { leaf: null, list: null, fence: null, indents: [], blank: false, midline: false };
  #undo = () => {}; // removes the provisional line

  constructor(root) {
    this.root = root;
  }

  push(text) {
    this.#undo();
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      this.#splitLong(line);
      this.#state.midline = false;
    }
    if (this.#rest.length > LONG_LINE) this.#rest = this.#splitLong(this.#rest, true);
    this.#undo = this.#checkpoint();
    if (this.#rest) this.#line(this.#rest);
  }

  /** Draws a line in pieces of at most LONG_LINE characters. If it is `open`, the last piece is returned undrawn. */
  #splitLong(line, open = false) {
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

  /** Returns a function that restores the current state and removes all nodes added after it. */
  #checkpoint() {
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
    const wasBlank = state.blank;
    state.blank = !text;
    const match =
      !text ||
      this.#fence(text, indent) ||
      this.#item(text, indent.replaceAll("\t", "    ").length) ||
      this.#heading(text) ||
      this.#quote(text);
    if (match) return;
    if (state.leaf && (state.list ? indent || !wasBlank : !wasBlank)) state.leaf.append("\n");
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
    const [, marker, content] = /^([-*+]|\d{1,9}[.)])\s+(.*)$/.exec(text) ?? [];
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
    inline(state.leaf, content);
    return true;
  }

  #heading(text) {
    const [, marks, content] = /^(#{1,6})\s+(.*?)\s*#*$/.exec(text) ?? [];
    if (marks) inline(this.#block(`h${marks.length}`), content);
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
