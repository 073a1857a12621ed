/* <gap-strip>: when the slowest gaps were, and how long. <gap-histogram>: how long all gaps were. Both are made of
 * elements and not of pixels: each gap is a button, and the histogram is a table with bars. */

import { el, svg } from "./dom.js";
import { count, span } from "./format.js";

const STALL_S = 3;

class GapStrip extends HTMLElement {
  /** `gaps`: `{at, seconds, after}`, the longest first. `onPick(gap)` is called for the one that is clicked. */
  show({ gaps, from, to, onPick }) {
    const whole = Math.max(0.001, to - from);
    const longest = Math.max(...gaps.map(({ seconds }) => seconds), 0.001);
    const place = ({ at }) => Math.max(0, Math.min(99, (100 * (at - from)) / whole));
    const name = (gap) => `Gap of ${span(gap.seconds)}, ${span(Math.max(0, gap.at - from))} after the start`;
    const bars = gaps.map((gap) =>
      el("button", {
        type: "button", title: name(gap), "aria-label": name(gap), "data-stalled": gap.seconds > STALL_S, onclick: () => onPick(gap),
        style: { left: `${place(gap)}%`, width: `${Math.max(0.6, (100 * gap.seconds) / whole)}%`, height: `${12 + (88 * gap.seconds) / longest}%` },
      }),
    );
    const items = gaps.map((gap) => el("li", {}, el("button", { type: "button", onclick: () => onPick(gap) }, span(gap.seconds)), el("span", { class: "quiet" }, ` at +${span(Math.max(0, gap.at - from))}`)));
    this.replaceChildren(
      el("strong", {}, gaps.length ? `The ${gaps.length === 1 ? "slowest gap" : `${gaps.length} slowest gaps`}` : "No gap was measured"),
      el("div", { class: "strip" }, bars),
      el("div", { class: "spread small quiet" }, el("span", {}, "created"), el("span", {}, `+${span(whole)}`)),
      el("ol", {}, items),
    );
  }
}

class GapHistogram extends HTMLElement {
  /** `buckets`: `{count, up_to}`, without empty ones. */
  show(buckets) {
    const most = Math.max(...buckets.map((bucket) => bucket.count), 1);
    const rows = buckets.map((bucket) =>
      el("tr", {}, el("th", { scope: "row", class: "number" }, bucket.up_to === undefined || bucket.up_to === null ? "longer" : `≤ ${span(bucket.up_to)}`), el("td", { class: "number" }, count(bucket.count)),
        el("td", {}, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: Math.max(0.5, (100 * bucket.count) / most), height: 10, rx: 1 })))),
    );
    const head = el("tr", {}, ["Gap", "Count", ""].map((name, index) => (name ? el("th", { scope: "col", class: index < 2 ? "number" : undefined }, name) : el("td"))));
    this.replaceChildren(el("table", {}, el("caption", { class: "visually-hidden" }, "Gaps between two pieces of content, by length"), el("thead", {}, head), el("tbody", {}, rows)));
  }
}

customElements.define("gap-strip", GapStrip);
customElements.define("gap-histogram", GapHistogram);
