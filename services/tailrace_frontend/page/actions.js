/* The buttons at a message and under an answer. */

import { contentText } from "/answer.js";
import { $, button, copy, element } from "/dom.js";
import { canBeShared, curlCommand } from "/share.js";

let edit = () => {};
let retry = () => {};

/** `edit(k)` edits the message of that number; `retry(turn)` asks its question again. */
export const initActions = (handlers) => ({ edit, retry } = handlers);

const copyButton = (text) => button("Copy", ({ currentTarget }) => copy(text(), currentTarget));

/** Copy and Edit at each message that has none yet. */
export function addMessageActions(messages) {
  [...$("conversation").children].forEach((message, k) => {
    if (message.querySelector(".actions") || !["user", "assistant"].includes(message.dataset.role)) return;
    const actions = element("div", { className: "actions" }, copyButton(() => contentText(messages[k].content)));
    if (message.dataset.role === "user") actions.append(button("Edit", () => edit(k)));
    message.append(actions);
  });
}

/** Copies a new link that needs no key. */
function copyReadOnlyLink(turn, control) {
  const link = import("/links.js").then(({ makeLink }) => makeLink(turn));
  const url = link.then((made) => location.origin + made.url);
  copy(url, control).catch(() => {}); // the note below the buttons has the reason
}

/** The buttons under an answer. */
export function drawActions(turn, live) {
  const { actions, generation, isShared } = turn;
  const id = turn.connection === "gone" ? null : turn.id;
  const state = `${live} ${Boolean(id)} ${Boolean(generation)}`;
  if (!actions || actions.dataset.state === state) return;
  actions.dataset.state = state;
  const hadFocus = actions.contains(document.activeElement);
  const buttons = [];
  if (!live) buttons.push(copyButton(() => turn.output.text));
  if (isShared) buttons.push(button("Copy link", ({ currentTarget }) => copy(location.href, currentTarget)));
  if (!live && !isShared) buttons.push(button("Retry", () => retry(turn)));
  if (id && !isShared) {
    buttons.push(
      button("Copy link", ({ currentTarget }) => copy(`${location.origin}/?id=${id}`, currentTarget)),
      ...(generation && canBeShared(generation)
        ? [button("Copy read-only link", ({ currentTarget }) => copyReadOnlyLink(turn, currentTarget))]
        : []),
      button("As curl", ({ currentTarget }) => copy(curlCommand(id, live ? turn.cursor : ""), currentTarget), {
        title: "The command that continues this log in a terminal, from this word on",
      }),
      button("On a phone", async () => (await import("/qr.js")).showQrCode(id)),
    );
  }
  const note = actions.querySelector(".shared-note"); // it has the button that ends a link
  actions.replaceChildren(...buttons, ...(note ? [note] : []));
  if (hadFocus) actions.querySelector("button")?.focus();
}

/** Copies a block of code, with what the renderer has cut off it. */
function copyCode(control) {
  const pieces = [];
  for (let figure = control.closest("figure"); figure; figure = figure.nextElementSibling) {
    if (pieces.length && !figure.matches("figure.continued")) break;
    pieces.push(figure.querySelector("code").textContent);
  }
  copy(pieces.join("").replace(/\n$/, ""), control);
}

$("conversation").addEventListener("click", ({ target }) => target.matches("figcaption button") && copyCode(target));
