/* The callers: what each may, and what each uses; their limits, block and unblock. */

import { get, request, session } from "./api.js";
import { announce, confirm, isAsking, once } from "./confirm.js";
import { el, pill, table } from "./dom.js";
import { count, cost } from "./format.js";
import { live } from "./live.js";
import { editPolicy } from "./policy.js";

const of = (used, limit) => (limit ? `${count(used)} / ${count(limit)}` : count(used));
const shown = (value) => (value === null || value === undefined ? "" : count(value));

export function callers(root, _, signal) {
  let loadedAt = 0;
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const columns = [
    { name: "Caller", cell: ({ name }) => el("a", { href: `/dashboard/generations?q=owner:${name}` }, name) },
    { name: "State", cell: ({ blocked, reason }) => (blocked ? el("span", { title: reason }, pill("bad", "blocked"), reason ? ` ${reason}` : "") : pill("ok", "served")) },
    { name: "Running", number: true, label: true, cell: ({ use, limits }) => of(use.running, limits.max_running) },
    { name: "Waiting", number: true, label: true, cell: ({ use }) => count(use.waiting) },
    { name: "Readers", number: true, label: true, cell: ({ use }) => count(use.readers) },
    { name: "Weight", number: true, label: true, cell: ({ limits }) => shown(limits.weight) },
    { name: "Requests/min", number: true, label: true, cell: ({ limits }) => shown(limits.requests_per_minute) || "any" },
    { name: "Tokens/min", number: true, label: true, cell: ({ use, limits }) => of(use.tokens_this_minute, limits.tokens_per_minute) },
    { name: "Tokens today", number: true, label: true, cell: ({ use, limits }) => of(use.day.tokens, limits.budget_day_tokens) },
    { name: "This month", number: true, label: true, cell: ({ use, limits }) => of(use.month.tokens, limits.budget_month_tokens) },
    { name: "Cost today", number: true, label: true, cell: ({ use, limits }) => (limits.budget_day_usd ? `${cost(use.day.usd)} / ${cost(limits.budget_day_usd)}` : cost(use.day.usd)) },
    ...(session.mayOperate ? [{ name: "Actions", wide: true, cell: action }] : []),
  ];
  const list = table("Callers", columns, { empty: "No caller is known.", keyOf: ({ name }) => name });
  root.append(el("h1", {}, "Callers"), problem, list.element, el("p", { class: "quiet small" }, "Callers that have a key or a policy, and blocked ones; the first 100 by name. A blocked caller's streams end, and its requests are refused."));

  function action({ name, blocked }) {
    const word = blocked ? "Unblock" : "Block";
    const edit = el("button", { type: "button", "aria-label": `Limits of ${name}`, onclick: () => once(`limits ${name}`, async () => (await editPolicy(await get(`/callers/${encodeURIComponent(name)}`, { signal }))) && load()).catch(fail) }, "Limits");
    const block = el("button", { type: "button", class: blocked ? "" : "danger", "aria-label": `${word} ${name}`, onclick: () => once(`${word} ${name}`, () => act(name, blocked)).catch(fail) }, word);
    return el("div", { class: "row" }, edit, block);
  }

  async function act(name, blocked) {
    const text = blocked ? "Its requests are served again." : "Its streams end now, and its requests are refused until it is unblocked. What runs is not cancelled.";
    if (!(await confirm(`${blocked ? "Unblock" : "Block"} 1 caller?`, `${name}: ${text}`, blocked ? "Unblock it" : "Block it"))) return;
    await request(blocked ? "DELETE" : "PUT", `/blocks/${encodeURIComponent(name)}`, blocked ? {} : { body: { reason: "" } });
    problem.hidden = true;
    announce(`${name} is ${blocked ? "served again" : "blocked"}.`);
    await load();
  }

  function fail(error) {
    problem.hidden = false;
    problem.textContent = error.message;
  }

  async function load() {
    loadedAt = Date.now();
    try {
      const [known, blocks] = await Promise.all([get("/callers?limit=100", { signal }), get("/blocks", { signal })]);
      const reasons = new Map(blocks.data.map(({ caller, reason }) => [caller, reason]));
      list.show(known.data.map((each) => ({ ...each, reason: reasons.get(each.name) })));
      problem.hidden = true;
    } catch (error) {
      if (!signal.aborted) fail(error);
    }
  }

  live.addEventListener("snapshot", () => Date.now() - loadedAt > 1800 && !isAsking() && load(), { signal });
  live.addEventListener("refresh", load, { signal });
  load();
}

