/* The upstreams: what is under way, how often they fail, how fast they answer, and whether they are called at all. */

import { get } from "./api.js";
import { el, pill, table } from "./dom.js";
import { ago, count, percent, plural, quantile } from "./format.js";
import { live } from "./live.js";

const NONE = { counts: [] };

export function upstreams(root, _, signal) {
  const list = table("Upstreams", [
    { name: "Upstream", cell: ({ name, is_configured }) => el("span", {}, name || "default", is_configured ? null : el("span", { class: "quiet small" }, " (no longer configured)")) },
    { name: "Circuit", cell: ({ open, probe_in }) => (open ? pill("bad", probe_in ? `open, next try in ${Math.ceil(probe_in)} s` : "open") : pill("ok", "closed")) },
    { name: "Under way", number: true, label: true, cell: ({ in_use, max_concurrency }) => (max_concurrency ? `${count(in_use)} / ${count(max_concurrency)}` : count(in_use)) },
    { name: "Calls", number: true, label: true, cell: ({ calls }) => count(calls) },
    { name: "Failed", number: true, label: true, cell: ({ calls, failures }) => (failures ? `${count(failures)} (${percent((100 * failures) / calls)})` : "0") },
    { name: "429s", number: true, label: true, cell: ({ limited = 0 }) => count(limited) },
    { name: "Left of its limits", label: true, wide: true, cell: left },
    { name: "Last error", label: true, wide: true, cell: ({ last_error, last_error_at }) => (last_error ? el("span", {}, el("span", { class: "problem" }, last_error), el("span", { class: "quiet" }, ` ${ago(last_error_at)}`)) : "") },
    { name: "First token p50", number: true, label: true, cell: ({ first_token = NONE }) => quantile(first_token, 0.5) },
    { name: "p95", number: true, label: true, cell: ({ first_token = NONE }) => quantile(first_token, 0.95) },
    { name: "Gap p50", number: true, label: true, cell: ({ gap = NONE }) => quantile(gap, 0.5) },
    { name: "Gap p99", number: true, label: true, cell: ({ gap = NONE }) => quantile(gap, 0.99) },
  ], { empty: "No upstream is configured, and none was ever called.", keyOf: ({ name }) => name });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  root.append(el("h1", {}, "Upstreams"), problem, list.element, el("p", { class: "quiet small" }, "Calls, failures and times are totals of all workers since the first call."));
  let configured = null;

  /** What changes is in the snapshots; what is configured is asked for once. */
  function show() {
    if (!configured) return;
    const now = new Map((live.snapshot?.upstreams ?? []).map((each) => [each.name, each]));
    const more = [...now.values()].filter(({ name }) => !configured.some((each) => each.name === name));
    list.show([...configured.map((each) => ({ ...each, ...now.get(each.name) })), ...more]);
  }

  async function load() {
    try {
      configured = (await get("/upstreams", { signal })).data;
      problem.hidden = true;
      show();
    } catch (error) {
      if (signal.aborted) return;
      problem.hidden = false;
      problem.textContent = error.message;
    }
  }

  live.addEventListener("snapshot", show, { signal });
  live.addEventListener("refresh", load, { signal });
  load();
}

/** What is left of the upstream's limits, by its newest response. */
const left = ({ remaining: { requests = null, tokens = null } = {} }) =>
  [requests !== null && plural(requests, "request"), tokens !== null && plural(tokens, "token")].filter(Boolean).join(", ");
