/* Messages on the screen, and the view of an answer that grows.
 *
 * Rule 1: Events only change the `Output`. Once per frame the view draws what the output has beyond the screen: a
 *         burst of events costs one frame, and a token costs the same at the end of a long answer as at its start.
 * Rule 2: An answer that starts over is overwritten in place. The earlier text stays, faded, below the new one, which
 *         covers it from the top; it is removed when the new one has reached its end. So nothing jumps.
 */

import { button, element } from "/dom.js";
import { Prose, renderWhole } from "/prose.js";

const LONG_PROMPT = 1_200; // characters or
const LONG_PROMPT_LINES = 12; // lines, from which on a question is collapsed

/** A message's content as text; a part that is not text is shown as its type. */
export function contentText(content) {
  if (!Array.isArray(content)) return content ?? "";
  return content.map((part) => part.text ?? part.refusal ?? `[${part.type}]`).join("\n");
}

const LABELS = { user: "You", assistant: "Answer" };

/** The element of one message of a request. */
export function messageElement({ role, content, tool_calls: calls = [] }) {
  const message = element("article", { className: "message" });
  message.dataset.role = role === "developer" ? "system" : role;
  message.setAttribute("aria-label", LABELS[role] ?? role);
  const text = contentText(content);
  if (role === "assistant") message.append(renderWhole(text, "text prose"));
  else message.append(element("div", { className: "text" }, text), ...collapse(message, text));
  if (calls?.length) message.append(element("div", { className: "calls" }, ...calls.map(callElement)));
  return message;
}

/** A long question shows its first lines, and a button. */
function collapse(message, text) {
  if (text.length < LONG_PROMPT && text.split("\n", LONG_PROMPT_LINES).length < LONG_PROMPT_LINES) return [];
  message.dataset.collapsed = "";
  const more = button("Show more", () => {
    const isCollapsed = message.toggleAttribute("data-collapsed");
    more.textContent = isCollapsed ? "Show more" : "Show less";
    more.setAttribute("aria-expanded", String(!isCollapsed));
  });
  more.className = "more";
  more.setAttribute("aria-expanded", "false");
  return [more];
}

function callElement({ function: called, custom }) {
  const body = element("pre", { tabIndex: 0 }, called?.arguments ?? custom?.input ?? "");
  return element("div", { className: "call" }, element("b", {}, called?.name ?? custom?.name ?? ""), body);
}

/** The view of an output that may still grow: reasoning first, then the text, then tool calls. */
export class AnswerView {
  #drawn = new Map(); // item → {length, write, finish}
  #restarts = 0;
  #layer = null; // what is being written
  #earlier = null; // what it overwrites

  constructor() {
    this.message = element("article", { className: "message" });
    this.message.dataset.role = "assistant";
    this.message.setAttribute("aria-label", LABELS.assistant);
    this.layers = this.message.appendChild(element("div", { className: "layers" }));
    this.#begin();
  }

  /** Whether the earlier text is still being overwritten, and how far: from 0 to 1; null where there is none. */
  get overwritten() {
    return this.#earlier ? Math.min(1, this.#layer.offsetHeight / this.#earlier.offsetHeight) : null;
  }

  /** The place at which the answer is being written, in the viewport's pixels. */
  get writingAt() {
    return this.#layer.getBoundingClientRect().bottom;
  }

  /** Draws the part of the output that is not drawn yet. */
  draw(output, live) {
    this.message.toggleAttribute("data-live", live);
    this.message.setAttribute("aria-busy", String(live));
    if (output.restarts !== this.#restarts) this.#restart(output.restarts);
    for (const item of output.items) this.#drawItem(item, live);
    const thinking = live && output.items.at(-1)?.type === "reasoning";
    this.#layer.toggleAttribute("data-thinking", thinking);
    const summary = this.#layer.querySelector("summary");
    const label = thinking ? "Thinking…" : "Reasoning";
    if (summary && summary.textContent !== label) summary.textContent = label;
    if (this.#earlier && (!live || this.#layer.offsetHeight >= this.#earlier.offsetHeight)) {
      this.#earlier.remove();
      this.#earlier = null;
    }
  }

  #drawItem(item, live) {
    const text = (item.type === "call" ? item.arguments : item.text) ?? "";
    const drawn = this.#drawn.get(item) ?? { length: 0, isFinished: false, ...this.#addItem(item) };
    this.#drawn.set(item, drawn);
    if (text.length > drawn.length) drawn.write(text.slice(drawn.length));
    drawn.length = text.length;
    if (drawn.isFinished || (live && !item.isClosed)) return;
    drawn.isFinished = true;
    drawn.finish?.();
  }

  #begin() {
    this.#layer = this.layers.appendChild(element("div", { className: "layer" }));
    this.text = this.#layer.appendChild(element("div", { className: "text" }));
    this.calls = element("div", { className: "calls" });
  }

  /** Begins a new layer on top of the earlier text. Of two earlier ones, the taller stays. */
  #restart(restarts) {
    this.#restarts = restarts;
    this.#drawn.clear();
    const previous = this.#layer;
    if (this.#earlier && previous.offsetHeight < this.#earlier.offsetHeight) previous.remove();
    else {
      this.#earlier?.remove();
      this.#earlier = previous;
      previous.classList.add("earlier");
      previous.inert = true;
      previous.setAttribute("aria-hidden", "true");
      previous.querySelector(".text").className = "";
    }
    this.#begin();
  }

  /** Adds an item's elements; returns the functions that append text to them, and that end them. */
  #addItem({ type, name, choice, further }) {
    if (type === "other") return { write() {} };
    if (type === "reasoning") {
      if (further) this.reasoning.append("\n\n");
      return { write: appending(this.reasoning) };
    }
    if (type === "call") {
      this.#layer.append(this.calls);
      const call = this.calls.appendChild(callElement({ function: { name } }));
      return { write: appending(call.lastChild) };
    }
    if (choice) this.text.append(element("h5", {}, `Choice ${choice + 1}`));
    const part = this.text.appendChild(element("div", { className: type === "refusal" ? "refusal" : "prose" }));
    if (type === "refusal") return { write: appending(part) };
    const prose = new Prose(part);
    return { write: (text) => prose.push(text), finish: () => prose.finish() };
  }

  get reasoning() {
    const existing = this.#layer.querySelector(".reasoning > div");
    if (existing) return existing;
    const body = element("div");
    this.text.before(element("details", { className: "reasoning" }, element("summary", {}, "Reasoning"), body));
    return body;
  }
}

const appending = (parent) => (text) => parent.append(text);
