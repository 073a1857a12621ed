/* The strip under an answer: where its log and its reader stand; in `tailrace dev`, buttons that break things.
 *
 * Rule: A figure is one that the page has seen or that the server has reported. "Nothing lost" is shown after the text
 *       on the page has been compared with the log's.
 */

import { button, count, element, seconds } from "/dom.js";
import { apiKey } from "/keys.js";
import { isAfter } from "/tailrace.js";

const isDev = document.documentElement.hasAttribute("data-dev");
const CUT_MS = 2_000;
const HEALTH_MS = 150;

const devHeaders = () => ({ "x-tailrace-dev": "1", ...(apiKey() && { Authorization: `Bearer ${apiKey()}` }) });

let isBreakable = false; // by the routes of `tailrace dev`

/** Asks once whether this is `tailrace dev`. In production the route does not exist, and is not asked for. */
export const findDev = async () => {
  if (!isDev) return;
  const response = await fetch("/dev", { headers: devHeaders(), cache: "no-store" }).catch(() => null);
  isBreakable = Boolean(response?.ok);
};

export const canBreak = () => isBreakable;

/** The replay of the entries that the log had when it was opened. */
export class Replay {
  entries = 0; // once all of them have been received
  tookMs = 0;
  #last = ""; // the last one's id
  #beganAt = 0;

  begin(lastEventId) {
    this.#last = lastEventId ?? "";
    this.#beganAt = performance.now();
  }

