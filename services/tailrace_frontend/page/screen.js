/* The screen: drawn at most once per frame, from the turn. */

import { addMessageActions, drawActions } from "/actions.js";
import { AnswerView, contentText, messageElement } from "/answer.js";
import { $, element } from "/dom.js";
import { drawLatest, isPinned, showLatest } from "/scroll.js";
import { showStatus, statusOf } from "/status.js";
import { Strip } from "/strip.js";
import { isLive, page } from "/turn.js";

let frame = 0;

/** Draws the page with the next frame. */
export function refresh() {
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  const live = isLive(page.shown);
  drawControls(live);
  if (page.shown?.answer) drawAnswer(page.shown, live);
  showStatus(page.notice ?? (page.shown ? statusOf(page.shown) : ["idle", ""]));
  const first = page.shown?.messages.find((message) => message.role === "user");
  document.title = first ? `${contentText(first.content).slice(0, 60)} · Tailrace` : page.shown?.isShared ? "An answer · Tailrace" : "Tailrace";
  if (isPinned() && live) scrollTo(0, document.documentElement.scrollHeight);
  drawLatest(live);
}

function drawAnswer(turn, live) {
  const { answer, strip, experiment } = turn;
  answer.draw(turn.output, live);
  const hadFocus = strip.root.contains(document.activeElement);
  strip.draw(turn, live);
  drawActions(turn, live);
  if (hadFocus && document.activeElement.closest("[hidden]")) turn.actions.querySelector("button")?.focus();
  if (experiment && !experiment.isOver) setTimeout(refresh, 100);
}

function drawControls(live) {
  $("empty").hidden = live || $("conversation").hasChildNodes() || !$("gone").hidden || Boolean(page.shown);
  const control = $("send");
  const label = live ? "Stop" : "Send";
  if (control.textContent !== label) control.textContent = label;
  const isWaiting = live && (page.shown.stopping || (!page.shown.id && page.shown.connection !== "sending"));
  control.setAttribute("aria-disabled", String(isWaiting)); // `disabled` would lose the focus
  $("composer").hidden = Boolean(page.shown?.isShared);
  $("shared").hidden = !page.shown?.isShared;
  $("shared-text").hidden = !$("gone").hidden; // there it shows none
  $("new").hidden = !page.shown;
  $("editing").hidden = page.editing === null;
}

/** Shows messages in place of the conversation. */
export function showMessages(messages) {
  $("conversation").replaceChildren(...messages.map(messageElement));
  addMessageActions(messages);
}

/** Adds the view of a turn's answer below the conversation. */
export function addAnswer(turn) {
  turn.answer = new AnswerView();
  turn.strip = new Strip(turn, refresh);
  turn.actions = element("div", { className: "actions" });
  turn.answer.message.append(turn.strip.root, turn.actions);
  $("conversation").append(turn.answer.message);
}

$("latest").addEventListener("click", () => {
  showLatest();
  refresh();
});
for (const name of ["online", "offline", "resize"]) addEventListener(name, refresh);
