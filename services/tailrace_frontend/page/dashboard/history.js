/* The lines of the last hour or of three days, from the history that all processes write to Redis. */

import { get } from "./api.js";
import { chart } from "./chart.js";
import { el } from "./dom.js";
import { count, rate, span } from "./format.js";

const number = (value) => (value === null || value === undefined ? null : value);
const orDash = (format) => (value) => (value === null || value === undefined ? "–" : format(value));
const counted = (name) => ({ counts }) => counts[name] ?? 0;
const timed = (name, part) => ({ durations }) => number(durations[name]?.[part]);

/** Of each line: its name, and its value in a slot. */
const CHARTS = [
  ["Generations", count, [["created", counted("created")], ["completed", counted("ended:completed")], ["failed", counted("ended:failed")], ["cancelled", counted("ended:cancelled")]]],
  ["Tokens a second", rate, [["output", ({ counts, seconds }) => (counts.output ?? 0) / seconds], ["input", ({ counts, seconds }) => (counts.input ?? 0) / seconds]]],
  ["Load", rate, [["running", ({ means }) => means.running ?? 0], ["waiting, at most", ({ waiting_max }) => waiting_max], ["readers", ({ means }) => means.readers ?? 0]]],
  ["First token", span, [["p50", timed("ttft", "p50")], ["p95", timed("ttft", "p95")]]],
  ["First token p95: where the time goes", span, [["queue", timed("queue", "p95")], ["ours", timed("added", "p95")], ["upstream", timed("upstream_ttft", "p95")]]],
  ["Between tokens p95, delivery lag p99", span, [["between tokens", timed("itl", "p95")], ["delivery lag", timed("lag", "p99")]]],
  ["What went wrong", count, [["stalls", counted("stalls")], ["restarts", counted("restarts")], ["retries", counted("retries")], ["leases lost", counted("leases_lost")]]],
  ["Readers", count, [["opened", counted("opened")], ["gaps found", counted("gaps")], ["restarted", counted("readers_restarted")], ["asked to reconnect", counted("deferred")]]],
];

/** Draws the range (`hour`, `days`) into the holder. */
export async function drawHistory(holder, range, signal) {
  let found;
  try {
    found = await get(`/history?range=${range}`, { signal });
  } catch (error) {
    if (!signal.aborted) holder.replaceChildren(el("p", { class: "empty" }, error.message));
    return;
  }
  const { seconds, slots } = found;
  const times = slots.map(({ start }) => start + seconds);
  if (holder.dataset.range !== range || !holder.querySelector("time-chart")) {
    holder.replaceChildren(...CHARTS.map(([title, format, lines]) => chart({ title, series: lines.map(([name]) => ({ name, format: orDash(format) })) })), errors());
    holder.dataset.range = range;
  }
  const charts = holder.querySelectorAll("time-chart");
  CHARTS.forEach(([, , lines], index) => charts[index].show([times, ...lines.map(([, value]) => slots.map(value))], { withDate: range === "days" }));
  showErrors(holder.querySelector(".errors tbody"), slots);
}

const errors = () => el("div", { class: "scroll errors" }, el("table", {}, el("caption", { class: "quiet" }, "Failures by code"), el("tbody")));

function showErrors(body, slots) {
  const totals = new Map();
  for (const { counts } of slots) {
    for (const [name, value] of Object.entries(counts)) {
      if (name.startsWith("failed:")) totals.set(name.slice(7), (totals.get(name.slice(7)) ?? 0) + value);
    }
  }
  const rows = [...totals].sort((one, other) => other[1] - one[1]).slice(0, 12);
  body.replaceChildren(...rows.map(([code, value]) => el("tr", {}, el("th", { scope: "row" }, code === "other" ? code : el("a", { href: `/dashboard/generations?q=error:${code}` }, code)), el("td", { class: "number" }, count(value)))));
  if (!rows.length) body.append(el("tr", {}, el("td", { class: "quiet" }, "none")));
}
