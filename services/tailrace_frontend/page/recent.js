/* The drawer of recent generations: those that run have a pulsing dot, wherever they were started. */

import { $, count, element } from "/dom.js";
import { apiKey } from "/keys.js";
import { list } from "/tailrace.js";

const SHOWN = 30;
const REFRESH_MS = 2_000;
const RUNNING = ["queued", "running"];

const isRunning = ({ status }) => RUNNING.includes(status);

let show = () => {};
let current = () => null;
let onRows = () => {};
let refreshing = 0;

/** `open(id)` shows a generation; `currentId()` is the one that is shown; `useRows(rows)` gets every list. */
export function initRecent(open, currentId, useRows) {
  show = open;
  current = currentId;
  onRows = useRows;
  $("recent").addEventListener("click", () => {
    $("drawer").showModal();
    refresh();
  });
  $("drawer").addEventListener("click", (event) => event.target === $("drawer") && $("drawer").close());
  $("close-drawer").addEventListener("click", () => $("drawer").close());
}

/** Keeps the number at the button right while generations run that are not on the screen. */
export function watchOthers() {
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, REFRESH_MS / 4);
}

async function refresh() {
  clearTimeout(refreshing);
  try {
    const { data } = await list(SHOWN, { key: apiKey(), retryForMs: 0, timeoutMs: 5_000 });
    onRows(data);
    showButton(data.filter((row) => isRunning(row) && row.id !== current()).length);
    if ($("drawer").open) showRows(data);
    if ($("drawer").open || data.some(isRunning)) refreshing = setTimeout(refresh, REFRESH_MS);
  } catch (error) {
    if (!$("drawer").open) return;
    $("rows").replaceChildren(element("li", { className: "nothing" }, error.message));
    refreshing = setTimeout(refresh, REFRESH_MS);
  }
}

function showButton(running) {
  $("recent").toggleAttribute("data-running", running > 0);
  $("running").textContent = running ? String(running) : "";
  $("recent").setAttribute("aria-label", running ? `Recent answers, ${running} more being written` : "Recent answers");
}

let shownRows = "";

function showRows(data) {
  const rows = JSON.stringify([current(), data.map(({ events_url: _, ...row }) => row), Math.floor(Date.now() / 60_000)]);
  if (rows === shownRows) return; // the focus stays where it is
  shownRows = rows;
  const focused = document.activeElement?.closest?.("#rows a")?.href;
  if (data.length) $("rows").replaceChildren(...data.map(rowElement));
  else $("rows").replaceChildren(element("li", { className: "nothing" }, "No answer is stored yet."));
  for (const link of $("rows").querySelectorAll("a")) if (link.href === focused) link.focus();
}

function rowElement(row) {
  const figures = [row.model, row.status, row.tokens != null && count(row.tokens, "token"), age(row.created_at)];
  const link = element(
    "a",
    { href: `/?id=${row.id}` },
    element("span", { className: "preview" }, row.preview || row.id),
    element("small", {}, figures.filter(Boolean).join(" · ")),
  );
  link.dataset.status = row.status;
  if (row.id === current()) link.ariaCurrent = "page";
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    $("drawer").close();
    show(row.id);
  });
  return element("li", {}, link);
}

function age(createdAt) {
  const minutes = Math.floor((Date.now() / 1_000 - createdAt) / 60);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes}\u00a0min\u00a0ago`;
  const at = new Date(createdAt * 1_000);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}
