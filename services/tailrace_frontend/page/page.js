/* The chat page: one conversation, whose last answer is a generation, whose id is in the URL.
 *
 * Rule 1: the URL is the whole state. A reload, Back, or another tab gets the conversation from the generation's JSON
 *         and the answer from its log; nothing is kept here but the model's name and, until the tab closes, an API key.
 * Rule 2: events only change the fold (`Output`). Once a frame the page draws what the fold has more than the screen,
 *         so a burst costs one frame, and a long answer costs no more a token than a short one.
 */

import { element, inline, Prose } from "/markdown.js";
import { cancel, follow, generate, get, Output, randomKey } from "/tailrace.js";

const POLL_MS = 2_000;
const QUIET_MS = 4_000; // a stream silent for so long makes one wonder whether a worker is there at all

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------------------------------------------------- messages

/** A message's content as text; what is not text is named. */
function contentText(content) {
  if (!Array.isArray(content)) return content ?? "";
  return content.map((part) => part.text ?? part.refusal ?? `[${part.type}]`).join("\n");
}

function addMessage(role, text = "") {
  const message = element("article", { className: "message" });
  message.dataset.role = role === "developer" ? "system" : role;
  message.setAttribute("aria-label", { user: "You", assistant: "Answer" }[role] ?? role);
  const said = message.appendChild(element("div", { className: role === "assistant" ? "text prose" : "text" }));
  if (role === "assistant" && text) new Prose(said).push(text);
  else said.append(text);
  return $("conversation").appendChild(message);
}

/** An assistant's message as its fold grows: reasoning first, then the text, then calls. */
class Answer {
  #drawn = new Map(); // item → {length, write}
  #restarts = 0;

  constructor() {
    this.message = addMessage("assistant");
    this.text = this.message.querySelector(".text");
    this.calls = element("div", { className: "calls" });
  }

  draw(output, live) {
    this.message.toggleAttribute("data-live", live);
    this.message.setAttribute("aria-busy", String(live));
    if (output.restarts !== this.#restarts) this.#forget(output.restarts);
    for (const item of output.items) {
      const text = (item.type === "call" ? item.arguments : item.text) ?? "";
      const drawn = this.#drawn.get(item) ?? { length: 0, write: this.#begin(item) };
      this.#drawn.set(item, drawn);
      if (text.length > drawn.length) drawn.write(text.slice(drawn.length));
      drawn.length = text.length;
    }
    const thinking = live && output.items.at(-1)?.type === "reasoning";
    this.message.toggleAttribute("data-thinking", thinking);
    const summary = this.message.querySelector("summary");
    if (summary) summary.textContent = thinking ? "Thinking…" : "Reasoning";
  }

  #forget(restarts) {
    this.#restarts = restarts;
    this.#drawn.clear();
    this.text.replaceChildren();
    this.calls.remove();
    this.calls.replaceChildren();
    this.message.querySelectorAll(".reasoning, .note").forEach((part) => part.remove());
    this.text.before(element("p", { className: "note" }, "The answer was interrupted on its way, and was begun anew."));
  }

  /** Makes an item's place; returns what writes into it. */
  #begin({ type, name, choice }) {
    if (type === "reasoning") return (text) => this.reasoning.append(text);
    if (type === "call") {
      const written = element("pre");
      this.message.append(this.calls);
      this.calls.append(element("div", { className: "call" }, element("b", {}, name ?? ""), written));
      return (text) => written.append(text);
    }
    if (choice) this.text.append(element("h5", {}, `Choice ${choice + 1}`));
    const part = this.text.appendChild(element("div", { className: type === "refusal" ? "refusal" : "prose" }));
    if (type === "refusal") return (text) => part.append(text);
    const prose = new Prose(part);
    return (text) => prose.push(text);
  }

  get reasoning() {
    const there = this.message.querySelector(".reasoning > div");
    if (there) return there;
    const body = element("div");
    this.text.before(element("details", { className: "reasoning" }, element("summary", {}, "Reasoning"), body));
    return body;
  }
}

// ------------------------------------------------------------------------------------------------------------ status

const GONE = {
  deleted: "This answer was deleted.",
  expired: "This answer has expired.",
  lost: "The log of this answer was lost.",
};

const TICKET_REFUSED =
  "The server refuses the ticket it has just given out. Is `TAILRACE_TICKET_SECRET` the same on every frontend?";

function seconds(s) {
  if (s >= 100) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${s.toFixed(s < 1 ? 2 : s < 10 ? 1 : 0)} s`;
}

function endStatus({ status, finish, usage, error, timings }) {
  const tokens = usage?.completion_tokens ?? usage?.output_tokens;
  const figures = [
    tokens !== undefined && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`,
    timings?.first_token !== undefined && `first in ${seconds(timings.first_token)}`,
    timings?.total !== undefined && `all in ${seconds(timings.total)}`,
  ];
  const withFigures = (word) => [word, ...figures.filter(Boolean)].join(" · ");
  if (status === "completed") return ["done", withFigures("Done")];
  if (status === "cancelled") return ["stopped", withFigures("Stopped")];
  if (status === "failed") return ["failed", error?.message || "The generation failed."];
  const atLimit = finish?.some((one) => one.finish_reason === "length");
  return ["incomplete", withFigures(error?.message ?? (atLimit ? "Cut off at the token limit" : "Incomplete"))];
}

