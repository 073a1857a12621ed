/* Why there is no answer on the screen, and the way on: another key, a new chat. */

import { $, seconds } from "/dom.js";
import { apiKey, askForKey } from "/keys.js";
import { refresh } from "/screen.js";
import { GONE } from "/status.js";
import { page } from "/turn.js";

const KEY_REFUSED = "The server does not accept this key. It is mistyped, expired or withdrawn.";

/** Shows, in place of a conversation, why there is none. `reopen()` tries again with another key. */
export function showMissing(turn, error, reopen) {
  if (error.status === 401) return showError(error, reopen);
  const reason = error.status === 404 ? "unknown" : error.status === 410 ? error.code : null;
  const [title, text] = GONE[reason] ?? ["This answer cannot be shown.", error.message];
  turn.connection = "gone";
  turn.detail = { reason, message: title };
  page.notice = ["gone", title];
  $("gone-title").textContent = title;
  $("gone-text").textContent = reason === "expired" ? retentionText() : reason === "unknown" ? unknownText() : text;
  $("gone-key").hidden = !(reason === "unknown" && apiKey());
  $("gone").hidden = false;
  refresh();
}

/** Shows why a read-only link has no answer. What has been read of it stays. */
export function showUnreadable(turn, { status = 410, reason, message }) {
  if (turn.output.text) return;
  const error = { status: status === 401 ? 410 : status, code: status === 401 ? "withdrawn" : reason, message };
  turn.answer.message.remove();
  showMissing(turn, error);
}

const unknownText = () =>
  apiKey()
    ? "The link is incomplete, the answer expired long ago, or it belongs to another API key."
    : "The link is incomplete, or the answer expired long ago.";

function retentionText() {
  const retention = Number(document.documentElement.dataset.retentionS);
  const kept = retention ? `This server keeps an answer for ${seconds(retention)} after its end` : "Answers are not kept forever";
  return `${kept} (TAILRACE_RETENTION_S).`;
}

/** Shows why a request failed. If it needs an API key, asks for one and then calls `retry`. */
export function showError(error, retry) {
  if (error.status === 401) {
    page.notice = ["locked", ""];
    askForKey(apiKey() ? KEY_REFUSED : "", () => {
      page.notice = null;
      retry();
    });
  } else page.notice = [error.status === 410 ? "gone" : "failed", error.message];
  refresh();
}
