/* The overview: figures of now, lines of the last minutes or days, and the newest generations. */

import { get } from "./api.js";
import { chart, columnsOf } from "./chart.js";
import { el, table, template } from "./dom.js";
import { bytes, count, percent, plural, rate, span } from "./format.js";
import { COLUMNS } from "./generations.js";
import { drawHistory } from "./history.js";
import { live } from "./live.js";

const NEWEST = 10;

export function overview(root, _, signal) {
  root.append(template("overview"));
  const tiles = root.querySelector(".tiles");
  const newest = table("Newest generations", COLUMNS, { empty: "No generation is kept." });
  root.querySelector(".newest").append(newest.element);
  const charts = [
    chart({ title: "Generations", series: [{ name: "running", format: count }, { name: "waiting", format: count }] }),
    chart({ title: "Tokens a second", series: [{ name: "tokens/s", format: rate }] }),
    chart({ title: "Commands a second", series: [{ name: "Redis", format: count }] }),
  ];
  const holder = root.querySelector(".charts");
  const range = root.querySelector("#range");
  let listedAt = 0;
  let drawnAt = 0;

  function drawRange() {
    drawnAt = Date.now();
    drawHistory(holder, range.value, signal);
  }

  function showLive() {
    if (!holder.contains(charts[0])) {
      holder.replaceChildren(...charts);
      delete holder.dataset.range;
    }
    const [at, waiting, running, tokens, commands] = columnsOf(live.recent, 7);
    charts[0].show([at, running, waiting]);
    charts[1].show([at, tokens]);
    charts[2].show([at, commands]);
  }

  function show() {
    const { snapshot } = live;
    if (!snapshot) return;
    showTiles(tiles, snapshot);
    if (range.value === "live") showLive();
    else if (Date.now() - drawnAt > 10_000) drawRange();
    if (Date.now() - listedAt > 2000) {
      listedAt = Date.now();
      get(`/generations?limit=${NEWEST}`, { signal }).then(({ data }) => newest.show(data)).catch(() => {});
    }
  }

  range.addEventListener("change", () => (range.value === "live" ? showLive() : drawRange()));
  live.addEventListener("snapshot", show, { signal });
  live.addEventListener("refresh", () => (listedAt = 0), { signal });
  show();
}

function showTiles(root, snapshot) {
  const [server] = snapshot.servers;
  const taking = snapshot.workers.filter(({ draining }) => !draining).length;
  const figures = [
    ["Waiting", count(snapshot.waiting), snapshot.parked ? `${count(snapshot.parked)} parked` : snapshot.waiting ? `longest ${span(snapshot.waited)}` : "nothing waits"],
    ["Running", count(snapshot.running), `of ${plural(snapshot.slots, "slot")}`],
    ["Tokens/s", rate(snapshot.tokens_per_second), "all workers"],
    ["Workers", count(snapshot.workers.length), !snapshot.workers.length ? "none is alive" : taking === snapshot.workers.length ? "all take jobs" : `${taking} take jobs`],
    ["Readers", count(snapshot.readers), "of this frontend"],
    ["Memory", server.memory_limit ? (server.percent < 1 ? "< 1 %" : percent(server.percent)) : bytes(server.memory), server.memory_limit ? `${bytes(server.memory)} of Redis` : "of Redis, no limit"],
    ["Commands/s", count(server.commands_per_second), plural(server.clients, "connection")],
  ];
  const shown = figures.map(([name, value, more]) => el("dl", { class: "tile" }, el("dt", {}, name), el("dd", {}, value), el("dd", {}, more)));
  for (const each of shown) each.style.setProperty("margin", "0");
  root.replaceChildren(...shown);
}
