/* The chat page. It shows one conversation; the last answer is a generation whose id is in the URL.
 *
 * Rule 1: The URL is the whole state. After a reload, after Back or in another tab, the conversation is read from the
 *         generation's JSON and the answer from its log. The browser stores only the model's name and, until the tab
 *         closes, an API key.
 * Rule 2: Events only change the `Output`. Once per frame, the page draws what the output has beyond the screen: a
 *         burst of events costs one frame, and a token costs the same at the end of a long answer as at its start.
 */

import { element, inline, Prose } from "/markdown.js";
import { cancel, follow, generate, get, getStatus, Output, randomKey } from "/tailrace.js";

const POLL_MS = 2_000;
const QUIET_MS = 4_000; // after this much silence, the page asks whether a worker is running

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------------------------------------------------- messages

/** A message's content as text; a part that is not text is shown as its type. */
function contentText(content) {
  if (!Array.isArray(content)) return content ?? "";
  return content.map((part) => part.text ?? part.refusal ?? `[${part.type}]`).join("\n");
}

function addMessage(role, text = "") {
  const message = element("article", { className: "message" });
  message.dataset.role = role === "developer" ? "system" : role;
  message.setAttribute("aria-label", { user: "You", assistant: "Answer" }[role] ?? role);
  const body = message.appendChild(element("div", { className: role === "assistant" ? "text prose" : "text" }));
  if (role === "assistant" && text) new Prose(body).push(text);
  else body.append(text);
  return $("conversation").appendChild(message);
}

/** The view of an output that may still grow: reasoning first, then the text, then tool calls. */
class AnswerView {
  #drawn = new Map(); // item → {length, write}
  #restarts = 0;

  constructor() {
    this.message = addMessage("assistant");
    this.text = this.message.querySelector(".text");
    this.calls = element("div", { className: "calls" });
  }

  /** Draws the part of the output that is not drawn yet. */
  draw(output, live) {
    this.message.toggleAttribute("data-live", live);
    this.message.setAttribute("aria-busy", String(live));
    if (output.restarts !== this.#restarts) this.#clear(output.restarts);
    for (const item of output.items) {
      const text = (item.type === "call" ? item.arguments : item.text) ?? "";
      const drawn = this.#drawn.get(item) ?? { length: 0, write: this.#addItem(item) };
      this.#drawn.set(item, drawn);
      if (text.length > drawn.length) drawn.write(text.slice(drawn.length));
      drawn.length = text.length;
    }
    const thinking = live && output.items.at(-1)?.type === "reasoning";
    this.message.toggleAttribute("data-thinking", thinking);
    const summary = this.message.querySelector("summary");
    if (summary) summary.textContent = thinking ? "Thinking…" : "Reasoning";
  }

  #clear(restarts) {
    this.#restarts = restarts;
    this.#drawn.clear();
    this.text.replaceChildren();
    this.calls.remove();
    this.calls.replaceChildren();
    this.message.querySelectorAll(".reasoning, .note").forEach((part) => part.remove());
    this.text.before(element("p", { className: "note" }, "The answer was interrupted and has been restarted."));
  }

  /** Adds an item's elements; returns the function that appends text to them. */
  #addItem({ type, name, choice }) {
    if (type === "reasoning") return (text) => this.reasoning.append(text);
    if (type === "call") {
      const body = element("pre");
      this.message.append(this.calls);
      this.calls.append(element("div", { className: "call" }, element("b", {}, name ?? ""), body));
      return (text) => body.append(text);
    }
    if (choice) this.text.append(element("h5", {}, `Choice ${choice + 1}`));
    const part = this.text.appendChild(element("div", { className: type === "refusal" ? "refusal" : "prose" }));
    if (type === "refusal") return (text) => part.append(text);
    const prose = new Prose(part);
    return (text) => prose.push(text);
  }

  get reasoning() {
    const existing = this.message.querySelector(".reasoning > div");
    if (existing) return existing;
    const body = element("div");
    this.text.before(element("details", { className: "reasoning" }, element("summary", {}, "Reasoning"), body));
    return body;
  }
}

// ------------------------------------------------------------------------------------------------------------ status

