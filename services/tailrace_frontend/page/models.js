/* The field with the model's name, and the examples, which promise no model that is not there. */

import { $, element } from "/dom.js";
import { ApiError } from "/tailrace.js";

const SAVED = "tailrace.model";
const OTHER = "";
const RETRY_MS = 3_000;
const RETRIES = 20; // a worker reports its models within this time of its start

let models = [];
let onListed = () => {};

/** Resolves once the page knows whether the server has models: one that has just been opened does not. */
export const listed = new Promise((resolve) => (onListed = resolve));

/** What an example asks. `extra`: fields of the request that the demo model understands. `send`: one of its scenarios,
 * which are not among its models (`tailrace demo-model --list`). */
const DEMO_EXAMPLES = [
  {
    model: "demo-long",
    label: "A long answer, numbered",
    hint: "a minute: reload, or kill the worker",
    text: "Write a long answer, numbered, so that I can see whether a line is missing.",
    extra: { tokens_per_second: 50 },
  },
  { model: "demo-reasoning", label: "Think first", hint: "reasoning, then text", text: "Think first, then answer." },
  { model: "demo-tools", label: "Call two tools", hint: "in parallel", text: "What are the weather and the time in Lisbon?" },
  {
    model: "demo",
    send: "demo:stall-once",
    label: "A model that stalls",
    hint: "a second attempt answers",
    text: "Begin an answer, and stall in the middle of it.",
  },
  {
    model: "demo",
    send: "demo:cut-once",
    label: "A connection that breaks",
    hint: "a second attempt answers",
    text: "Begin an answer, and break off in the middle of it.",
  },
  { model: "demo", send: "demo:429-once", label: "A model that is busy", hint: "then it answers", text: "Refuse, then answer." },
  {
    model: "demo",
    send: "demo:cut",
    label: "A model that fails",
    hint: "in every attempt",
    text: "Begin an answer, and break off in the middle of it.",
  },
];
const EXAMPLES = [
  { label: "Count to 300", hint: "so that a missing line shows", text: "Count from 1 to 300. Write each number in words, one a line." },
  { label: "A table and some code", hint: "", text: "Show the planets in a table, then a Python function that sorts them by mass." },
];

export const model = () => $("model").value.trim();

/** Shows the model of a generation, which need not be in the list. */
export function showModel(name) {
  if ($("model").localName === "select" && ![...$("model").options].some((option) => option.value === name)) {
    $("model").prepend(new Option(name, name));
  }
  $("model").value = name;
}

export const saveModel = () => localStorage.setItem(SAVED, model());

/** The model that a new conversation begins with: the one used last if it is there, or the server's first. */
export function showDefaultModel() {
  const saved = localStorage.getItem(SAVED);
  showModel(!models.length || models.includes(saved) ? (saved ?? "") : models[0]);
}

function useList() {
  const select = element("select", { id: "model", required: true });
  select.append(...models.map((name) => new Option(name, name)), new Option("Another…", OTHER));
  select.addEventListener("change", () => select.value === OTHER && useField());
  $("model").replaceWith(select);
}

/** A field for a name that the list does not have; left empty, it becomes the list again. */
function useField() {
  const field = element("input", { id: "model", placeholder: "Its name", autocomplete: "off", spellcheck: false });
  field.required = true;
  field.setAttribute("autocapitalize", "off");
  field.addEventListener("blur", () => {
    if (field.value.trim() || !models.length) return;
    useList();
    showDefaultModel();
  });
  $("model").replaceWith(field);
  field.focus();
}

/** Fetches the models that the caller may use. Throws an ApiError. `isUntouched()`: whether to show the default. */
export const loadModels = (key, isUntouched) => load(key, isUntouched).finally(onListed);

async function load(key, isUntouched) {
  for (let k = 0; k < RETRIES; k++) {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const response = await fetch("/v1/models", { headers, cache: "no-store" }).catch(() => null);
    if (response && !response.ok) throw await ApiError.fromResponse(response);
    models = ((await response?.json())?.data ?? []).map(({ id }) => id);
    showExamples();
    if (models.length) break;
    onListed();
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  if (!models.length) return;
  const typed = model();
  useList();
  if (isUntouched() && !typed) showDefaultModel();
  else if (isUntouched()) showModel(models.includes(typed) ? typed : models[0]);
  else showModel(typed || models[0]);
}

function showExamples() {
  const ofDemo = DEMO_EXAMPLES.filter((example) => models.includes(example.model));
  const examples = ofDemo.length ? ofDemo : EXAMPLES;
  $("examples").replaceChildren(
    ...examples.map((example) => {
      const hint = example.hint ? [element("small", {}, example.hint)] : [];
      const control = element("button", { type: "button" }, element("b", {}, example.label), ...hint);
      control.addEventListener("click", () => control.dispatchEvent(new CustomEvent("ask", { bubbles: true, detail: example })));
      return element("li", {}, control);
    }),
  );
}
