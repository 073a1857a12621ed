/* Markdown, rendered while it arrives.
 *
 * Rule 1: A complete block is parsed once, so a token costs the same in a long answer as in a short one. Only the last
 *         block is parsed again when more of it arrives; a block without an end is cut (cuts.js).
 * Rule 2: A streamed text looks like the whole: a block is complete when a line of which the kind is known begins the
 *         next one. The kind of the last line is known when the line is: `***` may become a rule or bold text, which
 *         ends a paragraph or continues it. `known` lists the exceptions.
 * Rule 3: What is on the screen is changed, never replaced: a selection and a scrolled code block survive a token.
 * Rule 4: A link definition follows the text that refers to it. The blocks that do are drawn again when it is complete.
 */

import { highlight } from "/code.js";
import { cutOf, isLong, joined, LONGEST_BLOCK, STEP } from "/cuts.js";
import { element } from "/dom.js";
import { mended } from "/incomplete.js";
import { labelsIn, parse, plain, render } from "/markdown.js";
import { exclude, morphAll } from "/morph.js";

const REDRAW_MS = 20; // of a frame, for blocks that are drawn again
const LONG_LINE = 500; // characters, by which the kind of a line is known
const AFTER_EMPTY_LINE = /(?:^|\n)[ \t]*\n$/;
const NO_ITEM = /^\*{0,3}[^\s\d*+-]/; // the start of a line that is no item and within none

/** The length of the source's lines of which the kind is known: all but the last one, unless it is long, or ends the
 *  block above it: after an empty line only an item or an indented line continues one. */
function known(source) {
  const start = source.lastIndexOf("\n") + 1;
  if (source.length - start > LONG_LINE) return source.length;
  const isStart = NO_ITEM.test(source.slice(start, start + 4)) && AFTER_EMPTY_LINE.test(source.slice(0, start));
  return isStart ? source.length : start;
}

/** Some blocks, or a part of one, that are parsed by themselves. */
class Part {
  isPlain = false; // marked failed on it
  #nodes = new Map(); // parent → the nodes in it

  /** `seam`: what `cutOf` returned where the part continues the block before it, and the character `before` the cut;
   *  `nodes`: those that an earlier part drew for it. */
  constructor(root, seam = null, nodes = []) {
    this.root = root;
    this.#nodes.set(root, nodes);
    this.seam = seam;
    this.prefix = seam?.prefix ?? "";
    this.block = seam ? root.lastElementChild : null;
    if (seam) seam.inner = this.block?.lastElementChild;
    if (seam?.kind === "open blockquote" && seam.inner?.matches("figure")) seam.inner.querySelector("code").append("\n");
  }