/** What to say of a turn: a state, and a sentence. */
function statusOf({ output, connection, detail, standing, heardAt, stopping }) {
  if (output.done) return endStatus(output.done);
  if (connection === "gone") return ["gone", GONE[detail.reason] ?? detail.message ?? GONE.lost];
  if (connection === "failed") return ["failed", detail.message];
  if (connection === "sending") {
    return navigator.onLine ? ["sending", "Sending…"] : ["offline", "You are offline. Waiting to send…"];
  }
  if (connection !== "open" && !navigator.onLine) return ["offline", "You are offline. The answer goes on without you."];
  if (connection === "reconnecting") return ["reconnecting", "Reconnecting. The answer goes on meanwhile…"];
  if (connection === "connecting") return ["connecting", "Connecting…"];
  if (stopping) return ["stopping", "Stopping…"];
  const queued = output.status === "queued";
  const quiet = Date.now() - heardAt > QUIET_MS;
  if ((queued || quiet) && standing?.worker_running === false) {
    return ["no-worker", "No worker is running. Start one, and the answer goes on: `tailrace worker`"];
  }
  if (queued) {
    const place = standing?.queue_position;
    return ["queued", place ? `Waiting in the queue: number ${place}` : "Waiting in the queue…"];
  }
  if (output.items.length === 0) return ["started", "A worker has it. Waiting for the first word…"];
  return ["streaming", quiet ? "Streaming; quiet at the moment…" : "Streaming"];
}

let told = "";

function tellStatus([state, text]) {
  if (told === state + text) return; // once is enough for a screen reader
  told = state + text;
  const status = $("status");
  status.dataset.state = state;
  status.replaceChildren();
  if (text) inline(status.appendChild(element("span")), text);
}

// ------------------------------------------------------------------------------------------------------------- turns

/** The generation on show, and all it takes to show it; `null` on an empty page. `life` ends when it is left. */
let turn = null;
let notice = null; // the status, when a call was refused
let unlocked = () => {}; // what to do again once there is an API key
let unsent = { body: "", idempotencyKey: "" }; // asked again with the same words, it is the same request

const apiKey = () => sessionStorage.getItem("tailrace.key") ?? undefined;
const isLive = (turn) => Boolean(turn && !notice && !turn.output.done && !["gone", "failed"].includes(turn.connection));

function leaveTurn() {
  turn?.life.abort();
  turn = notice = null;
  $("unlock").hidden = true;
}

function beginTurn(connection) {
  leaveTurn();
  turn = {
    life: new AbortController(),
    output: new Output(),
    answer: null,
    id: null,
    messages: [],
    connection,
    detail: {},
    standing: null, // the generation's JSON, when last asked for
    heardAt: Date.now(),
    stopping: false,
  };
  return turn;
}

const callOptions = (mine, more) => ({ key: apiKey(), signal: mine.life.signal, ...more });

/** For as long as it takes, and saying so. */
const patiently = (mine) =>
  callOptions(mine, {
    patience: Infinity,
    onRetry() {
      mine.connection = "reconnecting";
      refresh();
    },
  });

/** Shows a generation by its id: the conversation as it was asked, and the answer, finished or going on. */
async function show(id) {
  const mine = beginTurn("connecting");
  $("conversation").replaceChildren();
  pinned = true;
  refresh();
  try {
    const generation = await get(id, patiently(mine));
    mine.messages = generation.request?.messages ?? [];
    for (const { role, content, tool_calls: calls } of mine.messages) {
      addMessage(role, contentText(content) || (calls ?? []).map((call) => `[${call.function?.name}]`).join("\n"));
    }
    $("model").value = generation.model;
    mine.answer = new Answer();
    attend(mine, generation);
  } catch (error) {
    if (!mine.life.signal.aborted) stumble(error, () => show(id));
  }
}

async function ask(text) {
  const before = turn;
  const messages = [...transcript(before), { role: "user", content: text }];
  const body = { model: $("model").value.trim() || "demo", messages };
  const written = JSON.stringify(body);
  if (unsent.body !== written) unsent = { body: written, idempotencyKey: randomKey() };
  const mine = beginTurn("sending");
  mine.messages = messages;
  const question = addMessage("user", text);
  mine.answer = new Answer();
  pinned = true;
  refresh();
  try {
    const generation = await generate(body, callOptions(mine, { idempotencyKey: unsent.idempotencyKey, patience: 60_000 }));
    unsent = { body: "" };
    history.pushState(null, "", `?id=${generation.id}`);
    attend(mine, generation);
  } catch (error) {
    if (mine.life.signal.aborted) return;
    question.remove();
    mine.answer.message.remove();
    turn = before; // the conversation is what it was, and the words are back where they can be sent again
    $("ask").value ||= text;
    fitInput();
    stumble(error, send);
  }
}

