/* The timeline as bars: the wait, then each attempt, with the requests that failed as marks. */

import { el } from "./dom.js";
import { count, plural, span } from "./format.js";

/** `history`: of `…/timeline`; `now`: epoch seconds by Redis' clock. */
export function waterfall(history, detail, now) {
  const from = history.created_at;
  const to = Math.max(detail.ended_at ?? now, from + 0.001);
  const whole = to - from;
  const place = (at) => Math.max(0, Math.min(100, (100 * (at - from)) / whole));
  const bar = (kind, begin, end, title) => el("i", { "data-kind": kind, title, style: { left: `min(${place(begin)}%, 100% - 3px)`, width: `${Math.max(0, place(end) - place(begin))}%` } });
  const { attempts } = history;
  const began = attempts.map((attempt) => attempt.began_at);
  const first = began.find((at) => at) ?? to;
  const rows = [line("Waited", [bar("wait", from, first)], span(first - from), attempts.length ? "in the queue" : detail.position ? `place ${count(detail.position)} in the queue` : "")];
  attempts.forEach((attempt, index) => {
    const begin = attempt.began_at;
    const next = began.slice(index + 1).find((at) => at);
    const end = next ?? to;
    const isLast = index === attempts.length - 1;
    const isLost = !isLast || detail.status === "failed";
    const bars = begin ? [bar(isLost ? "lost" : "run", begin, end)] : [];
    const tokenAt = from + (history.timings.first_token ?? Infinity);
    if (begin && tokenAt >= begin && tokenAt <= end) bars.push(bar("mark", tokenAt, tokenAt, "first token"));
    for (const failed of history.stream.failed ?? []) {
      const at = from + failed.at;
      if (begin && at >= begin && at <= end) bars.push(bar("mark", at, at, `request failed: ${failed.code}`));
    }
    const who = attempt.worker ? ` on ${attempt.worker}` : "";
    const what = attempt.entries ? `, ${plural(attempt.entries, "entry", "entries")}` : "";
    rows.push(line(`Attempt ${attempt.attempt}${who}`, bars, begin ? span(end - begin) : "–", `${attempt.ended || "runs"}${what}`));
  });
  return el("div", { class: "waterfall" }, el("ol", {}, rows));
}

const line = (name, bars, length, why) =>
  el("li", {}, el("span", {}, name), el("span", { class: "track", "aria-hidden": "true" }, bars), el("span", { class: "why" }, length, el("span", { class: "quiet" }, why ? ` · ${why}` : "")));
