/* The status line: one state and one sentence, with a clock where waiting has a length.
 *
 * Rule: The line states only what the page knows. While the server cannot be reached, nothing is known of the answer.
 */

import { $, appendWithCode, element, seconds } from "/dom.js";

export const QUIET_MS = 4_000; // without an event for so long, the page asks the server
const UNREACHABLE_MS = 10_000;
const SENDING_MS = 2_000;

const KEPT = "The text so far is kept.";
const RESTARTS = {
  upstream_lost: "the upstream broke off, and the answer starts over",
  upstream_silent: "the upstream sent nothing more, and the answer starts over",
};

export const GONE = {
  deleted: ["This answer was deleted.", "Its owner has deleted it."],
  expired: ["This answer has expired.", ""], // for this one and `unknown`, see failures.js
  lost: ["This answer was lost.", "The server's Redis no longer has it. Please ask again."],
  withdrawn: [
    "This link is no longer valid.",
    "A read-only link ends with its answer, or when the API key that made it is withdrawn. A part of it may also be missing.",
  ],
  unknown: ["There is no answer at this link.", ""],
};

const unbroken = (figure) => figure.replaceAll(" ", "\u00a0"); // lines break between figures, after the dot

function endStatus({ status, finish, usage, error, timings }) {
  const tokens = usage?.completion_tokens ?? usage?.output_tokens;
  const figures = [
    tokens !== undefined && `${usage.estimated ? "about " : ""}${tokens.toLocaleString("en")} tokens`,
    timings?.first_token !== undefined && `first token ${seconds(timings.first_token)}`,
    timings?.total !== undefined && `total ${seconds(timings.total)}`,
  ];
  const withFigures = (label) => [label, ...figures.filter(Boolean).map(unbroken)].join("\u00a0· ");
  if (status === "completed") return ["done", withFigures("Done")];
  if (status === "cancelled") return ["stopped", withFigures("Stopped")];
  if (status === "failed") return ["failed", error?.message || "The generation failed."];
  const atLimit = finish?.some((choice) => choice.finish_reason === "length");
  return ["incomplete", withFigures(error?.message ?? (atLimit ? "Cut off at the token limit" : "Incomplete"))];
}

/** The status line of a turn: state, sentence, and the milliseconds that the state has lasted where these count. */
export function statusOf(turn, now = Date.now()) {
  const { output, connection, detail, contactAt } = turn;
  if (connection === "gone") return ["gone", (GONE[detail.reason] ?? GONE.lost)[0]];
  if (output.done) return endStatus(output.done);
  if (connection === "failed") return ["failed", detail.message];
  const silence = now - contactAt;
  if (connection === "sending") {
    if (!navigator.onLine) return ["offline", "You are offline. Waiting to send…"];
    if (turn.isRetrying && silence > SENDING_MS) {
      return ["unreachable", "The server cannot be reached. Trying again to send…", silence];
    }
    if (silence > QUIET_MS) return ["sending", "Sending… The server has not answered yet.", silence];
    return ["sending", "Sending…"];
  }
  if (connection !== "open") return connectionStatus(connection, silence);
  if (turn.stopping) return ["stopping", "Stopping…"];
  return openStatus(turn, now);
}

function connectionStatus(connection, silence) {
  if (!navigator.onLine) return ["offline", `You are offline. ${KEPT} The page reconnects by itself.`];
  if (silence > UNREACHABLE_MS) return ["unreachable", `No contact with the server. Trying again… ${KEPT}`, silence];
  if (connection === "connecting") return ["connecting", "Connecting…"];
  return ["reconnecting", `Connection lost. Trying again… ${KEPT}`, silence];
}

/** While the page has killed the worker. A worker that is there may have others to run before. */
function lostStatus(generation) {
  const position = generation?.status === "queued" && generation.worker_running && generation.queue_position;
  const waits = position && `The worker is lost. Waiting for another one: position ${position} in the queue`;
  return ["worker-lost", waits || "The worker is lost. Another one takes over…"];
}

function openStatus({ output, generation, lastEventAt, answer, attempt, restartReason, experiment }, now) {
  const queued = output.status === "queued";
  const quiet = now - lastEventAt;
  const isQuiet = quiet > QUIET_MS;
  if ((queued || isQuiet) && generation?.worker_running === false) {
    return ["no-worker", "No worker is running. Start one to continue: `tailrace worker`"];
  }
  if (experiment?.isWorkerLost) return lostStatus(generation);
  if (queued) {
    const position = generation?.queue_position;
    return ["queued", position ? `Waiting in the queue: position ${position}` : "Waiting in the queue…"];
  }
  if (isQuiet) return ["quiet", "No new text. The server answers; waiting for the model or its worker.", quiet];
  const overwritten = answer?.overwritten ?? null;
  if (overwritten !== null) {
    const cause = RESTARTS[restartReason] ?? "a worker starts over";
    return ["restarted", `Attempt ${attempt}: ${cause}. The earlier text is being replaced.`];
  }
  if (output.items.length === 0) return ["started", "A worker has started. Waiting for the first token…"];
  return ["streaming", attempt > 1 ? `Streaming, attempt ${attempt}` : "Streaming"];
}

let shown = "";
let clock = null;

/** Shows a state. The clock is hidden from screen readers, which would announce every second of it. */
export function showStatus([state, text, lasts]) {
  const status = $("status");
  if (shown !== state + text) {
    shown = state + text;
    status.dataset.state = state;
    status.replaceChildren();
    clock = null;
    if (text) appendWithCode(status.appendChild(element("span")), text);
  }
  if (lasts === undefined) return clock?.remove();
  clock = clock?.isConnected ? clock : status.appendChild(element("span", { className: "clock", ariaHidden: "true" }));
  const label = `${Math.floor(lasts / 1_000)} s`;
  if (clock.textContent !== label) clock.textContent = label;
}
