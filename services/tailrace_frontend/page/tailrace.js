/* Tailrace in the browser: start a generation and read its log to the end without losing an event.
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
 * A page that is opened later or reloaded follows the same URL: from the start, or from `{ lastEventId }`.
 *
 *     connecting → open ⇄ reconnecting        paused  the tab has been hidden for `hiddenMs`: the connection is closed
 *                                                     until the tab is visible again
 *     final: done    the log was read to its end
 *            gone    the log was deleted, has expired or was lost ({reason})
 *            failed  the log cannot be read ({status, message}): unknown generation, other owner, expired ticket
 *
 * Rule 1: Each event is delivered once. An id at or below the last one is ignored.
 * Rule 2: A transient failure is retried without limit. An EventSource reconnects by itself, but a proxy's 502 closes
 *         it for good: the URL is then fetched to learn the status, and only a 204 or a permanent 4xx ends the reading.
 * Rule 3: Keep-alive comments are invisible to scripts, so a script cannot distinguish a quiet connection from a dead
 *         one. After a minute of silence, or on waking up, the connection is reopened at the cursor; nothing is lost.
 */

const KINDS =
  "created started item_opened text reasoning refusal tool_arguments item_closed restarted done gone".split(" ");
const SILENCE_MS = 60_000; // four of the server's keep-alive intervals
const STALE_MS = 20_000; // the same limit on waking up, when a dead socket is likely
const SETTLE_MS = 300; // an overloaded server answers 200 and closes: that connection never counts as `open`
const REQUEST_TIMEOUT_MS = 20_000;

/** Follows a log to its end. Returns `{close(), lastEventId()}`. */
export function follow(url, { lastEventId = "", onEvent, onState, hiddenMs = 60_000 } = {}) {
  let cursor = lastEventId;
  let failures = 0;
  let source, state, activeAt, settling, retrying, hiding;
  const lifetime = new AbortController();

  function setState(next, detail = {}) {
    if (next !== state) onState?.((state = next), detail);
  }

  function eventsURL() {
    const address = new URL(url, location.href);
    if (cursor) address.searchParams.set("last_event_id", cursor);
    return address;
  }

  function open() {
    disconnect();
    activeAt = Date.now();
    if (state !== "open") setState(state ? "reconnecting" : "connecting");
    source = new EventSource(eventsURL());
    source.onopen = () => (settling = setTimeout(onSettled, SETTLE_MS));
    source.onerror = onError;
    for (const kind of KINDS) source.addEventListener(kind, onMessage);
  }

  function disconnect() {
    source?.close();
    source = null;
    clearTimeout(settling);
    clearTimeout(retrying);
  }

  function onSettled() {
    clearTimeout(settling);
    failures = 0;
    setState("open");
  }

  function onMessage({ type: kind, data, lastEventId: id }) {
    activeAt = Date.now();
    const value = JSON.parse(data);
    // Two kinds have no id of their own (EventSource then reports the previous one). A `restarted` without `attempt`
    // means that the log no longer holds all that was delivered: delivery starts again at the log's beginning.
    if (kind === "restarted" && value.attempt === undefined) cursor = "";
    else if (kind !== "gone" && !isAfter(id, cursor)) return;
    else if (kind !== "gone") cursor = id;
    onSettled();
    onEvent?.(kind, value, cursor);
    if (kind === "done" || kind === "gone") finish(kind, value);
  }

  async function onError() {
    activeAt = Date.now();
    clearTimeout(settling);
    setState("reconnecting");
    const closed = source;
    if (closed?.readyState !== EventSource.CLOSED) return; // it reconnects by itself, after the server's `retry:`
    const final = await fetchFinalState(eventsURL());
    if (closed !== source) return;
    if (final) finish(...final);
    else retrying = setTimeout(open, backoff(failures++));
  }

  function onWake() {
    clearTimeout(hiding);
    if (document.visibilityState === "hidden") {
      if (hiddenMs < Infinity) hiding = setTimeout(pause, hiddenMs); // browsers allow six connections to a host
    } else if (source?.readyState !== EventSource.OPEN || Date.now() - activeAt > STALE_MS) open();
  }

  function pause() {
    disconnect();
    setState("paused");
  }

  function close() {
    lifetime.abort();
    clearInterval(watchdog);
    clearTimeout(hiding);
    disconnect();
  }

  function finish(state, detail) {
    close();
    setState(state, detail);
  }

  const watchdog = setInterval(() => state !== "paused" && Date.now() - activeAt > SILENCE_MS && open(), 5_000);
  document.addEventListener("visibilitychange", onWake, { signal: lifetime.signal });
  addEventListener("online", onWake, { signal: lifetime.signal });
  open();
  if (document.visibilityState === "hidden") onWake();
  return { close, lastEventId: () => cursor };
}

