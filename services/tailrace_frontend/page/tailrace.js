/* Tailrace in the browser: start a generation, read its log, and lose nothing on the way.
 *
 *     import { generate, follow, Output } from "/tailrace.js";
 *
 *     const { events_url } = await generate({ model: "demo", messages: [{ role: "user", content: "Hello" }] });
 *     const output = new Output();
 *     const reading = follow(events_url, {
 *       onEvent(kind, data) { output.apply(kind, data); show(output.text); },
 *       onState(state, detail) { console.log(state, detail); },
 *     });
 *
 * A page that comes later, or again, follows the same URL: from the start, or from `{ lastEventId }`.
 *
 *     connecting → open ⇄ reconnecting        `paused`: a tab long hidden lets its connection go, and returns when seen
 *     ends: done   the log is told whole      gone    deleted, expired or lost ({reason})
 *           failed it cannot be read ({status, message}): no such generation, not yours, ticket expired
 *
 * Rule 1: an event is told once. Ids at or below the last one are ignored, whoever repeats them.
 * Rule 2: what may pass is waited for, however long. An EventSource comes again by itself, but a proxy's 502 closes it
 *         for good: then the same address is asked why, and only a 204 or a 4xx is taken for an answer.
 * Rule 3: keep-alive comments are invisible here, so silence proves nothing. After enough of it, or on waking up, the
 *         connection is made anew at the cursor: in a log that costs nothing and loses nothing.
 */

const KINDS = "created started item_opened text reasoning refusal tool_arguments item_closed restarted done gone".split(" ");
const SILENCE_MS = 60_000; // four of the server's beats
const STALE_MS = 20_000; // the same on waking up, where a dead socket is likely
const SETTLE_MS = 300; // a server that may not serve now answers 200 and ends: that is not `open`
const ANSWER_MS = 20_000;

/** Follows a log to its end. Returns `{close(), lastEventId()}`. */
export function follow(url, { lastEventId = "", onEvent, onState, hiddenMs = 60_000 } = {}) {
  let cursor = lastEventId;
  let failures = 0;
  let source, state, heard, settling, retrying, hiding;
  const life = new AbortController();

  function tell(next, detail = {}) {
    if (next !== state) onState?.((state = next), detail);
  }

  function address() {
    const address = new URL(url, location.href);
    if (cursor) address.searchParams.set("last_event_id", cursor);
    return address;
  }

  function open() {
    drop();
    heard = Date.now();
    if (state !== "open") tell(state ? "reconnecting" : "connecting");
    source = new EventSource(address());
    source.onopen = () => (settling = setTimeout(settled, SETTLE_MS));
    source.onerror = lost;
    for (const kind of KINDS) source.addEventListener(kind, hear);
  }

  function drop() {
    source?.close();
    source = null;
    clearTimeout(settling);
    clearTimeout(retrying);
  }

  function settled() {
    clearTimeout(settling);
    failures = 0;
    tell("open");
  }

  function hear({ type: kind, data, lastEventId: id }) {
    heard = Date.now();
    const value = JSON.parse(data);
    // Two kinds come without an id (EventSource then repeats the last one). A `restarted` that no attempt has numbered
    // means that the log no longer holds what was told: it is told again, from its beginning.
    if (kind === "restarted" && value.attempt === undefined) cursor = "";
    else if (kind !== "gone" && !isAfter(id, cursor)) return;
    else if (kind !== "gone") cursor = id;
    settled();
    onEvent?.(kind, value, cursor);
    if (kind === "done" || kind === "gone") finish(kind, value);
  }

  async function lost() {
    heard = Date.now();
    clearTimeout(settling);
    tell("reconnecting");
    const closed = source;
    if (closed?.readyState !== EventSource.CLOSED) return; // it comes again by itself, when the server's `retry:` says
    const verdict = await whyClosed(address());
    if (closed !== source) return;
    if (verdict) finish(...verdict);
    else retrying = setTimeout(open, backoff(failures++));
  }

  function wake() {
    clearTimeout(hiding);
    if (document.visibilityState === "hidden") {
      if (hiddenMs < Infinity) hiding = setTimeout(pause, hiddenMs); // browsers allow six connections to a host
    } else if (source?.readyState !== EventSource.OPEN || Date.now() - heard > STALE_MS) open();
  }

  function pause() {
    drop();
    tell("paused");
  }

  function close() {
    life.abort();
    clearInterval(watchdog);
    clearTimeout(hiding);
    drop();
  }

  function finish(state, detail) {
    close();
    tell(state, detail);
  }

  const watchdog = setInterval(() => state !== "paused" && Date.now() - heard > SILENCE_MS && open(), 5_000);
  document.addEventListener("visibilitychange", wake, { signal: life.signal });
  addEventListener("online", wake, { signal: life.signal });
  open();
  if (document.visibilityState === "hidden") wake();
  return { close, lastEventId: () => cursor };
}

