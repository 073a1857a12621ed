/* What the page shows: one turn, which is a request and its answer, or none. */

import { $ } from "/dom.js";
import { apiKey, hideKeyForm } from "/keys.js";
import { watchOthers } from "/recent.js";
import { Replay } from "/strip.js";
import { Output } from "/tailrace.js";

const FINAL = ["gone", "failed"];

export const page = {
  shown: null, // the turn on the screen; null on an empty page
  notice: null, // the status line after a failed request; it replaces the turn's
  editing: null, // the number of messages that stay when the question is sent
};

export const isLive = (turn) => Boolean(turn && !page.notice && !turn.output.done && !FINAL.includes(turn.connection));

/** Ends the reading of the turn on the screen; its generation goes on. */
export function leaveTurn() {
  page.shown?.lifetime.abort();
  if (isLive(page.shown)) watchOthers();
  page.shown = page.notice = page.editing = null;
  $("gone").hidden = true;
  $("continued").hidden = true;
  $("recent").hidden = false;
  hideKeyForm();
}

/** Puts a new turn on the screen. `connection`: its first state, see tailrace.js; `sending` before it has an id. */
export function beginTurn(connection) {
  leaveTurn();
  page.shown = {
    lifetime: new AbortController(), // aborted when the page shows something else
    output: new Output(),
    answer: null, // its view
    strip: null,
    reading: null,
    id: null,
    isShared: false, // whether it is read by a read-only link: its log alone, without its JSON
    request: {}, // the body without its messages
    fieldModel: "", // the model in the field when it was sent; an example may send another
    messages: [],
    connection,
    detail: {},
    generation: null, // the generation's JSON when it was last fetched
    cursor: "",
    attempt: null,
    restartReason: "", // of the last `restarted`
    replay: new Replay(),
    experiment: null, // what the user has broken
    lastEventAt: Date.now(),
    contactAt: Date.now(), // when the server was last known to answer
    isRetrying: false,
    stopping: false,
  };
  return page.shown;
}

export const callOptions = (turn, more) => ({ key: apiKey(), signal: turn.lifetime.signal, ...more });