const GONE = {
  deleted: "This answer was deleted.",
  expired: "This answer has expired.",
  lost: "This answer was lost. Please ask again.",
};

const TICKET_REJECTED =
  "The server rejects the ticket that it has just issued. Set the same `TAILRACE_TICKET_SECRET` on every frontend.";

function seconds(s) {
  if (s >= 100) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${s.toFixed(s < 1 ? 2 : s < 10 ? 1 : 0)} s`;
}

function endStatus({ status, finish, usage, error, timings }) {
  const tokens = usage?.completion_tokens ?? usage?.output_tokens;
  const figures = [
    tokens !== undefined && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`,
    timings?.first_token !== undefined && `first token ${seconds(timings.first_token)}`,
    timings?.total !== undefined && `total ${seconds(timings.total)}`,
  ];
  const withFigures = (label) => [label, ...figures.filter(Boolean)].join(" · ");
  if (status === "completed") return ["done", withFigures("Done")];
  if (status === "cancelled") return ["stopped", withFigures("Stopped")];
  if (status === "failed") return ["failed", error?.message || "The generation failed."];
  const atLimit = finish?.some((choice) => choice.finish_reason === "length");
  return ["incomplete", withFigures(error?.message ?? (atLimit ? "Cut off at the token limit" : "Incomplete"))];
}

/** The status line of a turn: a state and a sentence. */
function statusOf({ output, connection, detail, generation, lastEventAt, stopping }) {
  if (output.done) return endStatus(output.done);
  if (connection === "gone") return ["gone", GONE[detail.reason] ?? detail.message ?? GONE.lost];
  if (connection === "failed") return ["failed", detail.message];
  if (connection === "sending") {
    return navigator.onLine ? ["sending", "Sending…"] : ["offline", "You are offline. Waiting to send…"];
  }
  if (connection !== "open" && !navigator.onLine) {
    return ["offline", "You are offline. The answer is still being generated."];
  }
  if (connection === "reconnecting") return ["reconnecting", "Reconnecting… The answer is still being generated."];
  if (connection === "connecting") return ["connecting", "Connecting…"];
  if (stopping) return ["stopping", "Stopping…"];
  const queued = output.status === "queued";
  const quiet = Date.now() - lastEventAt > QUIET_MS;
  if ((queued || quiet) && generation?.worker_running === false) {
    return ["no-worker", "No worker is running. Start one to continue: `tailrace worker`"];
  }
  if (queued) {
    const position = generation?.queue_position;
    return ["queued", position ? `Waiting in the queue: position ${position}` : "Waiting in the queue…"];
  }
  if (output.items.length === 0) return ["started", "A worker has started. Waiting for the first token…"];
  return ["streaming", quiet ? "Streaming. Waiting for the next token…" : "Streaming"];
}

let shownStatus = "";

function showStatus([state, text]) {
  if (shownStatus === state + text) return; // a screen reader announces every change of the element
  shownStatus = state + text;
  const status = $("status");
  status.dataset.state = state;
  status.replaceChildren();
  if (text) inline(status.appendChild(element("span")), text);
}

// ------------------------------------------------------------------------------------------------------------- turns

let shown = null; // the turn on the screen; null on an empty page
let notice = null; // the status line after a failed request; it replaces the turn's
let retryWithKey = () => {}; // repeats the request that needed an API key
let unsent = { body: "", idempotencyKey: "" }; // the same body sent again is the same request

const apiKey = () => sessionStorage.getItem("tailrace.key") ?? undefined;
const isLive = (turn) => Boolean(turn && !notice && !turn.output.done && !["gone", "failed"].includes(turn.connection));

function leaveTurn() {
  shown?.lifetime.abort();
  shown = notice = null;
  $("unlock").hidden = true;
}

function beginTurn(connection) {
  leaveTurn();
  shown = {
    lifetime: new AbortController(), // aborted when the page shows something else
    output: new Output(),
    answer: null, // its view
    id: null,
    messages: [],
    connection,
    detail: {},
    generation: null, // the generation's JSON when it was last fetched
    lastEventAt: Date.now(),
    stopping: false,
  };
  return shown;
}

const callOptions = (turn, more) => ({ key: apiKey(), signal: turn.lifetime.signal, ...more });

