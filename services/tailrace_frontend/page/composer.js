/* What the user sends: a question, an edited one, the last one again; and Stop. */

import { addMessageActions, initActions } from "/actions.js";
import { contentText, messageElement } from "/answer.js";
import { $ } from "/dom.js";
import { showError } from "/failures.js";
import { listed, model, saveModel, showModel } from "/models.js";
import { enter, showGeneration } from "/navigation.js";
import { attach, tick } from "/reading.js";
import { addAnswer, refresh, showMessages } from "/screen.js";
import { pin } from "/scroll.js";
import { cancel, generate, randomKey } from "/tailrace.js";
import { transcript } from "/transcript.js";
import { beginTurn, callOptions, isLive, page } from "/turn.js";

const HINT_MS = 4_000;

let unsent = { body: "", idempotencyKey: "" }; // the same body sent again is the same request
let hinting = 0;
let draft = ""; // what was in the field when the editing of a question began

/** Asks a question in the conversation, or in the part of it that stays when a question is edited. */
function ask(text, extra = {}) {
  const messages = page.editing === null ? transcript(page.shown) : page.shown.messages.slice(0, page.editing);
  return start([...messages, { role: "user", content: text }], { extra, onFailure: () => ($("ask").value ||= text) });
}

/** Asks the last question again. */
function retry(turn) {
  const { stream: _, ...extra } = turn.request;
  return start(turn.messages, { extra: model() === turn.fieldModel ? extra : {} });
}

async function start(messages, { extra, onFailure = () => {} }) {
  const previous = page.shown;
  const screen = [...$("conversation").children];
  const body = { model: model(), ...extra, messages };
  const encoded = JSON.stringify(body);
  if (unsent.body !== encoded) unsent = { body: encoded, idempotencyKey: randomKey() };
  const turn = beginTurn("sending");
  const { messages: _, ...request } = body;
  Object.assign(turn, { messages, request, fieldModel: model(), previous: previous?.id ?? null });
  turn.undo = () => {
    page.shown = previous; // the conversation is as before, and the text is back in the field to be sent again
    $("conversation").replaceChildren(...screen);
    previous?.answer?.message.classList.remove("past");
    onFailure();
    fitInput();
  };
  showTurnBegun(turn, previous);
  const stopTicking = tick();
  try {
    const { idempotencyKey } = unsent;
    const onRetry = () => (turn.isRetrying = true);
    const options = turn.previous && { tailrace: { previous: turn.previous } };
    const sending = callOptions(turn, { idempotencyKey, retryForMs: 60_000, onRetry });
    const generation = await generate({ ...body, ...options }, sending);
    unsent = { body: "" };
    enter(generation.id, turn.previous);
    attach(turn, generation, showGeneration);
  } catch (error) {
    if (turn.lifetime.signal.aborted) return;
    turn.undo();
    showError(error, send);
  } finally {
    stopTicking();
  }
}

/** Draws the conversation that a new request has: below the last answer, or in its place. */
function showTurnBegun(turn, previous) {
  const goesOn = previous?.answer && turn.messages.length > previous.messages.length && previous.output.text;
  if (goesOn) {
    previous.answer.message.classList.add("past");
    $("conversation").append(messageElement(turn.messages.at(-1)));
    addMessageActions(turn.messages);
  } else showMessages(turn.messages);
  addAnswer(turn);
  pin(true);
  refresh();
}

async function stop() {
  const turn = page.shown;
  if (!turn.id) {
    turn.lifetime.abort();
    turn.undo();
    return refresh();
  }
  turn.stopping = true;
  refresh();
  try {
    await cancel(turn.id, callOptions(turn));
  } catch {
    turn.stopping = false; // the Stop button is enabled again
    refresh();
  }
}

/** Puts a question back into the field; what followed it is replaced when it is sent. */
function edit(k) {
  if (isLive(page.shown)) return hint("The answer is still being written. Stop it to edit a question.");
  if (page.editing === null) draft = $("ask").value;
  page.editing = k;
  $("ask").value = contentText(page.shown.messages[k].content);
  fitInput();
  $("ask").focus();
  refresh();
}

function stopEditing() {
  page.editing = null;
  restoreDraft();
  $("ask").focus();
  refresh();
}

function restoreDraft() {
  $("ask").value = draft;
  draft = "";
  fitInput();
}

function hint(text) {
  $("hint").textContent = text;
  clearTimeout(hinting);
  hinting = setTimeout(() => ($("hint").textContent = ""), HINT_MS);
}

async function send() {
  if (!model()) await listed; // the list is on its way where the page has just been opened
  const text = $("ask").value.trim();
  if (isLive(page.shown)) return hint("The answer is still being written. Esc stops it.");
  if (!text) return $("ask").focus();
  if (!model()) {
    hint("Choose a model first.");
    return $("model").focus();
  }
  submit(text);
}

function submit(text, extra) {
  saveModel();
  if (page.editing === null) draft = "";
  restoreDraft();
  if (matchMedia("(pointer: coarse)").matches) $("ask").blur(); // the on-screen keyboard covers the answer
  else $("ask").focus();
  ask(text, extra);
}

function fitInput() {
  if (CSS.supports("field-sizing", "content")) return;
  $("ask").style.height = "auto";
  $("ask").style.height = `${$("ask").scrollHeight}px`;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("send").addEventListener("click", () => {
  if ($("send").getAttribute("aria-disabled") === "true") return;
  if (isLive(page.shown)) stop();
  else send();
});
$("ask").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (matchMedia("(pointer: coarse)").matches) return; // a phone's Enter is a new line
  event.preventDefault();
  send();
});
$("ask").addEventListener("input", fitInput);
$("stop-editing").addEventListener("click", stopEditing);
$("examples").addEventListener("ask", ({ detail }) => {
  const name = detail.send ?? detail.model;
  if (detail.model) showModel(detail.model);
  submit(detail.text, { ...detail.extra, ...(detail.send && { model: name }) });
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || event.defaultPrevented || document.querySelector("dialog[open], :popover-open")) return;
  if (page.editing !== null) stopEditing();
  else if (isLive(page.shown) && !page.shown.stopping && !page.shown.isShared) stop();
});
if (matchMedia("(pointer: coarse)").matches) $("ask").enterKeyHint = "enter";
initActions({ edit, retry });