/** The final state and its detail, which a closed EventSource does not report; nothing if a retry may succeed. */
async function fetchFinalState(address) {
  try {
    const request = { headers: { Accept: "text/event-stream" }, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) };
    const response = await fetch(address, request);
    if (response.status === 204) return ["done", {}];
    if (response.ok) return void response.body.cancel();
    const error = await ApiError.fromResponse(response);
    if (error.retryable) return null;
    return [error.status === 410 ? "gone" : "failed", { ...error, message: error.message, reason: error.code }];
  } catch {
    return null;
  }
}

/** Whether an entry's id, `<epoch>-<seq>`, is after the cursor. */
export function isAfter(id, cursor) {
  if (!id || !cursor) return id !== "";
  const [epoch, seq] = id.split("-").map(Number);
  const [cursorEpoch, cursorSeq] = cursor.split("-").map(Number);
  return epoch === cursorEpoch ? seq > cursorSeq : epoch > cursorEpoch;
}

/** Folds events, applied in order, into the output. Items have the shape of those in a generation's JSON. */
export class Output {
  items = [];
  status = "queued";
  done = null; // the payload of the last event
  restarts = 0; // how often the output so far was discarded

  static of(generation) {
    return Object.assign(new Output(), { items: generation.output ?? [], status: generation.status, done: generation });
  }

  /** The text of choice 0, refusals included. */
  get text() {
    const parts = this.items.filter((item) => !item.choice && (item.type === "text" || item.type === "refusal"));
    return parts.map((item) => item.text).join("");
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

/** Starts a generation. The idempotency key makes every retry the same request. */
export function generate(body, { idempotencyKey = randomKey(), ...options } = {}) {
  return call("POST", "", { body, idempotencyKey, ...options });
}

/** The generation's current state: status, request, output so far. */
export const get = (id, options) => call("GET", `/${encodeURIComponent(id)}`, options);

/** Cancels the generation. Its log ends with `done`, like any other. */
export const cancel = (id, options) => call("POST", `/${encodeURIComponent(id)}/cancel`, options);

export const randomKey = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("");

/** An error response. `status` is 0 when there was no response. `retryable`: the same request may succeed later. */
export class ApiError extends Error {
  constructor(status, { message, code, type } = {}) {
    super(message || (status ? `The server responded with status ${status}.` : "The server cannot be reached."));
    Object.assign(this, { status, code, type });
    this.retryable = status === 0 || status >= 500 || [408, 425, 429].includes(status);
  }

  static async fromResponse(response) {
    const body = await response.json().catch(() => null);
    return new ApiError(response.status, body?.error);
  }
}

/** One API request. A retryable failure is retried for `retryForMs`, and `onRetry(error)` is called each time. */
async function call(method, path, { base = "", key, idempotencyKey, body, retryForMs = 20_000, onRetry, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const request = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
  const deadline = Date.now() + retryForMs;
  for (let failures = 0; ; failures++) {
    const limit = AbortSignal.any([AbortSignal.timeout(REQUEST_TIMEOUT_MS), ...(signal ? [signal] : [])]);
    try {
      const response = await fetch(`${base}/v1/generations${path}`, { ...request, signal: limit });
      if (response.ok) return await response.json();
      throw await ApiError.fromResponse(response);
    } catch (cause) {
      signal?.throwIfAborted();
      const error = cause instanceof ApiError ? cause : new ApiError(0);
      if (!error.retryable || Date.now() > deadline) throw error;
      onRetry?.(error);
    }
    await new Promise((resolve) => setTimeout(resolve, backoff(failures)));
  }
}

const backoff = (failures) => Math.min(15_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
