/* The page that a read-only link opens: one answer, without an API key. Loaded where the URL has a ticket.
 *
 * Rule: The link has the ticket of a share, which allows the reading of that log and nothing else. So
 *       the page shows no question, and offers no composer. The ticket is in the fragment, which no browser sends.
 */

import { $ } from "/dom.js";
import { apiKey } from "/keys.js";
import { readLog } from "/reading.js";
import { addAnswer, refresh } from "/screen.js";
import { pin } from "/scroll.js";
import { untilText } from "/share.js";
import { beginTurn } from "/turn.js";

/** Shows the answer that a read-only link names. */
export function showSharedAnswer(id, ticket) {
  const turn = beginTurn("connecting");
  Object.assign(turn, { id, isShared: true });
  $("conversation").replaceChildren();
  addAnswer(turn);
  $("shared-until").textContent = untilText(Number(ticket.split("~")[1]));
  $("shared-open").href = `/?id=${encodeURIComponent(id)}`;
  $("recent").hidden = !apiKey();
  pin(false); // the answer is read from its beginning
  readLog(turn, `/v1/generations/${encodeURIComponent(id)}/events#ticket=${encodeURIComponent(ticket)}`);
  refresh();
}