  /** Draws it. Returns the nodes that an earlier drawing had after it, which are removed unless `keepsRest`. */
  draw(tokens, source, { keepsRest = false } = {}) {
    const rendered = tokens && render(tokens);
    this.isPlain = !rendered;
    const fresh = rendered ?? plain(source);
    const wanted = new Map([...this.#nodes.keys()].map((parent) => [parent, []]));
    if (this.seam) for (const [parent, nodes] of joined(this.block, fresh, this.seam)) wanted.set(parent, nodes);
    wanted.set(this.root, fresh);
    const after = keepsRest ? this.#nodes.get(this.root).splice(fresh.length) : [];
    for (const [parent, nodes] of wanted) {
      const drawn = morphAll(parent, this.#nodes.get(parent) ?? [], nodes);
      if (parent !== this.root) drawn.forEach(exclude);
      this.#nodes.set(parent, drawn);
    }
    return after;
  }

  /** Highlights its code. */
  seal() {
    for (const [parent, nodes] of this.#nodes) {
      const roots = parent === this.root ? nodes : [parent];
      roots.filter((node) => node.nodeType === Node.ELEMENT_NODE).forEach(highlight);
    }
  }
}

/** Renders pushed Markdown under `root`. */
export class Prose {
  #rest = ""; // the source of the blocks that may still change
  #known = 0; // `known(#rest)`, up to the start of its last line, when no block was complete
  #part; // their nodes
  #links = Object.create(null); // the definitions that are complete, by label
  #referring = new Map(); // part → its source and the labels in it that are not defined yet
  #stale = new Set(); // the parts of these with a label that is defined now
  #redrawing = 0;

  constructor(root) {
    this.root = root;
    this.#part = new Part(root);
  }

  push(text) {
    for (let at = 0; at < text.length; at += STEP) {
      this.#rest = (this.#rest + text.slice(at, at + STEP)).replace(/\r\n|\r(?!\n|$)/g, "\n");
      this.#draw({ isMore: at + STEP < text.length });
    }
    this.#redraw();
  }

  /** Draws what is left as it is: nothing follows. */
  finish() {
    this.#rest = this.#rest.replace(/\r$/, "\n");
    this.#seal(this.#rest.length, null);
    this.#redraw();
    highlight(this.root);
  }

  /** Seals the blocks that are complete, cuts the last one if it is long, and draws what is left unless more follows. */
  #draw({ isMore }) {
    for (;;) {
      const cut = this.#part.isPlain ? this.#cutPlain() : this.#cut();
      if (cut) this.#seal(cut.at, cut);
      else if (isMore) return;
      else return this.#part.draw(this.#parse(mended(this.#rest, this.#part.prefix)), this.#rest);
    }
  }

  #parse(source) {
    return this.#part.isPlain ? null : parse(this.#part.prefix + source, this.#links);
  }

  #cut() {
    const source = this.#rest.slice(0, known(this.#rest));
    const lines = Math.min(source.length, this.#rest.lastIndexOf("\n") + 2);
    if (lines === this.#known && !isLong(source)) return null;
    this.#known = lines;
    const tokens = this.#parse(source);
    this.#part.isPlain = !tokens;
    return tokens ? this.#cutTokens(tokens, source) : this.#cutPlain();
  }

  #cutTokens(tokens, source) {
    const { prefix } = this.#part;
    const last = tokens.findLastIndex(({ type }) => type !== "space");
    if (last < 0) return source.length > STEP ? { at: source.length } : null;
    const length = tokens.slice(0, last).reduce((sum, { raw }) => sum + raw.length, 0);
    if (length || !tokens[last].raw) {
      const complete = Object.assign(tokens.slice(0, last), { links: tokens.links });
      const at = Math.max(0, length - prefix.length);
      return { at, tokens: at && source.endsWith("\n") ? complete : null };
    }
    return cutOf(tokens[last], source, prefix);
  }

  /** Text that marked cannot parse ends at an empty line. */
  #cutPlain() {
    const at = this.#rest.indexOf("\n\n", 1) + 2;
    return at > 1 ? { at } : this.#rest.length > LONGEST_BLOCK ? { at: LONGEST_BLOCK } : null;
  }

  /** Draws the source before a cut for the last time; the rest becomes a part of its own.
   *
   *  `cut.tokens`: those of the source if the lines after it are complete. The source alone may have others: the second
   *  row of a table decides what the first is, and a definition is used when its line is complete. */
  #seal(at, cut) {
    const part = this.#part;
    const source = this.#rest.slice(0, at);
    const tokens = cut?.tokens ?? this.#parse(source);
    const after = part.draw(tokens, source, { keepsRest: !cut?.kind && at < this.#rest.length });
    part.seal();
    this.#define(tokens?.links ?? {});
    const labels = labelsIn(source).filter((label) => !(label in this.#links));
    if (labels.length) this.#referring.set(part, { source, labels });
    this.#rest = this.#rest.slice(at);
    this.#known = 0;
    this.#part = new Part(this.root, cut?.kind ? { ...cut, before: source.at(-1) } : null, after);
  }

  #define(links) {
    const labels = new Set(Object.keys(links).filter((label) => !(label in this.#links)));
    if (!labels.size) return;
    this.#links = Object.assign(Object.create(null), links, this.#links);
    for (const [part, referring] of this.#referring) {
      if (referring.labels.some((label) => labels.has(label))) this.#stale.add(part);
    }
  }

  /** Draws parts again whose links are defined now, in each frame as many as it has time for. */
  #redraw() {
    const end = performance.now() + REDRAW_MS;
    clearTimeout(this.#redrawing);
    for (const part of this.#stale) {
      const { source } = this.#referring.get(part);
      this.#stale.delete(part);
      part.draw(parse(part.prefix + source, this.#links), source);
      part.seal();
      if (performance.now() > end) return (this.#redrawing = setTimeout(() => this.#redraw()));
    }
  }
}

/** The whole of a text that does not grow any more. */
export function renderWhole(text, className = "prose") {
  const root = element("div", { className });
  const prose = new Prose(root);
  prose.push(text);
  prose.finish();
  return root;
}
