/* The DOM in short: elements by id, new elements, and figures as text. */

export const $ = (id) => document.getElementById(id);

/** Creates an element with properties and children. */
export function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

export const button = (label, onclick, properties = {}) =>
  element("button", { type: "button", onclick, ...properties }, label);

/** Appends text; what is between backticks becomes `code`. */
export function appendWithCode(parent, text) {
  text.split("`").forEach((piece, k) => parent.append(k % 2 ? element("code", {}, piece) : piece));
  return parent;
}

/** A duration in seconds as text. */
export function seconds(s) {
  if (s >= 172_800) return `${Math.round(s / 86_400)} days`;
  if (s >= 3_600) return count(Math.round(s / 360) / 10, "hour");
  if (s >= 100) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  return `${s.toFixed(s < 1 ? 2 : s < 10 ? 1 : 0)} s`;
}

/** A whole number and its noun: `1 entry`, `2,345 entries`. */
export const count = (n, singular, plural = `${singular}s`) => `${n.toLocaleString("en")} ${n === 1 ? singular : plural}`;

/** Copies text, and shows on the button that it was. A promise of text is copied as part of the click that it began
 * with: a later one is refused by some browsers. */
export async function copy(text, control) {
  try {
    if (typeof text === "string") await navigator.clipboard.writeText(text);
    else await navigator.clipboard.write([new ClipboardItem({ "text/plain": text.then(asBlob) })]);
    control.style.minWidth = `${control.offsetWidth}px`; // the buttons beside it keep their places
    const label = control.textContent;
    control.textContent = "Copied";
    setTimeout(() => (control.textContent = label === "Copied" ? "Copy" : label), 1_500);
  } catch {
    prompt("Copy this text:", await text); // browsers allow the clipboard on https and loopback only
  }
}

const asBlob = (text) => new Blob([text], { type: "text/plain" });
