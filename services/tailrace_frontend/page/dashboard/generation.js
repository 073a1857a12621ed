/* One generation: its text while it is written, its timeline, gaps, usage and cost, and what can be done with it. */

import { get, post, remove, session } from "./api.js";
import { announce, confirm, once } from "./confirm.js";
import { el, pill, table, template } from "./dom.js";
import { ago, cost, count, moment, plural, span, time } from "./format.js";
import { live } from "./live.js";
import { waterfall } from "./waterfall.js";
import "./gaps.js";
import "./readers.js";
import "./text.js";

const REFRESH_MS = 1800;

export function generation(root, id, signal) {
  root.append(template("generation"));
  const $ = (selector) => root.querySelector(selector);
  $("h1").textContent = id;
  const strip = document.createElement("gap-strip");
  const histogram = document.createElement("gap-histogram");
  const text = document.createElement("live-text");
  const readers = document.createElement("reader-list");
  let detail = null;
  let history = null;
  let loadedAt = 0;
  let isGone = false;

  $(".text > div").append(session.hasContent ? text : el("p", { class: "quiet" }, "Prompts and outputs are hidden: your key lacks the scope admin:content."));
  $(".gaps > div").className = "two";
  $(".gaps > div").append(strip, histogram);
  $(".readers > div").append(readers);
  for (const button of root.querySelectorAll("[data-act]")) {
    const { act: kind } = button.dataset;
    button.hidden = (["rerun", "cancel", "delete"].includes(kind) && !session.mayOperate) || (kind === "log" && !session.hasContent);
    button.addEventListener("click", () => once(kind, () => act(kind)).catch(fail));
  }

  function fail(error) {
    if (signal.aborted) return;
    $(".problem").hidden = false;
    $(".problem").textContent = error.message;
    announce(error.message);
  }

  async function load() {
    loadedAt = Date.now();
    const before = detail;
    try {
      detail = await get(`/generations/${id}`, { signal });
    } catch (error) {
      if (error.status === 404 || error.status === 410) showGone();
      return fail(error);
    }
    showSummary();
    showFacts();
    showGaps(detail.stream);
    readers.load(id, detail.seq, signal).catch(fail);
    if (!before && session.hasContent) text.read(id, { onRestart: loadSoon, onEnd: loadSoon });
    if (!history || before?.attempt !== detail.attempt || before?.status !== detail.status) await loadHistory();
    else showHistory();
  }

  /** There is nothing to act on, and nothing to ask for again. */
  function showGone() {
    isGone = true;
    $(".summary").replaceChildren(pill("bad", "gone"));
    for (const part of root.querySelectorAll("[data-act], section, .facts")) part.hidden = true;
  }

  function loadSoon() {
    setTimeout(() => !signal.aborted && load(), 150);
  }

  async function loadHistory() {
    try {
      history = await get(`/generations/${id}/timeline`, { signal });
    } catch (error) {
      return fail(error);
    }
    showSummary();
    showHistory();
    showDetails();
  }

  function showSummary() {
    const { status, model, owner, created_at, ended_at, failure, error, position } = detail;
    const isFinal = !["queued", "running"].includes(status);
    $(".summary").replaceChildren(
      pill(status), ...badges(), el("span", { class: "mono" }, model), el("span", {}, "by ", el("a", { href: `/dashboard/generations?q=owner:${owner}` }, owner)),
      el("span", { class: "quiet" }, `${moment(created_at)}, ${ago(created_at)}${ended_at ? `, took ${span(ended_at - created_at)}` : ""}`),
      position ? el("span", { class: "quiet" }, `place ${count(position)} in the queue`) : "",
      error ? el("strong", { class: "problem" }, error + (failure?.message ? `: ${failure.message}` : "")) : "",
    );
    $("[data-act=cancel]").disabled = isFinal;
  }

  /** What went wrong on the way, though it may have ended well. */
  function badges() {
    const ended = (history?.attempts ?? []).map((attempt) => attempt.ended ?? "");
    const counts = [
      ["lease lost", ended.filter((why) => why === "worker_lost" || why.startsWith("lost")).length],
      ["restarted", ended.filter((why) => why === "worker_lost" || why.startsWith("upstream_")).length],
      ["continued", ended.filter((why) => why.startsWith("interrupted")).length],
      ["handed over", detail.handovers],
    ];
    return counts.filter(([, times]) => times).map(([what, times]) => pill("warning", times > 1 ? `${what} ${count(times)} times` : what));
  }

  function showFacts() {
    const { timings: t, stream: s, usage, upstream } = detail;
    const facts = [
      ["Waited in the queue", t.queue, span], ["First token", t.first_token, span], ["Between tokens p50", t.between_tokens_p50, span],
      ["p95", t.between_tokens_p95, span], ["Longest gap", t.between_tokens_max, span], ["Total", t.total, span],
      ["Tokens a second", s.tokens_per_second, (value) => value.toFixed(1)], ["Input tokens", usage?.prompt_tokens, count],
      ["Output tokens", usage?.completion_tokens ?? detail.tokens, count], ["Cost", detail.cost, cost], ["Pieces of content", s.chunks, count],
      ["Attempts", detail.attempt, count], ["Retries", s.retries, count], ["Stalls", s.stalls, count], ["Worker", detail.worker?.slice(0, 8), String],
      ["Upstream", upstream.name || upstream.model, String], ["Kept until", detail.expires_at, time],
      ["Tags", detail.tags?.join(", "), String], ["Trace", detail.trace, ({ id: trace, url }) => (url ? el("a", { href: url, rel: "noreferrer", target: "_blank" }, trace.slice(0, 12)) : el("span", { class: "mono", title: trace }, trace.slice(0, 12)))],
    ];
    const shown = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
    $(".facts").replaceChildren(...shown.map(([name, value, format]) => el("div", {}, el("dt", {}, name), el("dd", {}, format(value)))));
  }

  function showGaps(stream) {
    const gaps = stream.slowest ?? [];
    const to = Math.max(detail.ended_at ?? live.snapshot?.at ?? Date.now() / 1000, ...gaps.map(({ at, seconds }) => at + seconds));
    strip.show({ gaps, from: detail.created_at, to, onPick });
    histogram.show(stream.gaps ?? []);
    histogram.hidden = !stream.gaps?.length;
    $(".gaps").hidden = !gaps.length;
  }

  function onPick(gap) {
    const offset = history?.offsets[gap.after];
    announce(`Gap of ${span(gap.seconds)} after ${gap.after}.`);
    if (session.hasContent && offset !== undefined) text.scrollToOffset(offset);
  }

  const showHistory = () => history && $(".timeline > div").replaceChildren(waterfall(history, detail, live.snapshot?.at ?? Date.now() / 1000));

  function showDetails() {
    const moments = table("Events of the log", [
      { name: "Time", number: true, cell: ({ at }) => (at ? `+${span(Math.max(0, at - detail.created_at))}` : "") },
      { name: "Event", cell: ({ what, seconds }) => (seconds ? `gap of ${span(seconds)}` : what) },
      { name: "Detail", cell: ({ detail: more }) => more ?? "" },
      { name: "Entry", wide: true, cell: ({ entry }) => el("span", { class: "mono quiet" }, entry) },
    ], { keyOf: ({ entry, what, at }) => `${entry} ${what} ${at}` });
    moments.show(history.timeline.slice(0, 200));
    const sizes = table("Entries by kind", [
      { name: "Kind", cell: ({ kind }) => kind }, { name: "Entries", number: true, label: true, cell: ({ entries }) => count(entries) },
      { name: "Bytes", number: true, label: true, cell: ({ bytes }) => (bytes === undefined ? "" : count(bytes)) },
      { name: "p50", number: true, label: true, cell: ({ p50 }) => p50 ?? "" }, { name: "p95", number: true, label: true, cell: ({ p95 }) => p95 ?? "" }, { name: "Max", number: true, label: true, cell: ({ max }) => max ?? "" },
    ], { keyOf: ({ kind }) => kind });
    sizes.show(history.entries);
    const opened = new Set([...root.querySelectorAll(".details details[open]")].map((part) => part.dataset.name));
    $(".details > div").replaceChildren(
      part("events", `${plural(history.timeline.length, "event")} of the log`, moments.element), part("entries", "Entries by kind and size", sizes.element),
      part("options", "Options", el("pre", {}, JSON.stringify(detail.options, null, 2))), session.hasContent ? request() : "",
    );
    for (const each of root.querySelectorAll(".details details")) each.open = opened.has(each.dataset.name);
  }

  const part = (name, title, content) => el("details", { class: "part", "data-name": name }, el("summary", {}, title), el("div", { tabIndex: 0, role: "region", "aria-label": title }, content));

  function request() {
    const shown = el("pre", {}, "…");
    const element = part("request", "Request", shown);
    element.addEventListener("toggle", async () => {
      if (!element.open || shown.textContent !== "…") return;
      const content = await get(`/generations/${id}/content`, { signal }).catch((error) => ({ request: error.message }));
      shown.textContent = JSON.stringify(content.request, null, 2);
    });
    return element;
  }

  async function act(kind) {
    if (kind === "copy") await copy(id, "The id");
    else if (kind === "curl") await copy(`curl -H "Authorization: Bearer $TAILRACE_KEY" ${location.origin}/v1/admin/generations/${id}`, "The command");
    else if (kind === "download") await download();
    else if (kind === "log") el("a", { href: `/v1/admin/generations/${id}/log`, download: `${id}.ndjson` }).click();
    else if (kind === "rerun") await rerun();
    else if (kind === "cancel") {
      if (!(await confirm("Cancel 1 generation?", "It ends now. Readers get what was written so far.", "Cancel it"))) return;
      await post(`/generations/${id}/cancel`);
      announce("The generation is cancelled.");
      await load();
    } else if (kind === "delete") {
      if (!(await confirm("Delete 1 generation?", "Its text is gone for good, for its caller as well.", "Delete it"))) return;
      await remove(`/generations/${id}`);
      announce("The generation is deleted.");
      dispatchEvent(new CustomEvent("navigate-to", { detail: "/dashboard/generations" }));
    }
  }

  async function rerun() {
    if (!(await confirm("Run 1 request again?", `A new generation of ${detail.owner}, whose limits and budgets hold for it.`, "Run it again"))) return;
    const { id: other } = await post(`/generations/${id}/rerun`);
    announce("The request runs again.");
    dispatchEvent(new CustomEvent("navigate-to", { detail: `/dashboard/generations/${other}` }));
  }

  async function download() {
    const content = session.hasContent ? await get(`/generations/${id}/content`) : {};
    const file = new Blob([JSON.stringify({ ...detail, ...content, history }, null, 2)], { type: "application/json" });
    const link = el("a", { href: URL.createObjectURL(file), download: `${id}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  live.addEventListener("snapshot", () => {
    const isFinal = isGone || (detail && !["queued", "running"].includes(detail.status));
    if (!isFinal && Date.now() - loadedAt > REFRESH_MS) load();
  }, { signal });
  live.addEventListener("refresh", load, { signal });
  load();
}

/** Copies a text, also on plain http, where the clipboard is not there. */
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.body.appendChild(el("textarea", { value: text, class: "visually-hidden" }));
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  announce(`${what} is copied.`);
}
