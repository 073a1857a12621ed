/* <time-chart>: lines over time by uPlot, and the same as a table, because a canvas cannot be read aloud. */

import { el, setText } from "./dom.js";
import { moment, time } from "./format.js";

const HEIGHT = 140;
const ROWS = 30;
const KEYS = ["--accent", "--warn", "--blue", "--bad"];
const SHORTEST_S = 60;

const colours = () => {
  const style = getComputedStyle(document.documentElement);
  const probe = document.body.appendChild(el("i", { hidden: true }));
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const found = { line: read("--line"), quiet: read("--quiet"), keys: KEYS.map(read), font: style.fontFamily };
  probe.remove();
  return found;
};

class TimeChart extends HTMLElement {
  #plot = null;
  #data = null;
  #resize = new ResizeObserver(() => this.#plot?.setSize({ width: this.#canvas.clientWidth, height: HEIGHT }));
  #canvas = el("div", { class: "canvas", "aria-hidden": "true" });
  #latest = el("span", { class: "quiet small" });
  #body = el("tbody");

  /** `series`: `[{name, format}]`. */
  setup({ title, series }) {
    this.title_ = title;
    this.series = series;
    const names = series.map(({ name }, index) => el("span", { style: { "--key": `var(${KEYS[index]})` } }, name));
    const head = el("tr", {}, ["Time", ...series.map(({ name }) => name)].map((name, index) => el("th", { scope: "col", class: index ? "number" : undefined }, name)));
    this.details = el("details", { ontoggle: () => this.#fillTable() }, el("summary", {}, "Table"), el("div", { tabIndex: 0, role: "region", "aria-label": `${title}: values` }, el("table", {}, el("caption", { class: "visually-hidden" }, title), el("thead", {}, head), this.#body)));
    this.replaceChildren(
      el("figure", {}, el("figcaption", {}, el("strong", {}, title), this.#latest), this.#canvas, el("p", { class: "keys" }, names)),
      this.details,
    );
    return this;
  }

  connectedCallback() {
    this.#resize.observe(this.#canvas);
    this.onTheme = () => this.#draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.onTheme);
    addEventListener("themechange", this.onTheme);
    if (this.#data) this.#draw();
  }

  disconnectedCallback() {
    this.#resize.disconnect();
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.onTheme);
    removeEventListener("themechange", this.onTheme);
    this.#plot?.destroy();
    this.#plot = null;
  }

  /** `data`: columns, the first one epoch seconds. */
  show(data, { withDate = false } = {}) {
    this.#data = data;
    this.withDate = withDate;
    const last = data[0].length - 1;
    const text = this.series.map(({ name, format }, index) => `${name} ${format(data[index + 1][last])}`).join(", ");
    setText(this.#latest, last < 0 ? "" : text);
    if (this.#plot) this.#plot.setData(data);
    else if (this.isConnected) this.#draw();
    if (this.details.open) this.#fillTable();
  }

  #draw() {
    if (!this.#data || !this.isConnected) return;
    this.#plot?.destroy();
    const { line, quiet, keys, font } = colours();
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: `12px ${font}` };
    const { format } = this.series[0];
    const least = format(1) === "1" ? 1 : 0.01; // of counts, and of times
    const zoned = (value) => (this.withDate ? new Date(value * 1000).toLocaleTimeString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" }) : new Date(value * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }));
    this.#plot = new uPlot(
      {
        width: this.#canvas.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        padding: [8, 30, 0, 0],
        scales: { x: { range: (_, low, high) => [Math.min(low ?? 0, (high ?? 1) - SHORTEST_S), high ?? 1] }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(least, (high ?? 0) * 1.1)] } },
        axes: [{ ...axis, size: 26, space: this.withDate ? 90 : 80, values: (_, ticks) => ticks.map(zoned) }, { ...axis, size: 52, values: (_, ticks) => ticks.map((value) => format(value)) }],
        series: [{}, ...this.series.map(({ name }, index) => ({ label: name, stroke: keys[index], width: 1.75, fill: index ? undefined : keys[0].replace("rgb(", "rgba(").replace(")", ", 0.1)"), points: { size: 6, show: (plot, place) => plot.data[place].filter((value) => value !== null).length < 3 } }))],
      },
      this.#data,
      this.#canvas,
    );
  }

  #fillTable() {
    if (!this.details.open || !this.#data) return;
    const [times, ...columns] = this.#data;
    const step = Math.max(1, Math.ceil(times.length / ROWS));
    const rows = [];
    for (let index = times.length - 1; index >= 0; index -= step) {
      const cells = columns.map((column, place) => el("td", { class: "number" }, this.series[place].format(column[index])));
      rows.push(el("tr", {}, el("th", { scope: "row" }, this.withDate ? moment(times[index]) : time(times[index])), cells));
    }
    this.#body.replaceChildren(...rows);
  }
}

customElements.define("time-chart", TimeChart);

export const chart = (options) => document.createElement("time-chart").setup(options);

/** Rows as columns. */
export const columnsOf = (rows, width) => Array.from({ length: width }, (_, index) => rows.map((row) => row[index]));
