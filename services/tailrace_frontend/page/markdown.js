/* One piece of Markdown → sanitized nodes, in a bounded time: marked parses, DOMPurify sanitizes.
 *
 * Rule 1: HTML in a model's output is shown as text. A link leads to http, https or mailto only. An image becomes a
 *         link, because loading it would report the reader to another server. DOMPurify is the second wall.
 * Rule 2: marked recurses into what is nested (2,000 `>` overflow the stack), and its time grows with the square of the
 *         marks in one run of text. From a limit on, what is left is plain text.
 * Rule 3: No text makes it throw: a piece that marked cannot parse is plain text.
 */

import { element } from "/dom.js";
import { Lexer, Marked } from "/vendor/marked.js";
import "/vendor/purify.js";

const DEEPEST = 20; // blocks within blocks, and marks within marks
const MOST_MARKS = 300; // in one paragraph, cell or item: 10 ms of the slowest kind (`**_a` repeated)
const MARKS = /[*_~`]+|[<[@]/g;
const SAFE_LINK = /^(https?:\/\/|mailto:)/i;
const SANITIZED = {
  ALLOWED_TAGS: (
    "a blockquote br button code del div em figcaption figure h1 h2 h3 h4 h5 h6 hr input li ol p pre span strong " +
    "table tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: "align checked class disabled href rel start tabindex target type".split(" "),
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const escape = (text) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c]);

const link = (href, label) =>
  SAFE_LINK.test(href) ? `<a href="${escape(href)}" target="_blank" rel="noopener noreferrer">${label}</a>` : label;

const markdown = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html({ text, block }) {
      if (/^<br\s*\/?>$/i.test(text.trim())) return "<br>";
      return block ? `<p>${escape(text.trimEnd())}</p>` : escape(text);
    },
    checkbox: ({ checked }) =>
      `<input type="checkbox" disabled ${checked ? 'checked aria-label="done"' : 'aria-label="open"'}> `,
    image: ({ href, text }) => link(href, escape(text || href)),
    link({ href, tokens }) {
      return link(href, this.parser.parseInline(tokens));
    },
    code({ text, lang, raw, codeBlockStyle }) {
      const name = /^[\w+#.-]+/.exec(lang ?? "")?.[0] ?? "";
      const caption = `<figcaption><span>${escape(name || "text")}</span><button type="button">Copy</button></figcaption>`;
      const end = raw.endsWith("\n") && !codeBlockStyle ? "\n" : ""; // what follows a cut begins a line
      const language = name && ` class="language-${escape(name)}"`;
      return `<figure class="code">${caption}<pre tabindex="0"><code${language}>${escape(text)}${end}</code></pre></figure>`;
    },
    table(token) {
      const cells = (row, name) =>
        row.map(({ tokens }, k) => {
          const align = token.align[k] ? ` align="${token.align[k]}"` : "";
          return `<${name}${align}>${this.parser.parseInline(tokens)}</${name}>`;
        });
      const rows = token.rows.map((row) => `<tr>${cells(row, "td").join("")}</tr>`);
      const head = `<thead><tr>${cells(token.header, "th").join("")}</tr></thead>`;
      return `<div class="table" tabindex="0"><table>${head}<tbody>${rows.join("")}</tbody></table></div>`;
    },
  },
});

/** marked's lexer, with Rule 2, and with the link definitions of earlier pieces. */
class BoundedLexer extends Lexer {
  #depth = 0;

  constructor(links) {
    super(markdown.defaults);
    Object.assign(this.tokens.links, links);
  }

  blockTokens(source, tokens = [], ...rest) {
    if (this.#depth >= DEEPEST) return addText(tokens, source, { tokens: this.inline(source) });
    return this.#nested(() => super.blockTokens(source, tokens, ...rest));
  }

  inlineTokens(source, tokens = []) {
    if (this.#depth >= DEEPEST || endOfMarks(source) < source.length) return addText(tokens, source);
    return this.#nested(() => super.inlineTokens(source, tokens));
  }

  #nested(parse) {
    this.#depth += 1;
    try {
      return parse();
    } finally {
      this.#depth -= 1;
    }
  }
}

function addText(tokens, text, more) {
  tokens.push({ type: "text", raw: text, text, escaped: false, ...more });
  return tokens;
}

/** The index at which a text has as many marks as are parsed. */
export function endOfMarks(text) {
  let marks = 0;
  for (const { index } of text.matchAll(MARKS)) if (++marks > MOST_MARKS) return index;
  return text.length;
}

/** The tokens of a piece, and the link definitions in it; null where it cannot be parsed. */
export function parse(source, links = {}) {
  try {
    return new BoundedLexer(links).lex(source);
  } catch {
    return null;
  }
}

/** The nodes of tokens of `parse`; null where they cannot be rendered. */
export function render(tokens) {
  try {
    const { childNodes } = DOMPurify.sanitize(markdown.parser(tokens), SANITIZED);
    return [...childNodes].filter((node) => node.nodeType !== Node.TEXT_NODE || node.data.trim());
  } catch {
    return null;
  }
}

/** The nodes of a source that is shown as it is. */
export const plain = (source) => (source.trim() ? [element("p", { className: "plain" }, source.trimEnd())] : []);

/** The labels to which a source may refer, as marked writes them. */
export const labelsIn = (source) =>
  Array.from(source.matchAll(/\[((?:[^[\]\\]|\\.)+)\]/g), ([, label]) => label.toLowerCase().replace(/\s+/g, " "));
