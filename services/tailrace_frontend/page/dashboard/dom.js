/* Elements without markup in strings: what comes from the server is text, never HTML. */

/** An element. `props`: attributes (`data-x`, `aria-x`, …), properties, `on…` listeners, `style` as an object. */
export function el(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name.includes("-") || name === "for" || name === "role") element.setAttribute(name, value === true ? "" : value);
    else if (name === "class") element.className = value;
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A copy of a template's content. */
export const template = (name) => document.getElementById(`t-${name}`).content.cloneNode(true);

/** Sets an element's text, if it differs: screen readers announce what is set. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replaces rows by key, and keeps those that are there: focus and selection survive a refresh. */
export function reconcile(parent, items, keyOf, make) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const made = make(item);
    made.dataset.key = key;
    const old = known.get(key);
    known.delete(key);
    if (old && old.isEqualNode(made) && !old.contains(document.activeElement)) {
      if (old === place) place = place.nextElementSibling;
      else parent.insertBefore(old, place);
      continue;
    }
    if (old && old.contains(document.activeElement)) {
      morph(old, made);
      if (old === place) place = place.nextElementSibling;
      else parent.insertBefore(old, place);
      continue;
    }
    if (old) {
      if (old === place) place = place.nextElementSibling;
      old.remove();
    }
    parent.insertBefore(made, place);
  }
  for (const gone of known.values()) gone.remove();
}

/** Updates the cells of a row in place. The focus stays where it is: at the same control of its cell. */
function morph(old, made) {
  old.className = made.className;
  if (old.children.length !== made.children.length) return;
  [...made.children].forEach((cell, index) => {
    const before = old.children[index];
    if (before.isEqualNode(cell)) return;
    const place = controls(before).indexOf(document.activeElement);
    before.replaceWith(cell);
    controls(cell)[place]?.focus();
  });
}

const controls = (cell) => [...cell.querySelectorAll("a, button, input")];

/** A table whose rows become cards on a narrow screen. `columns`: `{name, number, wide, cell(item)}`. */
export function table(caption, columns, { empty = "Nothing here.", keyOf = (item) => item.id, className } = {}) {
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: classOf(column) }, column.title ?? column.name)));
  const body = el("tbody");
  const nothing = el("p", { class: "empty" }, empty);
  const grid = el("table", { class: "cards" }, el("caption", { class: "visually-hidden" }, caption), el("thead", {}, head), body);
  const element = el("div", { class: "scroll" }, grid, nothing);
  return {
    element,
    body,
    show(items) {
      reconcile(body, items, keyOf, (item) => row(item, columns, className?.(item)));
      nothing.hidden = items.length > 0;
      grid.hidden = !items.length;
    },
  };
}

const classOf = (column) => [column.number && "number", column.wide && "wide", column.tick && "tick"].filter(Boolean).join(" ") || undefined;

function row(item, columns, className) {
  const cells = columns.map((column, index) => {
    const content = column.cell(item);
    const isHead = column.head ?? index === 0;
    return el(isHead ? "th" : "td", { class: classOf(column), scope: isHead ? "row" : undefined, "data-name": column.label ? column.name : undefined }, content);
  });
  return el("tr", { class: className }, cells);
}

export const pill = (kind, text = kind) => el("span", { class: "pill", "data-kind": kind }, text);
