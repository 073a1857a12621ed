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
 * Rule 2: A transient failure is retried without limit; only a 204 or a permanent 4xx ends the reading. (A proxy's 502
 *         closes an EventSource for good.)
 * Rule 3: After a minute without a byte, keep-alives included, or on waking up, the connection is reopened at the
 *         cursor; nothing is lost. (An EventSource hides keep-alives, so a script cannot recognize a dead one.) The same
 *         after 10 s without an answer to a request.
 * Rule 4: The ticket of an `events_url` is a secret. It is sent in a header, never in the URL of a request: proxies write
 *         URLs into their logs. (An EventSource cannot send headers.)
 */

const KINDS = new Set(
  "created started item_opened text reasoning refusal tool_arguments item_closed restarted done gone".split(" "),
);
const SILENCE_MS = 60_000; // four of the server's keep-alive intervals
const STALE_MS = 20_000; // the same limit on waking up, when a dead socket is likely
const SETTLE_MS = 300; // an overloaded server answers 200 and closes: that connection never counts as `open`
const REQUEST_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 10_000;

/** Follows a log to its end. `url`: an `events_url`.
 *
 * Returns `{close(), reconnect(afterMs), lastEventId()}`; `reconnect` drops the connection and opens it again at the cursor.
 */
export function follow(url, { lastEventId = "", onEvent, onState, hiddenMs = 60_000 } = {}) {
  const [address, headers] = splitTicket(url);
  let cursor = lastEventId;
  let failures = 0;
  let connection, state, activeAt, settling, retrying, hiding, connecting;
  const lifetime = new AbortController();

  const setState = (next, detail = {}) => next !== state && onState?.((state = next), detail);

  function open() {
    disconnect();
    activeAt = Date.now();
    if (state !== "open") setState(state ? "reconnecting" : "connecting");
    connection = new AbortController();
    connecting = setTimeout(open, CONNECT_TIMEOUT_MS);
    read(connection.signal);
  }

  function reconnect(afterMs = 0) {
    if (lifetime.signal.aborted) return;
    disconnect();
    activeAt = Date.now();
    setState("reconnecting");
    retrying = setTimeout(open, afterMs);
  }

  function disconnect() {
    connection?.abort();
    clearTimeout(connecting);
    clearTimeout(settling);
    clearTimeout(retrying);
  }

  /** Reads one connection to its end, and opens the next one unless that was the end of the log. */
  async function read(signal) {
    let retryMs;
    if (cursor) address.searchParams.set("last_event_id", cursor);
    else address.searchParams.delete("last_event_id");
    const final = await readEvents(address, headers, signal, {
      onOpen() {
        clearTimeout(connecting);
        settling = setTimeout(onSettled, SETTLE_MS);
      },
      onBytes: () => (activeAt = Date.now()),
      onRetry: (ms) => (retryMs = ms),
      onMessage,
    }).catch(() => null); // the connection broke
    if (signal.aborted) return;
    if (final) return finish(...final);
    activeAt = Date.now();
    clearTimeout(connecting);
    clearTimeout(settling);
    setState("reconnecting");
    retrying = setTimeout(open, retryMs ? retryMs * (0.5 + Math.random()) : backoff(failures++));
  }

  function onSettled() {
    clearTimeout(settling);
    failures = 0;
    setState("open");
  }

  function onMessage(kind, data, id) {
    if (!KINDS.has(kind)) return;
    const value = JSON.parse(data);
    // Two kinds have no id. A `restarted` without one, and without `attempt`, means that the log no longer holds all
    // that was delivered: delivery starts again at the log's beginning.
    if (kind === "restarted" && value.attempt === undefined) cursor = "";
    else if (kind !== "gone" && !isAfter(id, cursor)) return;
    else if (kind !== "gone") cursor = id;
    onSettled();
    onEvent?.(kind, value, cursor);
    if (kind === "done" || kind === "gone") finish(kind, value);
  }

  function onWake() {
    clearTimeout(hiding);
    if (document.visibilityState === "hidden") {
      if (hiddenMs < Infinity) hiding = setTimeout(pause, hiddenMs); // browsers allow six connections to a host
    } else if (state !== "open" || Date.now() - activeAt > STALE_MS) open();
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
  return { close, reconnect, lastEventId: () => cursor };
}

/** The URL without its ticket (`?ticket=` or `#ticket=`), and the headers that carry the ticket instead. */
function splitTicket(url) {
  const address = new URL(url, location.href);
  const ticket = address.searchParams.get("ticket") ?? new URLSearchParams(address.hash.slice(1)).get("ticket");
  address.searchParams.delete("ticket");
  address.hash = "";
  return [address, ticket ? { Authorization: `Ticket ${ticket}` } : {}];
}

/** Reads an event stream until it ends. Returns a final state and its detail; nothing if a retry may succeed. */
async function readEvents(address, headers, signal, { onOpen, onBytes, onRetry, onMessage }) {
  headers = { Accept: "text/event-stream", ...headers };
  const response = await fetch(address, { headers, signal, cache: "no-store" });
  if (response.status === 204) return ["done", {}];
  if (!response.ok) {
    const error = await ApiError.fromResponse(response);
    const detail = { ...error, message: error.message, reason: error.code };
    return error.retryable ? null : [error.status === 410 ? "gone" : "failed", detail];
  }
  onOpen();
  let rest = "";
  let fields = {};
  for await (const text of decoded(response.body)) {
    onBytes();
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (signal.aborted) return null;
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === "retry") onRetry(Number(value));
      else if (name) fields[name] = value;
      else if (!line) {
        if ("data" in fields) onMessage(fields.event, fields.data, fields.id ?? "");
        fields = {};
      }
    }
  }
  return null;
}

/** The pieces of a body as text. (Safari cannot iterate over a stream.) */
async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
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
    } else if (["text", "reasoning", "refusal", "tool_arguments", "item_closed"].includes(kind)) {
      const item = this.items.findLast((item) => item.item === number);
      if (item && kind === "item_closed") item.isClosed = true;
      else if (item) item[kind === "tool_arguments" ? "arguments" : "text"] += data.text;
    }
  }
}

/** Starts a generation. The idempotency key makes every retry the same request. */
export function generate(body, { idempotencyKey = randomKey(), ...options } = {}) {
  return call("POST", "", { body, idempotencyKey, ...options });
}

/** The generation's current state: status, request, output so far. */
export const get = (id, options) => call("GET", `/${encodeURIComponent(id)}`, options);

/** Where the generation stands, without request and output: status, place in the queue, a new ticket. */
export const getStatus = (id, options) => call("GET", `/${encodeURIComponent(id)}?output=false`, options);

/** The caller's generations, newest first: `{data, has_more}`. */
export const list = (limit, options) => call("GET", `?limit=${limit}`, options);

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
export async function call(method, path, options = {}) {
  const { base = "", key, idempotencyKey, body, retryForMs = 20_000, onRetry, signal } = options;
  const { timeoutMs = REQUEST_TIMEOUT_MS } = options;
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const request = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
  const deadline = Date.now() + retryForMs;
  for (let failures = 0; ; failures++) {
    const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
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