/** Options of a request that is retried without limit, with the status line showing it. */
const persistentCallOptions = (turn) =>
  callOptions(turn, {
    retryForMs: Infinity,
    onRetry() {
      turn.connection = "reconnecting";
      refresh();
    },
  });

/** Shows a generation by its id: the conversation in its request, and its answer, finished or still growing. */
async function showGeneration(id) {
  const turn = beginTurn("connecting");
  $("conversation").replaceChildren();
  pinned = true;
  refresh();
  try {
    const generation = await get(id, persistentCallOptions(turn));
    turn.messages = generation.request?.messages ?? [];
    for (const { role, content, tool_calls: calls } of turn.messages) {
      addMessage(role, contentText(content) || (calls ?? []).map((call) => `[${call.function?.name}]`).join("\n"));
    }
    $("model").value = generation.model;
    turn.answer = new AnswerView();
    attach(turn, generation);
  } catch (error) {
    if (!turn.lifetime.signal.aborted) showError(error, () => showGeneration(id));
  }
}

async function ask(text) {
  const previous = shown;
  const messages = [...transcript(previous), { role: "user", content: text }];
  const body = { model: $("model").value.trim() || "demo", messages };
  const encoded = JSON.stringify(body);
  if (unsent.body !== encoded) unsent = { body: encoded, idempotencyKey: randomKey() };
  const turn = beginTurn("sending");
  turn.messages = messages;
  const question = addMessage("user", text);
  turn.answer = new AnswerView();
  pinned = true;
  refresh();
  try {
    const { idempotencyKey } = unsent;
    const generation = await generate(body, callOptions(turn, { idempotencyKey, retryForMs: 60_000 }));
    unsent = { body: "" };
    history.pushState(null, "", `?id=${generation.id}`);
    attach(turn, generation);
  } catch (error) {
    if (turn.lifetime.signal.aborted) return;
    question.remove();
    turn.answer.message.remove();
    shown = previous; // the conversation is as before, and the text is back in the field to be sent again
    $("ask").value ||= text;
    fitInput();
    showError(error, send);
  }
}

function transcript(turn) {
  if (!turn) return [];
  const content = turn.output.text;
  return content ? [...turn.messages, { role: "assistant", content }] : turn.messages;
}

/** Gives the turn its generation: takes a finished output from the JSON, follows the log of an unfinished one. */
function attach(turn, generation) {
  turn.id = generation.id;
  turn.generation = generation;
  if (generation.finish) {
    turn.output = Output.of(generation);
  } else {
    readEvents(turn, generation.events_url);
    pollWhileQuiet(turn);
  }
  refresh();
}

function readEvents(turn, url, lastEventId, { isRenewed = false } = {}) {
  turn.connection = "connecting";
  let mayRenew = !isRenewed; // a new ticket that is rejected at once is not renewed: that would never end
  const reading = follow(url, {
    lastEventId,
    onEvent(kind, data) {
      mayRenew = true;
      turn.lastEventAt = Date.now();
      turn.output.apply(kind, data);
      refresh();
    },
    onState(state, detail) {
      if (state === "open") mayRenew = true;
      if (state === "failed" && detail.status === 401) {
        if (mayRenew) return renewTicket(turn, reading.lastEventId());
        detail = { ...detail, message: TICKET_REJECTED };
      }
      if (state === "done" && !turn.output.done) return showGeneration(turn.id); // it ended before the log was opened
      Object.assign(turn, { connection: state === "paused" ? "reconnecting" : state, detail });
      refresh();
    },
  });
  turn.lifetime.signal.addEventListener("abort", reading.close);
}

/** The ticket in the events' URL is short-lived; the generation's JSON has a new one. */
async function renewTicket(turn, lastEventId) {
  try {
    const { events_url: url } = await getStatus(turn.id, persistentCallOptions(turn));
    readEvents(turn, url, lastEventId, { isRenewed: true });
  } catch (error) {
    if (!turn.lifetime.signal.aborted) showError(error, () => renewTicket(turn, lastEventId));
  }
}

/** While no events arrive, asks for the two facts that are not events: the place in the queue, and whether a worker is
 * running. All else is streamed. */
