/* The reading of one turn's log, to its end: its events, its ticket, and what the server reports beside them. */

import { showError, showUnreadable } from "/failures.js";
import { refresh } from "/screen.js";
import { QUIET_MS } from "/status.js";
import { canBreak } from "/strip.js";
import { follow, get, getStatus, Output } from "/tailrace.js";
import { callOptions, isLive } from "/turn.js";

const TICK_MS = 500;
const POLL_MS = 5_000; // while text arrives; readers and worker are no events
const QUIET_POLL_MS = 2_000;
const DEV_POLL_MS = 1_000;
const POLL_TIMEOUT_MS = 3_000;
const DELETION_MS = 1_000; // from the cancellation to the removal of a generation that is deleted

const TICKET_REJECTED =
  "The server rejects the ticket that it has just issued. Set the same `TAILRACE_TICKET_SECRET` on every frontend.";

/** Options of a request that is retried without limit, with the status line showing it. */
export const persistentCallOptions = (turn) =>
  callOptions(turn, {
    retryForMs: Infinity,
    onRetry() {
      turn.connection = "reconnecting";
      refresh();
    },
  });

/** Draws the clock of the status line until the returned function is called. */
export function tick() {
  const ticking = setInterval(refresh, TICK_MS);
  return () => clearInterval(ticking);
}

/** Gives the turn its generation: takes a finished output from the JSON, follows the log of an unfinished one.
 * `reopen(id)` shows a generation from its JSON. */
export function attach(turn, generation, reopen) {
  turn.id = generation.id;
  Object.assign(turn, { generation, reopen });
  turn.contactAt = Date.now();
  turn.attempt = generation.attempt || turn.attempt;
  if (generation.finish) {
    turn.output = Output.of(generation);
    turn.connection = "done";
  } else {
    turn.replay.begin(generation.last_event_id);
    readLog(turn, generation.events_url);
  }
  refresh();
}

/** Follows the log at an `events_url` to its end. */
export function readLog(turn, url) {
  readEvents(turn, url);
  poll(turn);
}

function readEvents(turn, url, lastEventId, { isRenewed = false } = {}) {
  turn.connection = "connecting";
  let mayRenew = !isRenewed; // a new ticket that is rejected at once is not renewed: that would never end
  const reading = follow(url, {
    lastEventId,
    onEvent(kind, data, cursor) {
      mayRenew = true;
      turn.contactAt = turn.lastEventAt = Date.now();
      turn.cursor = cursor;
      turn.replay.onEvent(cursor);
      turn.attempt = data.attempt ?? turn.attempt;
      turn.restartReason = data.reason ?? turn.restartReason;
      turn.output.apply(kind, data);
      turn.experiment?.onEvent(kind, turn.attempt);
      refresh();
      if (kind !== "done") return;
      afterEnd(turn);
      if (data.status === "cancelled" && !turn.stopping) setTimeout(afterEnd, DELETION_MS, turn);
    },
    onState(state, detail) {
      if (state === "open") {
        mayRenew = true;
        turn.contactAt = Date.now();
        turn.experiment?.mark("back");
      }
      if (state === "reconnecting" && turn.experiment?.kind !== "worker") turn.experiment?.mark("noticed");
      if (state === "failed" && detail.status === 401 && !turn.isShared) {
        if (mayRenew) return renewTicket(turn, reading.lastEventId());
        detail = { ...detail, message: TICKET_REJECTED };
      }
      if (state === "done" && !turn.output.done) return turn.reopen(turn.id); // it ended before the log was opened
      Object.assign(turn, { connection: state === "paused" ? "reconnecting" : state, detail });
      if (turn.isShared && (state === "failed" || state === "gone")) showUnreadable(turn, detail);
      refresh();
    },
  });
  turn.reading = reading;
  turn.lifetime.signal.addEventListener("abort", reading.close);
}

/** After the end: until when the answer is kept, and whether the page has what the log has. */
export async function afterEnd(turn) {
  if (turn.isShared) return; // the link allows the log only
  const ended = await getStatus(turn.id, callOptions(turn)).catch((error) => noteDeletion(turn, error));
  const whole = turn.experiment && (await get(turn.id, callOptions(turn)).catch(() => null));
  if (turn.lifetime.signal.aborted) return;
  turn.generation = ended ?? turn.generation;
  turn.attempt = ended?.attempt ?? turn.attempt;
  if (whole) turn.experiment.comparison = { page: turn.output.text, log: Output.of(whole).text };
  refresh();
}

/** A deletion ends the log like a cancellation does, and removes it then. */
function noteDeletion(turn, { status, code }) {
  if (status === 410) Object.assign(turn, { connection: "gone", detail: { reason: code }, generation: null });
}

/** Throws if the server does not answer. */
async function checkServer() {
  const response = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
  if (!response.ok) throw new Error("The server is not well.");
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

/** Asks for what is no event: the place in the queue, the worker, the readers. Where nothing arrives and the server does
 * not answer either, the connection is dead, and opened again. */
async function poll(turn) {
  for (let polledAt = 0; ; ) {
    await new Promise((resolve) => setTimeout(resolve, polledAt ? TICK_MS : 0));
    if (turn.lifetime.signal.aborted || !isLive(turn)) return;
    refresh(); // the clock
    const isQuiet = Date.now() - turn.lastEventAt > QUIET_MS;
    const interval = canBreak() ? DEV_POLL_MS : isQuiet || turn.output.status === "queued" ? QUIET_POLL_MS : POLL_MS;
    if (document.hidden || turn.connection !== "open" || Date.now() - polledAt < interval) continue;
    polledAt = Date.now();
    const options = callOptions(turn, { retryForMs: 0, timeoutMs: POLL_TIMEOUT_MS });
    try {
      if (turn.isShared) await checkServer();
      else turn.generation = await getStatus(turn.id, options);
      turn.contactAt = Date.now();
    } catch {
      if (turn.connection === "open" && Date.now() - turn.lastEventAt > QUIET_MS) turn.reading.reconnect();
    }
  }
}
