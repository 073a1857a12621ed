/* Nodes that are made equal to fresh ones in place: a selection and a scrolled block of code survive. */

const excluded = new WeakSet();

/** Keeps a node where it is when its parent is made equal to a fresh one. */
export const exclude = (node) => excluded.add(node);

/** Makes nodes equal to fresh ones, changing as little as possible. Returns the nodes that are there now. */
export function morphAll(parent, old, fresh) {
  const after = old.at(-1)?.nextSibling ?? null;
  const kept = fresh.map((node, k) => {
    if (old[k] && morph(old[k], node)) return old[k];
    if (old[k]) old[k].replaceWith(node);
    else parent.insertBefore(node, after);
    return node;
  });
  old.slice(fresh.length).forEach((node) => node.remove());
  return kept;
}

/** Makes a node equal to a fresh one. False where their kinds differ. */
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    if (fresh.data.startsWith(old.data)) old.appendData(fresh.data.slice(old.data.length));
    else old.data = fresh.data;
    return true;
  }
  if (old.className !== fresh.className || old.getAttribute("href") !== fresh.getAttribute("href")) return false;
  if (old.attributes.length || fresh.attributes.length) copyAttributes(old, fresh);
  if (old.dataset.highlighted && old.textContent === fresh.textContent) return true;
  morphAll(old, [...old.childNodes].filter((node) => !excluded.has(node)), [...fresh.childNodes]);
  return true;
}

/** Gives a node the attributes of a fresh one; `data-` attributes are not the renderer's. */
function copyAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!name.startsWith("data-") && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}
