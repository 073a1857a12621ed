// Tailrace as one cell uses it: its address, what its model answers, and what became of its generations.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

export const MODEL = "scripted";
export const API_KEY = process.env.TAILRACE_API_KEY ?? "none";

const POLL_MS = 100;
const NEWEST = 100;
const FINAL = ["completed", "incomplete", "failed", "cancelled"];

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function until(condition) {
  for (;;) {
    const value = await condition();
    if (value) return value;
    await pause(POLL_MS);
  }
}

// The values of an async iterable.
export async function all(values) {
  const list = [];
  for await (const value of values) list.push(value);
  return list;
}

// The installed version of a package.
export function versionOf(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
}

// An error, or whatever else an SDK reports as one, in a line.
export function shown(error) {
  const nested = error?.error?.message ?? error?.message;
  const text = typeof error === "string" ? error : (nested ?? JSON.stringify(error));
  return String(text).replace(/\s+/g, " ").slice(0, 300);
}

export class Tailrace {
  #scripts;
  #scriptId = randomUUID();
  #generation;

  // `scripts`: the answer to each request, one after the other. The last one is also the answer to any further request.
  constructor(url, scripts) {
    this.url = url;
    this.#scripts = [...scripts];
  }

  get api() {
    return `${this.url}/v1`;
  }

  // The `fetch` of the client. It adds to each request what the model answers, and is otherwise Node's own.
  fetch = async (input, init = {}) => {
    const response = await fetch(input, { ...init, body: this.#scripted(init.body) });
    this.#generation ??= response.headers.get("x-tailrace-generation");
    return response;
  };

  #scripted(body) {
    if (typeof body !== "string") return body;
    const request = JSON.parse(body);
    if (!("messages" in request || "input" in request)) return body;
    const script = this.#scripts.length > 1 ? this.#scripts.shift() : this.#scripts[0];
    return JSON.stringify({ ...request, script, script_id: this.#scriptId });
  }

  // The cell's first generation, by the native routes, once its output contains `text`.
  async written(text) {
    const id = await until(async () => this.#generation ?? (await this.#find()));
    this.#generation = id;
    return until(async () => {
      const generation = await this.get(`/v1/generations/${id}`);
      return JSON.stringify(generation.output ?? []).includes(text) && generation;
    });
  }

  // The final status of the cell's first generation.
  async ended() {
    return until(async () => {
      const { status } = await this.get(`/v1/generations/${this.#generation}?output=false`);
      return FINAL.includes(status) && status;
    });
  }

  // A client that waits for a whole answer has no header yet: the generation is found by its script.
  async #find() {
    const { data } = await this.get(`/v1/generations?limit=${NEWEST}`);
    for (const { id, status } of data) {
      if (FINAL.includes(status)) continue;
      const { request } = await this.get(`/v1/generations/${id}`);
      if (request?.script_id === this.#scriptId) return id;
    }
    return undefined;
  }

  async get(path) {
    const response = await fetch(this.url + path, { headers: { authorization: `Bearer ${API_KEY}` } });
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}
