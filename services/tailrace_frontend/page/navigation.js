/* From the URL to the screen, and back: opening a link, Recent, New chat, Back. */

import { $ } from "/dom.js";
import { showMissing } from "/failures.js";
import { showDefaultModel, showModel } from "/models.js";
import { afterEnd, attach, persistentCallOptions, tick } from "/reading.js";
import { watchOthers } from "/recent.js";
import { addAnswer, refresh, showMessages } from "/screen.js";
import { keepScroll, pin } from "/scroll.js";
import { sharedTicket } from "/share.js";
import { get } from "/tailrace.js";
import { beginTurn, leaveTurn, page } from "/turn.js";

const tabs = new BroadcastChannel("tailrace"); // {previous, id}: a conversation has gone on in another tab

/** Shows a generation by its id: the conversation in its request, and its answer, finished or still growing. */
export async function showGeneration(id) {
  const turn = beginTurn("connecting");
  const place = history.state?.scrollY ?? 0;
  $("conversation").replaceChildren();
  refresh();
  const stopTicking = tick();
  try {
    const generation = await get(id, persistentCallOptions(turn));
    const { messages = [], ...request } = generation.request ?? {};
    Object.assign(turn, { messages, request, fieldModel: generation.model });
    showMessages(messages);
    showModel(generation.model);
    addAnswer(turn);
    pin(!generation.finish); // a finished answer is read from its beginning
    attach(turn, generation, showGeneration);
    if (!generation.finish) return;
    requestAnimationFrame(() => scrollTo(0, place)); // after the answer is drawn
    afterEnd(turn);
    lookForNext();
  } catch (error) {
    if (!turn.lifetime.signal.aborted) showMissing(turn, error, () => showGeneration(id));
  } finally {
    stopTicking();
  }
}

/** Puts a new generation into the URL, and announces it to the tabs that show the one before. */
export function enter(id, previousId) {
  history.pushState(null, "", `?id=${id}`);
  if (previousId) tabs.postMessage({ previous: previousId, id });
}

/** Shows what the URL names: a generation, or an empty page. */
export function showFromURL() {
  const id = new URLSearchParams(location.search).get("id");
  const ticket = sharedTicket();
  if (id && ticket) return openReadOnly(id, ticket);
  if (id) return showGeneration(id);
  leaveTurn();
  $("conversation").replaceChildren();
  showDefaultModel();
  refresh();
}

async function openReadOnly(id, ticket) {
  $("empty").hidden = $("composer").hidden = true;
  const { showSharedAnswer } = await import("/readonly.js");
  if (sharedTicket() === ticket) showSharedAnswer(id, ticket);
}

/** Goes to a generation, or with "" to an empty page. */
export function open(id) {
  keepScroll();
  history.pushState(null, "", id ? `/?id=${id}` : "/");
  showFromURL();
}

function newChat(event) {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (page.shown?.isShared) return; // the link is followed: the models and the key are still to be asked for
  event.preventDefault();
  open("");
  $("ask").focus();
}

/** Shows where the conversation on the screen goes on, if it does. `rows`: `{previous, id}` of generations. */
export function noteNext(rows) {
  const id = page.shown?.isShared ? null : page.shown?.id;
  const next = id && rows.find(({ previous }) => previous === id);
  if (!next || !$("continued").hidden) return;
  $("continued").hidden = false;
  $("continued-link").href = `/?id=${next.id}`;
}

const lookForNext = () => page.shown?.output.done && !page.shown.isShared && watchOthers();

tabs.addEventListener("message", ({ data }) => noteNext([data]));
addEventListener("focus", lookForNext);
document.addEventListener("visibilitychange", () => document.hidden || lookForNext());
$("gone-new").addEventListener("click", newChat);
$("new").addEventListener("click", newChat);
addEventListener("popstate", () => (page.shown?.isShared && !sharedTicket() ? location.reload() : showFromURL()));