/** What an EventSource cannot say: the final state and its detail, or nothing if it may pass. */
async function whyClosed(address) {
  try {
    const request = { headers: { Accept: "text/event-stream" }, signal: AbortSignal.timeout(ANSWER_MS) };
    const answer = await fetch(address, request);
    if (answer.status === 204) return ["done", {}];
    if (answer.ok) return void answer.body.cancel();
    const error = await Refused.by(answer);
    if (error.passing) return null;
    return [error.status === 410 ? "gone" : "failed", { ...error, message: error.message, reason: error.code }];
  } catch {
    return null;
  }
}

/** Whether the id of an entry, `<epoch>-<seq>`, lies after the cursor. */
export function isAfter(id, cursor) {
  if (!id || !cursor) return id !== "";
  const [attempt, n] = id.split("-").map(Number);
  const [lastAttempt, lastN] = cursor.split("-").map(Number);
  return attempt === lastAttempt ? n > lastN : attempt > lastAttempt;
}

/** The fold: events, one after another, become the output. Items are as in a generation's JSON. */
export class Output {
  items = [];
  status = "queued";
  done = null; // the last event
  restarts = 0; // grows when what was said is forgotten

  static of(generation) {
    return Object.assign(new Output(), { items: generation.output ?? [], status: generation.status, done: generation });
  }

  /** What choice 0 said, refusals included. */
  get text() {
    const said = this.items.filter((item) => !item.choice && (item.type === "text" || item.type === "refusal"));
    return said.map((item) => item.text).join("");
  }

  apply(kind, data) {
    const { item: number = 0 } = data;
    if (kind === "done") Object.assign(this, { done: data, status: data.status });
    else if (kind === "started") this.status = "running";
    else if (kind === "restarted") Object.assign(this, { items: [], restarts: this.restarts + 1 });
    else if (kind === "item_opened") {
      this.status = "running";
      this.items.push({ ...data, item: number, [data.type === "call" ? "arguments" : "text"]: "" });
    } else if (["text", "reasoning", "refusal", "tool_arguments"].includes(kind)) {
      const item = this.items.findLast((item) => item.item === number);
      if (item) item[kind === "tool_arguments" ? "arguments" : "text"] += data.text;
    }
  }
}

/** Starts a generation. Sent again until it is answered: the key makes all of it one request. */
export function generate(body, { idempotencyKey = randomKey(), ...options } = {}) {
  return call("POST", "", { body, idempotencyKey, ...options });
}

/** The generation as it stands: status, request, output so far. */
export const get = (id, options) => call("GET", `/${encodeURIComponent(id)}`, options);

/** Ends it. The log tells so, as of any other end. */
export const cancel = (id, options) => call("POST", `/${encodeURIComponent(id)}/cancel`, options);

export const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");

/** An answer that is none. `status` 0: nobody answered. `passing`: worth another try. */
export class Refused extends Error {
  constructor(status, { message, code, type } = {}) {
    super(message || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    Object.assign(this, { status, code, type });
    this.passing = status === 0 || status >= 500 || [408, 425, 429].includes(status);
  }

  static async by(answer) {
    const body = await answer.json().catch(() => null);
    return new Refused(answer.status, body?.error);
  }
}

/** One call of the API, repeated while what stops it may pass, for as long as there is `patience`. */
async function call(method, path, { base = "", key, idempotencyKey, body, patience = 20_000, onRetry, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const request = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
  const until = Date.now() + patience;
  for (let failures = 0; ; failures++) {
    const limit = AbortSignal.any([AbortSignal.timeout(ANSWER_MS), ...(signal ? [signal] : [])]);
    try {
      const answer = await fetch(`${base}/v1/generations${path}`, { ...request, signal: limit });
      if (answer.ok) return await answer.json();
      throw await Refused.by(answer);
    } catch (cause) {
      signal?.throwIfAborted();
      const error = cause instanceof Refused ? cause : new Refused(0);
      if (!error.passing || Date.now() > until) throw error;
      onRetry?.(error);
    }
    await new Promise((resolve) => setTimeout(resolve, backoff(failures)));
  }
}

const backoff = (failures) => Math.min(15_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
