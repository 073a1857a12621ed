/* Where a block that has no end yet is cut, so that a token costs the same in a long block as in a short one.
 *
 * Code, quotes and tables are cut at a line, lists at an item, paragraphs at a word. The rest is parsed with a prefix,
 * with which it is what it was: the line that opens the code, the head of the table.
 */

import { isInCode } from "/incomplete.js";
import { endOfMarks } from "/markdown.js";

const LONG_BLOCK = 4_000; // characters from which on a block is cut where that does not show
export const LONGEST_BLOCK = 8_000; // and from which on it is cut anywhere: a line or an item of that length is no text
const WORD = ","; // keeps the rest of a paragraph one: "1." at its start is no list. Marks open after punctuation.
const FENCED = /^ {0,3}(`{3,}|~{3,})/;
const QUOTED = /^ {0,3}>/;

/** The first characters of a text that are parsed at once. */
export const STEP = LONG_BLOCK;

/** Whether a source has a length, or a number of marks, from which on a cut is looked for. */
export const isLong = (source) => source.length > STEP || endOfMarks(source) < source.length;

/** The cut in `rest`, the source after `prefix`, which is one block, `token`; null if it is not due.
 *
 * Returns `{at, kind, prefix}`: the length before the cut, and how the rest continues: `kind` is that of the block, or
 * null if the rest is a block of its own. */
export function cutOf(token, rest, prefix) {
  const limit = Math.min(LONG_BLOCK, token.type === "code" ? Infinity : endOfMarks(rest));
  if (rest.length <= limit) return null;
  const cut = CUTS[token.type]?.(token, rest, prefix, limit);
  if (cut?.at > 0 && cut.at < rest.length) return { kind: token.type, prefix: "", ...cut };
  if (rest.length < LONGEST_BLOCK) return null;
  const line = rest.lastIndexOf("\n", LONGEST_BLOCK) + 1;
  return { at: line || characterAt(rest, LONGEST_BLOCK), kind: null, prefix: "" };
}

const CUTS = {
  paragraph: (_, rest, prefix, limit) => ({ at: wordAt(rest, limit), prefix: WORD }),
  heading({ depth, raw }, rest, prefix, limit) {
    const isOneLine = /^ {0,3}#/.test(raw); // one that is underlined is complete
    return isOneLine ? { at: wordAt(rest, limit), prefix: `${"#".repeat(depth)} ${WORD}` } : null;
  },
  code(token, rest, prefix, limit) {
    if (token.codeBlockStyle === "indented") return { at: rest.lastIndexOf("\n    ", limit) + 1 };
    return { at: rest.lastIndexOf("\n", limit - 1) + 1, prefix: prefix || firstLines(rest, 1) };
  },
  table(_, rest, prefix, limit) {
    const head = prefix || firstLines(rest, 2);
    const at = rest.lastIndexOf("\n", limit - 1) + 1;
    return { at: at > head.length - prefix.length ? at : 0, prefix: head };
  },
  list({ items }) {
    return { at: items.slice(0, -2).reduce((sum, item) => sum + item.raw.length, 0) };
  },
  blockquote(token, rest, prefix, limit) {
    const blocks = token.tokens.filter(({ type }) => type !== "space");
    const last = blocks.at(-1);
    if (!last) return null;
    const before = token.tokens.slice(0, token.tokens.lastIndexOf(last)).map(({ raw }) => raw);
    const start = lineAt(prefix + rest, before.join("").split("\n").length - 1) - prefix.length;
    if (start > 0 && QUOTED.test(rest.slice(start))) return { at: start, kind: "blockquote" };
    return { at: quotedLine(rest, limit), kind: "open blockquote", prefix: quotedPrefix(last) };
  },
};

/** What the lines of a quote within its last block need before them. */
function quotedPrefix({ type, raw }) {
  const lines = type === "table" ? 2 : type === "code" && FENCED.test(raw) ? 1 : 0;
  return firstLines(raw, lines).replace(/^/gm, "> ").replace(/> $/, "");
}

/** The last line that begins with `>`, after a character of the first and at `limit` or before. */
function quotedLine(rest, limit) {
  for (let at = limit; at > 0; ) {
    at = rest.lastIndexOf("\n", at - 1);
    if (QUOTED.test(rest.slice(at + 1, at + 6))) return at + 1;
    if (at < 0) break;
  }
  return 0;
}

const firstLines = (text, lines) => text.slice(0, lineAt(text, lines));

/** The index at which a line begins. */
function lineAt(text, line) {
  let at = 0;
  for (let k = 0; k < line; k++) at = text.indexOf("\n", at) + 1 || text.length;
  return at;
}

function wordAt(text, limit) {
  const at = Math.max(text.lastIndexOf(" ", limit - 1), text.lastIndexOf("\n", limit - 1)) + 1;
  return at > limit / 2 ? at : characterAt(text, limit);
}

/** An index at or before `at` that is within no surrogate pair. */
const characterAt = (text, at) => (/[\ud800-\udbff]/.test(text[at - 1]) ? at - 1 : at);

/** Joins what continues a block to the block: the nodes, by the parent to whose end they belong.
 *
 * `last`: the block's element; `fresh`: the nodes of the rest, of which the joined ones are removed; `seam`: the cut's
 * kind and prefix, and the character before it. */
export function joined(last, fresh, seam) {
  const nodes = new Map();
  if (seam.prefix?.endsWith(WORD) && fresh[0]?.className !== "plain") removeWord(fresh[0]);
  if (!last || !fresh[0] || last.localName !== fresh[0].localName) return nodes;
  if (last.localName === "figure") fresh[0].classList.add("continued"); // the style sheet joins it to the one above
  else if (/^(p|h[1-6])$/.test(last.localName)) nodes.set(last, [...jointOf(seam.before), ...fresh.shift().childNodes]);
  else if (last.localName === "blockquote") {
    const children = elements(fresh.shift());
    if (seam.kind === "open blockquote") {
      const inner = joined(seam.inner, children, { kind: null, before: "\n" });
      for (const [parent, each] of inner) nodes.set(parent, each);
    }
    nodes.set(last, children);
  } else if (/^[ou]l$/.test(last.localName)) nodes.set(last, elements(fresh.shift()));
  else if (last.className === "table") nodes.set(last.querySelector("tbody"), elements(fresh.shift().querySelector("tbody")));
  return nodes;
}

const elements = (parent) => [...parent.childNodes].filter((node) => node.nodeType === Node.ELEMENT_NODE);

const jointOf = (before) =>
  before === "\n" ? [document.createElement("br")] : before === " " ? [document.createTextNode(" ")] : [];

function removeWord(node) {
  const text = node && document.createTreeWalker(node, NodeFilter.SHOW_TEXT).nextNode();
  if (text?.data.startsWith(WORD)) text.deleteData(0, WORD.length);
}
