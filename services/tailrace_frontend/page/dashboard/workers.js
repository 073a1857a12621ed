/* The workers: what each runs and how fast; drain and stop. */

import { post, session } from "./api.js";
import { announce, confirm, once } from "./confirm.js";
import { el, pill, table } from "./dom.js";
import { bytes, count, plural, rate, span } from "./format.js";
import { live } from "./live.js";

export function workers(root, _, signal) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const columns = [
    { name: "Worker", cell: ({ id }) => el("a", { href: `/dashboard/generations?q=worker:${id}`, class: "mono", title: `${id}: its generations` }, id.slice(0, 8)) },
    { name: "State", cell: stateOf },
    { name: "Host", label: true, cell: ({ host, pid }) => `${host || "?"} (${pid || "?"})` },
    { name: "Running", label: true, cell: running },
    { name: "Tokens/s", number: true, label: true, cell: ({ tokens_per_second }) => rate(tokens_per_second) },
    { name: "Memory", number: true, label: true, cell: ({ rss_bytes }) => bytes(rss_bytes) },
    { name: "Up", number: true, label: true, cell: ({ started_at }) => (started_at ? span(Math.max(1, Math.floor(live.snapshot.at - started_at))) : "–") },
    { name: "Heartbeat", number: true, label: true, cell: ({ silent }) => `${Math.round(silent)} s ago` },
    { name: "Version", label: true, cell: ({ version }) => version },
    ...(session.mayOperate ? [{ name: "Actions", wide: true, cell: actions }] : []),
  ];
  const list = table("Workers", columns, { empty: "No worker is alive." });
  root.append(el("h1", {}, "Workers"), problem, list.element, el("p", { class: "quiet small" }, "A worker that drains takes no further generation, and stays. One that is stopped hands over what still runs after its drain time, and ends; its supervisor may start it again."));

  function actions(worker) {
    const name = worker.id.slice(0, 8);
    const button = (kind, word, options) => el("button", { type: "button", "aria-label": `${word} ${name}`, ...options, onclick: () => once(`${kind} ${name}`, () => act(worker, kind, word)).catch(fail) }, word);
    return el("div", { class: "row" }, button("drain", "Drain", { disabled: worker.draining }), button("stop", "Stop", { class: "danger" }));
  }

  async function act({ id, running }, kind, word) {
    const name = id.slice(0, 8);
    const what = kind === "drain" ? `It takes no further generation. ${plural(running, "generation")} of it ${running === 1 ? "runs" : "run"} on to the end.` : `It runs ${plural(running, "generation")}. What still runs after its drain time is handed over to other workers.`;
    if (!(await confirm(`${word} worker ${name}?`, what, `${word} worker`))) return;
    await post(`/workers/${encodeURIComponent(id)}/${kind}`);
    problem.hidden = true;
    announce(kind === "drain" ? `Worker ${name} drains.` : `Worker ${name} stops.`);
    live.refresh();
  }

  function fail(error) {
    problem.hidden = false;
    problem.textContent = error.message;
  }

  const show = () => live.snapshot && list.show(live.snapshot.workers);
  live.addEventListener("snapshot", show, { signal });
  show();
}

const stateOf = ({ id, draining }) => {
  const has = (badge) => live.snapshot.badges.some(({ code }) => code === `${badge}:${id}`);
  if (has("silent")) return pill("bad", "silent");
  if (draining) return pill("warning", "draining");
  return has("unready") ? pill("bad", "not ready") : pill("ok", "takes jobs");
};

const running = ({ running, slots }) => {
  const share = slots ? Math.min(100, (100 * running) / slots) : 0;
  return el("span", {}, el("span", { class: "meter", "aria-hidden": "true" }, el("span", { style: { width: `${share}%` } })), `${count(running)} / ${count(slots)}`);
};
