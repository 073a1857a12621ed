/* <live-text>: the text of a generation while it is written, by the page's own reader (tailrace.js).
 *
 * One text node grows: 50,000 tokens are one node, and a frame of the screen adds what has come since the last one. */

import { el } from "./dom.js";
import { count } from "./format.js";
import { follow } from "./tailrace.js";

const HIDDEN_MS = 1000;

class LiveText extends HTMLElement {
  #reading = null;
  #pending = "";
  #frame = 0;
  #node = document.createTextNode("");
  #other = [];
  #pre = el("pre", { tabIndex: 0, role: "region", "aria-label": "Text" }, this.#node);
  #state = el("span", { role: "status" });
  #size = el("span");

  /** Reads the log. `onRestart()` is called where another attempt starts over, `onEnd()` with the end. */
  read(id, { onRestart, onEnd }) {
    this.replaceChildren(el("div", { class: "head" }, this.#state, this.#size), this.#pre);
    this.#reading = follow(`/v1/admin/generations/${id}/events`, {
      hiddenMs: HIDDEN_MS,
      onEvent: (kind, data) => this.#apply(kind, data, onRestart, onEnd),
      onState: (state, { message, reason }) => this.#show(state, message ?? reason),
    });
  }

  disconnectedCallback() {
    this.#reading?.close();
    cancelAnimationFrame(this.#frame);
  }

  #apply(kind, data, onRestart, onEnd) {
    if ((kind === "text" || kind === "refusal") && !data.choice) this.#pending += data.text;
    else if (kind === "restarted") {
      this.#node.data = this.#pending = "";
      onRestart?.();
    } else if (kind === "item_opened" && data.type !== "text") this.#other.push(data.type);
    else if (kind === "done") onEnd?.();
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#frame = 0;
    const isAtEnd = this.#pre.scrollTop + this.#pre.clientHeight >= this.#pre.scrollHeight - 8;
    this.#node.appendData(this.#pending);
    this.#pending = "";
    const more = this.#other.length ? `, and ${this.#other.length} other items: ${[...new Set(this.#other)].join(", ")}` : "";
    this.#size.textContent = `${count(this.#node.length)} characters${more}`;
    if (isAtEnd && this.#reading) this.#pre.scrollTop = this.#pre.scrollHeight;
  }

  #show(state, detail) {
    const words = { connecting: "connecting", open: "live", reconnecting: "reconnecting", paused: "paused", done: "complete", gone: "gone", failed: "cannot be read" };
    this.#state.textContent = words[state] + (detail && state !== "done" ? `: ${detail}` : "");
    if (state === "done") {
      this.#draw();
      this.#pre.scrollTop = 0;
    }
  }

  /** Shows the place where the text was so long, in UTF-16 units. */
  scrollToOffset(offset) {
    if (!this.#node.length) return;
    const range = document.createRange();
    const start = Math.max(0, Math.min(offset, this.#node.length - 1));
    range.setStart(this.#node, Math.max(0, start - 1));
    range.setEnd(this.#node, Math.min(this.#node.length, start + 24));
    if (CSS.highlights) CSS.highlights.set("gap", new Highlight(range));
    const there = range.getBoundingClientRect();
    const here = this.#pre.getBoundingClientRect();
    this.#pre.scrollTop += there.top - here.top - this.#pre.clientHeight / 3;
    this.scrollIntoView({ block: "nearest" });
  }
}

customElements.define("live-text", LiveText);
