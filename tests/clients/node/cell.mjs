// One cell: its case, its model, and what became of its generations. And what the requests of all clients have.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));

export const CASES = read("../cases.json");
export const API_KEY = "none";
export const QUESTION = "What survives?";

export const TOOL = {
  name: "weather",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
};
export const RESULT = { degrees: 7 };

export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "integer" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

export const MAX_TOKENS = 2; // of the case `length`
export const CUT_AFTER = "t15 "; // of the case `resume`: a stream is left after this text
export const LEAVES_AFTER_MS = 300; // of the case `resume`: a request without a stream is left after this time

const POLL_MS = 100;
const NEWEST = 100;
const FINAL = ["completed", "incomplete", "failed", "cancelled"];

// The installed version of a package.
export const versionOf = (name) => read(`node_modules/${name}/package.json`).version;

export async function until(condition) {
  for (;;) {
    const value = await condition();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

// The values of an async iterable.
export async function all(values) {
  const list = [];
  for await (const value of values) list.push(value);
  return list;
}

// An error, or whatever else an SDK reports as one, in a line.
export function shown(error) {
  const text = typeof error === "string" ? error : (error?.message ?? error?.error?.message ?? JSON.stringify(error));
  return String(text).replace(/\s+/g, " ").slice(0, 300);
}

// What `fill` makes of an answer, and the error that stopped it.
export async function attempt(fill) {
  const answer = { text: "", end: "", calls: [], refusal: "", reasoning: "" };
  try {
    await fill(answer);
  } catch (error) {
    answer.error ??= shown(error);
  }
  return answer;
}

// A finish reason as the cases have it.
export const endOf = (reason) => (reason === "stop" ? "complete" : reason);

// A JSON object that is the whole text, if it is one.
export const decoded = (text) => (text.startsWith("{") ? JSON.parse(text) : undefined);

export class Cell {
  #leaving = new AbortController();
  #generation; // its id

  constructor(url, client, name) {
    this.url = url; // ends with /v1
    this.root = url.replace(/\/v1\/?$/, "");
    this.case = name;
    this.model = this.modelOf(name, client);
    this.modelOfText = this.modelOf("text", client); // for the turn after that of the tools
  }

  // The upstream plays the script of the case for it. No two cells have the same. ../cells/names.py finds the client in it.
  modelOf(name, client) {
    const slug = client.replaceAll(/[^a-z-]+/gi, "-").replace(/^-+|-+$/g, "");
    return `${name}.${slug}-${randomUUID().slice(0, 8)}`;
  }

  // For the client's request. It is aborted by `leave`.
  get signal() {
    return this.#leaving.signal;
  }

  // In the case `cancel`: close the client's connection once the answer has begun.
  async leave() {
    if (this.case !== "cancel") return;
    await this.begun();
    this.#leaving.abort();
  }

  // Wait until the answer has begun, as the native routes have it.
  async begun() {
    const id = await this.#find();
    await until(async () => JSON.stringify((await this.#get(`/${id}`)).output ?? []).includes('"text"'));
  }

  // The final status of the answer.
  async ended() {
    const id = await this.#find();
    return until(async () => {
      const { status } = await this.#get(`/${id}?output=false`);
      return FINAL.includes(status) && status;
    });
  }

  async #find() {
    this.#generation ??= await until(async () => {
      const { data } = await this.#get(`?limit=${NEWEST}`);
      return data.find(({ model }) => model === this.model)?.id;
    });
    return this.#generation;
  }

  async #get(path) {
    const response = await fetch(`${this.url}/generations${path}`, { headers: { authorization: `Bearer ${API_KEY}` } });
    if (!response.ok) throw new Error(`GET ${response.url}: ${response.status}`);
    return response.json();
  }
}
