/* The generations of all owners: search, pages, selection. The address has the search, so it can be sent to others. */

import { get, post, session } from "./api.js";
import { announce, confirm, isAsking, once } from "./confirm.js";
import { el, pill, table, template } from "./dom.js";
import { ago, count, plural, shortId, span } from "./format.js";
import { live } from "./live.js";

const STATUSES = ["", "queued", "running", "completed", "failed", "cancelled", "incomplete"];
const ID = /^(gen_|chatcmpl-|resp_)[a-z2-7]{26}$/;

const duration = ({ created_at, ended_at }) => (ended_at ? span(ended_at - created_at) : "");

export const COLUMNS = [
  { name: "Generation", cell: ({ id }) => el("a", { href: `/dashboard/generations/${id}`, class: "mono", title: id }, shortId(id)) },
  { name: "Status", cell: ({ status }) => pill(status) },
  { name: "Model", cell: ({ model }) => el("span", { class: "cut", title: model }, model) },
  { name: "Owner", label: true, cell: ({ owner }) => owner },
  { name: "Created", label: true, cell: ({ created_at }) => ago(created_at) },
  { name: "Took", number: true, label: true, cell: duration },
  { name: "Tokens", number: true, label: true, cell: ({ tokens }) => (tokens === null ? "" : count(tokens)) },
  { name: "Attempts", number: true, label: true, cell: ({ attempt }) => (attempt > 1 ? String(attempt) : "") },
  { name: "Error or prompt", wide: true, cell: ({ error, preview }) => (error ? el("span", { class: "problem" }, error) : preview ? el("span", { class: "cut quiet", title: preview }, preview) : "") },
];

export function generations(root, _, signal) {
  root.append(template("generations"));
  const input = root.querySelector("#q");
  const acting = root.querySelector(".acting");
  const chosen = new Map();
  const parameters = new URLSearchParams(location.search);
  const q = parameters.get("q") ?? "";
  const after = parameters.get("after") ?? "";
  let rows = [];
  let loadedAt = 0;
  let pointedAt = 0;
  input.value = q;

  const tick = {
    name: "Select", title: el("span", { class: "visually-hidden" }, "Select"), tick: true, head: false,
    cell: (row) => el("input", { type: "checkbox", "aria-label": `Select ${row.id}`, checked: chosen.has(row.id), onchange: (event) => choose(row, event.target.checked) }),
  };
  const columns = session.mayOperate ? [tick, { ...COLUMNS[0], head: true }, ...COLUMNS.slice(1)] : COLUMNS;
  const list = table("Generations", columns, { empty: "No generation matches.", className: ({ id }) => (chosen.has(id) ? "chosen" : undefined) });
  root.querySelector(".rows").append(list.element);
  if (session.mayOperate) {
    list.element.querySelector("th.tick").replaceChildren(
      el("input", { type: "checkbox", "aria-label": "Select all of this page", onchange: ({ target }) => rows.forEach((row) => choose(row, target.checked)) }),
    );
  }

  const outcome = el("p", { class: "outcome quiet", hidden: true });
  acting.after(outcome);

  /** Shows how an action has ended, until the next one. */
  function report(text) {
    outcome.hidden = false;
    outcome.textContent = text;
    announce(text);
  }

  function choose(row, isChosen) {
    if (isChosen) chosen.set(row.id, row);
    else chosen.delete(row.id);
    acting.hidden = !chosen.size;
    acting.querySelector("span").textContent = `${plural(chosen.size, "generation")} selected`;
    for (const box of list.body.querySelectorAll("input")) {
      const id = box.closest("tr").dataset.key;
      box.checked = chosen.has(id);
      box.closest("tr").classList.toggle("chosen", chosen.has(id));
    }
  }

  async function load() {
    loadedAt = Date.now();
    const query = new URLSearchParams({ ...(q && { q }), ...(after && { after }) });
    const problem = root.querySelector(".rows").previousElementSibling;
    try {
      const found = await get(`/generations?${query}`, { signal });
      problem.hidden = true;
      if (found.id) return go(`/dashboard/generations/${found.id}`);
      rows = found.data;
      list.show(rows);
      choose({}, false);
      showPages(found);
    } catch (error) {
      if (signal.aborted) return;
      problem.hidden = false;
      problem.textContent = error.message;
    }
  }

  function showPages({ after: next, looked_at, is_cut }) {
    const searched = `${plural(looked_at, "generation")} looked at${is_cut ? ": the newest that one search may" : ""}`;
    root.querySelector(".counted").textContent = q || is_cut ? searched : "";
    const address = (cursor) => `/dashboard/generations?${new URLSearchParams({ ...(q && { q }), ...(cursor && { after: cursor }) })}`;
    root.querySelector(".pages").replaceChildren(
      ...[after && el("a", { href: address("") }, "Newest"), next && el("a", { href: address(next), rel: "next" }, is_cut ? "Search on" : "Older")].filter(Boolean),
    );
  }

  async function act(kind) {
    const picked = [...chosen.values()];
    const ids = picked.map(({ id }) => id);
    const running = picked.filter(({ status }) => ["running", "queued"].includes(status)).length;
    const verb = kind === "cancel" ? "Cancel" : "Delete";
    const text = kind === "cancel" ? `${plural(running, "one", "of them")} had not ended when the list was read. Readers get what was written so far.` : `Their texts are gone for good; ${count(running)} had not ended and would be cancelled first.`;
    if (!(await confirm(`${verb} ${plural(ids.length, "generation")}?`, text, `${verb} ${count(ids.length)}`))) return;
    const result = await post(`/generations/${kind}`, { ids });
    chosen.clear();
    choose({}, false);
    report(`${count(result.done)} ${kind === "cancel" ? "cancelled" : "deleted"}, ${count(result.unchanged)} unchanged, ${count(result.missing)} missing, ${count(result.failed)} failed.`);
    await load();
  }

  acting.addEventListener("click", ({ target }) => {
    const kind = target.dataset.act;
    if (kind === "none") [...chosen.values()].forEach((row) => choose(row, false));
    else if (kind) once("act", () => act(kind)).catch((error) => report(error.message));
  });
  root.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    search(input.value.trim());
  });
  input.addEventListener("paste", (event) => {
    const pasted = event.clipboardData.getData("text").trim();
    if (!ID.test(pasted)) return;
    event.preventDefault();
    search(pasted);
  });
  showChips(root.querySelector(".chips"), q);
  // A list that somebody points at or selects from must not move under the hand.
  root.querySelector(".rows").addEventListener("pointermove", () => (pointedAt = Date.now()));
  const isInUse = () => after || chosen.size || isAsking() || Date.now() - pointedAt < 2000;
  live.addEventListener("snapshot", () => !isInUse() && Date.now() - loadedAt > 1800 && load(), { signal });
  live.addEventListener("refresh", load, { signal });
  load();
}

const go = (address) => dispatchEvent(new CustomEvent("navigate-to", { detail: address }));
const search = (q) => go(`/dashboard/generations${q && `?${new URLSearchParams({ q })}`}`);

function showChips(root, q) {
  const others = q.split(/\s+/).filter((word) => word && !word.startsWith("status:"));
  const now = /(?:^|\s)status:(\S+)/.exec(q)?.[1] ?? "";
  root.replaceChildren(
    ...STATUSES.map((status) =>
      el("button", { type: "button", "aria-pressed": String(status === now), onclick: () => search([...others, ...(status ? [`status:${status}`] : [])].join(" ")) }, status || "all"),
    ),
  );
}
