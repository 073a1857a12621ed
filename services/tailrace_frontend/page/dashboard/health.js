/* What is in order and what is not, in words, and the settings in force. */

import { get } from "./api.js";
import { el, pill, table } from "./dom.js";
import { live } from "./live.js";

const READY = { ok: "ready", warning: "ready", bad: "not ready" };
const WORDS = { ok: "in order", warning: "warning", bad: "wrong" };

export function health(root, _, signal) {
  const checks = el("ul", { class: "checks" });
  const only = el("input", { type: "checkbox", id: "changed", checked: true });
  const probes = table("Probes", [
    { name: "Process", cell: ({ tier, name }) => el("span", {}, `${tier} `, el("span", { class: "mono" }, name || "?")) },
    { name: "Ready", cell: ({ level }) => pill(level, READY[level]) },
    { name: "Reason", wide: true, cell: ({ text }) => text },
    { name: "Version", label: true, cell: ({ version }) => version },
  ], { empty: "No process answers.", keyOf: ({ tier, name }) => `${tier} ${name}` });
  const list = table("Settings", [
    { name: "Setting", cell: ({ name }) => el("code", {}, name) },
    { name: "Value", cell: ({ value }) => el("span", { class: "mono" }, value || "(empty)") },
    { name: "", cell: ({ is_default }) => (is_default ? el("span", { class: "quiet small" }, "default") : "") },
  ], { empty: "Every setting has its default.", keyOf: ({ name }) => name });
  root.append(el("h1", {}, "Health"), checks, el("h2", {}, "Probes of all processes"), probes.element, el("div", { class: "spread" }, el("h2", {}, "Settings of this frontend"), el("label", { class: "row small", for: "changed" }, only, "only those that were set")), list.element);
  let settings = [];
  let loadedAt = 0;

  const showSettings = () => list.show(settings.filter(({ is_default }) => !only.checked || !is_default));
  only.addEventListener("change", showSettings);

  async function load() {
    loadedAt = Date.now();
    try {
      const found = await get("/health", { signal });
      checks.replaceChildren(...found.checks.map(({ name, level, text }) => el("li", {}, pill(level, WORDS[level]), el("span", {}, el("strong", {}, `${name}: `), text))));
      probes.show(found.probes);
      settings = found.settings;
      showSettings();
    } catch (error) {
      if (!signal.aborted) checks.replaceChildren(el("li", {}, pill("bad", WORDS.bad), error.message));
    }
  }

  live.addEventListener("snapshot", () => Date.now() - loadedAt > 4500 && load(), { signal });
  live.addEventListener("refresh", load, { signal });
  load();
}