  onEvent(cursor) {
    if (!this.#last || isAfter(this.#last, cursor)) return;
    this.entries = Number(this.#last.split("-")[1]) + 1;
    this.tookMs = performance.now() - this.#beganAt;
    this.#last = "";
  }
}

const FIGURES = ["attempt", "entry", "cursor", "readers", "worker", "replay", "kept"];
const LABELS = { worker: "Worker killed", frontend: "Web server killed", connection: "Connection cut" };

/** One break and its repair, with the time of each step since it began. */
export class Experiment {
  #beganAt = performance.now();
  #steps = new Map(); // step → milliseconds
  pid = null;
  attempt = null;
  comparison = null; // {page, log}: the text on the page and in the log, after the end
  problem = ""; // why nothing was broken

  constructor(kind) {
    this.kind = kind;
  }

  mark(step) {
    if (!this.#steps.has(step)) this.#steps.set(step, performance.now() - this.#beganAt);
  }

  /** Notes how far the repair of what the user has broken is. */
  onEvent(kind, attempt) {
    if (kind === "done") this.mark("ended");
    if (this.kind === "worker" && (kind === "restarted" || kind === "started")) {
      this.mark("noticed");
      this.attempt = attempt;
    }
    if (kind === "text" && this.has("noticed")) this.mark("text");
  }

  has(step) {
    return this.#steps.has(step);
  }

  get isOver() {
    return Boolean(this.problem) || this.has("text") || this.has("ended");
  }

  /** Whether the worker is dead, and none has taken over. */
  get isWorkerLost() {
    return this.kind === "worker" && !this.has("noticed") && !this.isOver;
  }

  toString() {
    if (this.problem) return `Nothing was broken: ${this.problem}`;
    const after = (step, label) => this.has(step) && `${label} ${seconds(this.#steps.get(step) / 1_000)}`;
    const waiting = !this.isOver && `${seconds((performance.now() - this.#beganAt) / 1_000)} …`;
    const parts = [
      LABELS[this.kind] + (this.pid ? ` (pid ${this.pid})` : ""),
      this.kind !== "connection" && after("noticed", "noticed after"),
      this.attempt && `attempt ${this.attempt}`,
      this.kind !== "worker" && after("back", "connected again after"),
      after("text", "text goes on after"),
      waiting,
      this.#verdict(),
    ];
    return parts.filter(Boolean).join(" · ");
  }

  #verdict() {
    if (!this.comparison) return "";
    const { page, log } = this.comparison;
    if (page === log) return `nothing lost, nothing twice: ${count(page.length, "character")} here and in the log`;
    return `differs: ${count(page.length, "character")} here, ${count(log.length, "character")} in the log`;
  }
}

/** Breaks a part of `tailrace dev`, or this page's connection. */
async function begin(kind, turn, refresh) {
  const experiment = new Experiment(kind);
  turn.experiment = experiment;
  refresh();
  if (kind === "connection") return turn.reading.reconnect(CUT_MS);
  const killed = await fetch(`/dev/kill/${kind}`, { method: "POST", headers: devHeaders() }).catch(() => null);
  const reply = await killed?.json().catch(() => null);
  if (killed ? !killed.ok : kind === "worker") {
    experiment.problem = reply?.error?.message ?? "The server cannot be reached.";
    return refresh();
  }
  experiment.pid = reply?.pid ?? null;
  if (kind === "frontend") await reconnectWhenHealthy(turn, experiment);
}

/** Connects as soon as the new process answers, instead of at the next retry. */
async function reconnectWhenHealthy(turn, experiment) {
  while (!turn.lifetime.signal.aborted && !experiment.isOver && !experiment.has("back")) {
    await new Promise((resolve) => setTimeout(resolve, HEALTH_MS));
    if (turn.connection === "open" || !experiment.has("noticed")) continue;
    const limit = AbortSignal.timeout(1_000);
    const response = await fetch("/healthz", { cache: "no-store", signal: limit }).catch(() => null);
    if (response?.ok && turn.connection !== "open") return turn.reading.reconnect();
  }
}

const time = (at) => new Date(at * 1_000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function keptUntil(expiresAt) {
  const isToday = new Date(expiresAt * 1_000).toDateString() === new Date().toDateString();
  return `kept until ${isToday ? "" : `${new Date(expiresAt * 1_000).toLocaleDateString()} `}${time(expiresAt)}`;
}

/** The view of the strip of one turn. */
export class Strip {
  #figures = new Map(); // name → its element
  #breaks;

  constructor(turn, refresh) {
    this.figures = element("p", { className: "figures" }, ...FIGURES.map((name) => this.#addFigure(name)));
    this.experiment = element("p", { className: "experiment", hidden: true });
    const kinds = { worker: "Kill the worker", frontend: "Kill the web server", connection: "Cut my connection" };
    const buttons = Object.entries(kinds).map(([kind, label]) =>
      button(label, ({ currentTarget }) => currentTarget.ariaDisabled !== "true" && begin(kind, turn, refresh)),
    );
    this.#breaks = element("div", { className: "breaks", hidden: true }, ...buttons);
    this.#breaks.setAttribute("role", "group");
    this.#breaks.setAttribute("aria-label", "Break it");
    this.root = element("div", { className: "strip" }, this.figures, this.#breaks, this.experiment);
  }

  draw(turn, live) {
    const { generation, cursor, attempt, replay, experiment } = turn;
    const isRunning = live && generation;
    const isCurrent = isRunning && generation.attempt === attempt && !experiment?.isWorkerLost;
    const [epoch, seq] = cursor ? cursor.split("-") : [];
    this.#show("attempt", attempt && `attempt ${attempt}`);
    this.#show("entry", seq && `entry ${Number(seq).toLocaleString("en")}`);
    this.#show("cursor", cursor && `cursor ${epoch.slice(0, 4)}…-${seq}`, cursor && `Last-Event-ID: ${cursor}`);
    this.#show("readers", isRunning && generation.readers != null && count(generation.readers, "reader"));
    this.#show("worker", isCurrent && generation.worker && `worker ${generation.worker}`);
    const replayed = replay.entries > 3 && `${count(replay.entries, "entry", "entries")} replayed in ${Math.ceil(replay.tookMs)} ms`;
    this.#show("replay", replayed);
    this.#show("kept", !live && generation?.expires_at && keptUntil(generation.expires_at));
    this.#breaks.hidden = !live || !canBreak() || !turn.id;
    const isBroken = Boolean(experiment && !experiment.isOver);
    for (const each of this.#breaks.children) each.ariaDisabled = String(isBroken); // `disabled` would lose the focus
    this.experiment.hidden = !experiment;
    this.root.hidden = ![...this.figures.children, this.#breaks, this.experiment].some((part) => !part.hidden);
    const text = experiment?.toString() ?? "";
    if (this.experiment.textContent !== text) this.experiment.textContent = text;
  }

  #addFigure(name) {
    const figure = element("span", { hidden: true });
    figure.dataset.figure = name;
    this.#figures.set(name, figure);
    return figure;
  }

  #show(name, text, title = "") {
    const figure = this.#figures.get(name);
    figure.hidden = !text;
    if (figure.textContent !== (text || "")) figure.textContent = text || "";
    if (title) figure.title = title;
  }
}