async function pollWhileQuiet(turn) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (turn.lifetime.signal.aborted || !isLive(turn)) return;
    if (turn.output.status !== "queued" && Date.now() - turn.lastEventAt < QUIET_MS) continue;
    if (document.hidden || turn.connection !== "open") continue;
    turn.generation = await getStatus(turn.id, callOptions(turn, { retryForMs: 0 })).catch(() => turn.generation);
    refresh();
  }
}

async function stop() {
  const turn = shown;
  turn.stopping = true;
  refresh();
  try {
    await cancel(turn.id, callOptions(turn));
  } catch {
    turn.stopping = false; // the Stop button is enabled again
    refresh();
  }
}

/** Shows why a request failed. If it needs an API key, asks for one and then calls `retry`. */
function showError(error, retry) {
  if (error.status === 401) {
    notice = ["locked", apiKey() ? error.message : ""];
    retryWithKey = retry;
    $("unlock").hidden = false;
    $("key").focus();
  } else notice = [error.status === 410 ? "gone" : "failed", error.message];
  refresh();
}

// -------------------------------------------------------------------------------------------------------------- page

let frame = 0;
let pinned = true; // to the bottom, until the user scrolls up
let lastTop = 0;

function refresh() {
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  const live = isLive(shown);
  shown?.answer?.draw(shown.output, live);
  showStatus(notice ?? (shown ? statusOf(shown) : ["idle", ""]));
  $("empty").hidden = live || $("conversation").hasChildNodes();
  $("send").hidden = live && Boolean(shown.id);
  $("send").disabled = live;
  $("stop").hidden = !$("send").hidden;
  $("stop").disabled = Boolean(shown?.stopping);
  $("copy").hidden = !shown?.id;
  $("new").hidden = !shown;
  const first = shown?.messages.find((message) => message.role === "user");
  document.title = first ? `${contentText(first.content).slice(0, 60)} · Tailrace` : "Tailrace";
  if (pinned && shown) scrollTo(0, document.documentElement.scrollHeight);
  $("latest").hidden = pinned || !live;
}

function scrolled() {
  const page = document.documentElement;
  if (page.scrollHeight - innerHeight - scrollY < 8) pinned = true;
  else if (scrollY < lastTop) pinned = false;
  lastTop = scrollY;
  if (pinned) $("latest").hidden = true;
}

function send() {
  const text = $("ask").value.trim();
  if (!text || isLive(shown)) return;
  localStorage.setItem("tailrace.model", $("model").value.trim() || "demo");
  $("ask").value = "";
  fitInput();
  if (matchMedia("(pointer: coarse)").matches) $("ask").blur(); // the on-screen keyboard covers the answer
  ask(text);
}

function fitInput() {
  if (CSS.supports("field-sizing", "content")) return;
  $("ask").style.height = "auto";
  $("ask").style.height = `${$("ask").scrollHeight}px`;
}

function showFromURL() {
  const id = new URLSearchParams(location.search).get("id");
  if (id) return showGeneration(id);
  leaveTurn();
  $("conversation").replaceChildren();
  $("model").value = localStorage.getItem("tailrace.model") || "demo";
  refresh();
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    $("copy").textContent = "Copied";
    setTimeout(() => ($("copy").textContent = "Copy link"), 1_500);
  } catch {
    prompt("Copy the link to this answer:", location.href); // browsers allow the clipboard on https and loopback only
  }
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("ask").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  send();
});
$("ask").addEventListener("input", fitInput);
$("stop").addEventListener("click", stop);
$("copy").addEventListener("click", copyLink);
$("latest").addEventListener("click", () => {
  pinned = true;
  refresh();
});
$("new").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", "/");
  showFromURL();
  $("ask").focus();
});
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("tailrace.key", $("key").value.trim());
  $("unlock").hidden = true;
  notice = null;
  retryWithKey();
});
$("examples").addEventListener("click", (event) => {
  if (!event.target.matches("button")) return;
  $("ask").value = event.target.textContent;
  send();
});
for (const name of ["online", "offline"]) addEventListener(name, refresh);
addEventListener("scroll", scrolled, { passive: true });
addEventListener("resize", refresh);
addEventListener("popstate", showFromURL);
history.scrollRestoration = "manual";
showFromURL();
