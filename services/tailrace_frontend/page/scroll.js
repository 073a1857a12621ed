/* The place in the conversation: at the text being written until the user scrolls up; kept for a reload and for Back. */

import { $ } from "/dom.js";
import { isLive, page } from "/turn.js";

const KEEP_MS = 150;
const TAIL = 28; // characters of new text that is written out of sight

let pinned = true; // to the bottom, until the user scrolls up
let lastTop = 0;
let keeping = 0;

/** Whether the page follows the text that is being written. */
export const isPinned = () => pinned;
export const pin = (value) => (pinned = value);

/** The button that leads to where the answer is being written, if that is out of sight. */
export function drawLatest(live) {
  const isAbove = live && page.shown.answer?.overwritten != null && page.shown.answer.writingAt < $("header").offsetHeight;
  $("latest").hidden = !live || (pinned && !isAbove);
  const label = isAbove ? "↑ New text" : "↓ Latest";
  $("latest").setAttribute("aria-label", label); // what follows it on the screen changes with every word
  const text = isAbove ? `${label}: …${page.shown.output.text.slice(-TAIL)}` : label;
  if ($("latest").textContent !== text) $("latest").textContent = text;
}

/** Leads to where the answer is being written. */
export function showLatest() {
  const isAbove = $("latest").textContent.startsWith("↑");
  pinned = !isAbove;
  if (isAbove) scrollBy(0, page.shown.answer.writingAt - innerHeight / 2);
}

function scrolled() {
  const root = document.documentElement;
  if (root.scrollHeight - innerHeight - scrollY < 8) pinned = true;
  else if (scrollY < lastTop) pinned = false;
  lastTop = scrollY;
  drawLatest(isLive(page.shown));
  clearTimeout(keeping);
  const turn = page.shown;
  keeping = setTimeout(() => turn === page.shown && keepScroll(), KEEP_MS);
}

/** Keeps the place in a finished answer for a reload, and for Back. */
export function keepScroll() {
  if (page.shown?.output.done) history.replaceState({ scrollY }, "");
}

addEventListener("scroll", scrolled, { passive: true });
history.scrollRestoration = "manual";
