/* The caller's API key: for this tab, or on this device where the user asks for that. */

import { $ } from "/dom.js";

const NAME = "tailrace.key";
const STORES = [sessionStorage, localStorage];

/** Whether a header can carry the key. A copied "…" or a smart quote cannot, and `fetch` would throw. */
const isUsable = (key) => /^[\x21-\x7e]+$/.test(key ?? "");

export const apiKey = () => STORES.map((store) => store.getItem(NAME)).find(isUsable);

let retry = () => {};
let onKey = () => {};

/** `load` is called with every new key, before what had asked for the key. */
export const initKeys = (load) => (onKey = load);

/** Asks for a key, and why; calls `then` when there is one. */
export function askForKey(message, then) {
  retry = then;
  showProblem(message);
  $("unlock").hidden = false;
  $("forget-key").hidden = false;
  $("key").focus();
}

function showProblem(message) {
  $("key-problem").textContent = message;
  $("key").setAttribute("aria-invalid", String(Boolean(message)));
}

export function hideKeyForm() {
  $("unlock").hidden = true;
  retry = () => {};
}

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!isUsable(key)) {
    showProblem("A key has letters, digits and signs of ASCII only: this one has others, or a space.");
    return $("key").focus();
  }
  STORES.forEach((store) => store.removeItem(NAME));
  ($("keep-key").checked ? localStorage : sessionStorage).setItem(NAME, key);
  $("key").value = "";
  $("forget-key").hidden = false;
  const then = retry;
  hideKeyForm();
  onKey();
  then();
});

$("forget-key").hidden = !apiKey();
$("forget-key").addEventListener("click", () => {
  $("menu").hidePopover();
  askForKey("", () => location.reload());
});