function transcript(turn) {
  if (!turn) return [];
  const said = turn.output.text;
  return said ? [...turn.messages, { role: "assistant", content: said }] : turn.messages;
}

function attend(mine, generation) {
  mine.id = generation.id;
  mine.standing = generation;
  if (generation.finish) {
    mine.output = Output.of(generation);
  } else {
    read(mine, generation.events_url);
    watch(mine);
  }
  refresh();
}

function read(mine, url, lastEventId, { isRenewed = false } = {}) {
  mine.connection = "connecting";
  let mayRenew = !isRenewed; // a renewed ticket that opens nothing would be renewed for ever
  const reading = follow(url, {
    lastEventId,
    onEvent(kind, data) {
      mayRenew = true;
      mine.heardAt = Date.now();
      mine.output.apply(kind, data);
      refresh();
    },
    onState(state, detail) {
      if (state === "open") mayRenew = true;
      if (state === "failed" && detail.status === 401) {
        if (mayRenew) return renewTicket(mine, reading.lastEventId());
        detail = { ...detail, message: TICKET_REFUSED };
      }
      if (state === "done" && !mine.output.done) return show(mine.id); // ended before we came
      Object.assign(mine, { connection: state === "paused" ? "reconnecting" : state, detail });
      refresh();
    },
  });
  mine.life.signal.addEventListener("abort", reading.close);
}

/** The ticket in the events' URL is short-lived; the generation's JSON has a new one. */
async function renewTicket(mine, lastEventId) {
  try {
    const { events_url: url } = await get(mine.id, patiently(mine));
    read(mine, url, lastEventId, { isRenewed: true });
  } catch (error) {
    if (!mine.life.signal.aborted) stumble(error, () => renewTicket(mine, lastEventId));
  }
}

/** While nothing comes, asks why: the place in the queue, and whether there is a worker at all. */
async function watch(mine) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (mine.life.signal.aborted || !isLive(mine)) return;
    if (mine.output.status !== "queued" && Date.now() - mine.heardAt < QUIET_MS) continue;
    if (document.hidden || mine.connection !== "open") continue;
    mine.standing = await get(mine.id, callOptions(mine, { patience: 0 })).catch(() => mine.standing);
    refresh();
  }
}

async function stop() {
  const mine = turn;
  mine.stopping = true;
  refresh();
  try {
    await cancel(mine.id, callOptions(mine));
  } catch {
    mine.stopping = false; // the button is back, and says it better than a sentence
    refresh();
  }
}

/** A call was refused. For want of a key it is made again with one; else that is that. */
function stumble(error, again) {
  const locked = error.status === 401;
  if (locked) {
    notice = ["locked", apiKey() ? error.message : ""];
    unlocked = again;
    $("unlock").hidden = false;
    $("key").focus();
  } else notice = [error.status === 410 ? "gone" : "failed", error.message];
  refresh();
}

// -------------------------------------------------------------------------------------------------------------- page

let frame = 0;
let pinned = true; // to the bottom, until the reader scrolls up
let lastTop = 0;

function refresh() {
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  const live = isLive(turn);
  turn?.answer?.draw(turn.output, live);
  tellStatus(notice ?? (turn ? statusOf(turn) : ["idle", ""]));
  $("empty").hidden = live || $("conversation").hasChildNodes();
  $("send").hidden = live && Boolean(turn.id);
  $("send").disabled = live;
  $("stop").hidden = !$("send").hidden;
  $("stop").disabled = Boolean(turn?.stopping);
  $("copy").hidden = !turn?.id;
  $("new").hidden = !turn;
  const first = turn?.messages.find((message) => message.role === "user");
  document.title = first ? `${contentText(first.content).slice(0, 60)} · Tailrace` : "Tailrace";
  if (pinned && turn) scrollTo(0, document.documentElement.scrollHeight);
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
  if (!text || isLive(turn)) return;
  localStorage.setItem("tailrace.model", $("model").value.trim() || "demo");
  $("ask").value = "";
  fitInput();
  if (matchMedia("(pointer: coarse)").matches) $("ask").blur(); // the keyboard makes room for the answer
  ask(text);
}

function fitInput() {
  if (CSS.supports("field-sizing", "content")) return;
  $("ask").style.height = "auto";
  $("ask").style.height = `${$("ask").scrollHeight}px`;
}

function showFromURL() {
  const id = new URLSearchParams(location.search).get("id");
  if (id) return show(id);
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
    prompt("The link to this answer:", location.href); // the clipboard is for https and loopback only
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
  unlocked();
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
