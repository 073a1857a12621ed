/* The limits of one caller: a dialog that changes its policy. An empty field is as the settings have it. */

import { request } from "./api.js";
import { announce, confirm } from "./confirm.js";
import { el } from "./dom.js";

const COUNTS = [
  ["weight", "Weight", "share of the workers", "any"], ["max_running", "Running at once", "0: any number"],
  ["requests_per_minute", "Requests a minute"], ["tokens_per_minute", "Tokens a minute", "0: no limit"],
  ["max_unfinished", "Waiting or running"], ["max_readers", "Streams at each frontend"], ["max_stored_bytes", "Bytes stored"],
  ["budget_day_tokens", "Tokens a day", "0: no limit"], ["budget_day_usd", "US dollars a day", "0: no limit", "any"],
  ["budget_month_tokens", "Tokens a month", "0: no limit"], ["budget_month_usd", "US dollars a month", "0: no limit", "any"],
];

/** Asks for the limits of a caller, as `/callers` has it; whether they were changed. */
export function editPolicy({ name, policy, limits }) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const fields = COUNTS.map(([key, label, hint, step = "1"]) => {
    const placeholder = policy[key] === undefined ? (limits[key] ?? "no limit") : "";
    return el("label", {}, el("span", {}, label, hint ? el("span", { class: "quiet small" }, ` ${hint}`) : ""), el("input", { type: "number", name: key, min: "0", step, placeholder: String(placeholder), value: policy[key] ?? "" }));
  });
  const models = el("input", { name: "models", value: (policy.models ?? []).join(" "), placeholder: policy.models ? "none" : "those of the settings", autocomplete: "off", spellcheck: false });
  const unset = el("button", { type: "button", class: "danger", disabled: !Object.keys(policy).length }, "Remove all");
  const form = el("form", { method: "dialog", noValidate: true },
    el("h2", { id: "policy-title" }, `Limits of ${name}`),
    el("p", { class: "quiet small" }, "An empty field is as the settings have it: in grey. A change holds in every process within a second."), problem,
    el("div", { class: "fields" }, fields, el("label", { class: "wide" }, el("span", {}, "Models", el("span", { class: "quiet small" }, " names, * at the end: a beginning")), models)),
    el("div", { class: "row" }, unset, el("span", { class: "grow" }), el("button", { type: "button", value: "close" }, "Close"), el("button", { class: "primary", value: "save" }, "Save")),
  );
  const dialog = document.body.appendChild(el("dialog", { id: "policy", "aria-labelledby": "policy-title" }, form));

  const path = `/callers/${encodeURIComponent(name)}`;
  async function send(method, body) {
    try {
      await request(method, path, { body });
      announce(`The limits of ${name} are changed.`);
      dialog.close("changed");
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wrong = form.querySelector("input:invalid");
    if (wrong) return wrong.reportValidity();
    const body = changes(form, policy);
    if (Object.keys(body).length) send("PATCH", body);
    else dialog.close();
  });
  form.querySelector("[value=close]").addEventListener("click", () => dialog.close());
  unset.addEventListener("click", async () => {
    if (await confirm("Remove 1 policy?", `${name} then has the limits of the settings.`, "Remove it")) await send("DELETE");
  });
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "changed");
  }, { once: true }));
}

/** What differs from the policy: null where a field was emptied. */
function changes(form, policy) {
  const body = {};
  for (const [key] of COUNTS) {
    const { value } = form.elements[key];
    const now = value === "" ? undefined : Number(value);
    if (now !== policy[key]) body[key] = now ?? null;
  }
  const models = form.elements.models.value.split(/[\s,]+/).filter(Boolean);
  if (models.join(" ") !== (policy.models ?? []).join(" ")) body.models = models.length ? models : null;
  return body;
}
