/* The callers: those with limits of their own, those that are blocked, and those that the newest generations have. */

import { get, request, session } from "./api.js";
import { announce, confirm, once } from "./confirm.js";
import { el, pill, table } from "./dom.js";
import { count, cost } from "./format.js";
import { live } from "./live.js";

const shown = (value) => (value === null || value === undefined ? "" : count(value));

export function callers(root, _, signal) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const columns = [
    { name: "Caller", cell: ({ name }) => el("a", { href: `/dashboard/generations?q=owner:${name}` }, name) },
    { name: "State", cell: ({ blocked, reason }) => (blocked ? el("span", { title: reason }, pill("bad", "blocked"), reason ? ` ${reason}` : "") : pill("ok", "served")) },
    { name: "Running", number: true, label: true, cell: ({ running, max_running }) => (max_running ? `${shown(running) || "0"} / ${count(max_running)}` : shown(running)) },
    { name: "Weight", number: true, label: true, cell: ({ weight }) => shown(weight) },
    { name: "Requests/min", number: true, label: true, cell: ({ requests_per_minute }) => shown(requests_per_minute) },
    { name: "Tokens/min", number: true, label: true, cell: ({ tokens_per_minute }) => shown(tokens_per_minute) },
    { name: "Budget a day", number: true, label: true, cell: ({ budget_day_usd }) => (budget_day_usd === undefined || budget_day_usd === null ? "" : cost(budget_day_usd)) },
    ...(session.mayOperate ? [{ name: "Actions", wide: true, cell: action }] : []),
  ];
  const list = table("Callers", columns, { empty: "No caller is known.", keyOf: ({ name }) => name });
  root.append(el("h1", {}, "Callers"), problem, list.element, el("p", { class: "quiet small" }, "Callers that have a policy, that are blocked, or that own one of the newest generations. A blocked caller's streams end, and its requests are refused."));

  function action({ name, blocked }) {
    const word = blocked ? "Unblock" : "Block";
    return el("button", { type: "button", class: blocked ? "" : "danger", "aria-label": `${word} ${name}`, onclick: () => once(() => act(name, blocked)).catch(fail) }, word);
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

  /** What this server does not have is left out. */
  const part = (path) => get(path, { signal }).catch((error) => (error.status === 404 ? { data: [] } : Promise.reject(error)));

  async function load() {
    try {
      const [blocks, newest] = await Promise.all([part("/blocks"), part("/generations?limit=100")]);
      const all = new Map();
      const add = (name, more) => all.set(name, { ...all.get(name), name, ...more });
      for (const { owner } of newest.data) add(owner, {});
      for (const { caller, reason } of blocks.data) add(caller, { blocked: true, reason });
      list.show([...all.values()].sort((one, other) => one.name.localeCompare(other.name)));
      problem.hidden = true;
    } catch (error) {
      if (!signal.aborted) fail(error);
    }
  }

  live.addEventListener("refresh", load, { signal });
  load();
}

