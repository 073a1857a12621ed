// The producing side: orders as JSON lines on stdin, an answer each on stdout, like bench.appending.
//
// Event k goes to stream k mod n at k / rate seconds. Node's timers count in ms, which would make bursts of what is meant
// to be scattered: shorter waits block. The stream a producer gives to its own first client is read, and thrown away.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(`${process.cwd()}/`);
const { createResumableStreamContext } = require("resumable-stream");

const context = createResumableStreamContext({ waitUntil: null });
const sources = [];
const cell = new Int32Array(new SharedArrayBuffer(4)); // nobody ever wakes who waits for it
const COARSE_S = 0.002;
let appended = 0;
let ticks = 0;
let behind = 0;

const seconds = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC

function stamped() {
  const micros = (process.hrtime.bigint() / 1000n).toString().padStart(16, "0");
  return `data: {"text":"@${micros} told"}\n\n`;
}

async function create() {
  const name = randomUUID();
  const source = () => new ReadableStream({ start: (controller) => sources.push(controller) });
  const stream = await context.createNewResumableStream(name, source);
  const reader = stream.getReader();
  const discard = () => reader.read().then(({ done }) => done || discard());
  discard();
  return name;
}

async function keepAppending(rate) {
  const began = seconds();
  for (let k = 0; ; ) {
    const now = seconds() - began;
    const wait = k / rate - now;
    if (wait > COARSE_S) await sleep(1000 * (wait - COARSE_S));
    else if (wait > 0) Atomics.wait(cell, 0, 0, 1000 * wait);
    else {
      behind = Math.max(behind, -wait);
      ticks++;
      for (; k <= now * rate; k++, appended++) sources[k % sources.length].enqueue(stamped());
    }
    await new Promise(setImmediate);
  }
}

const orders = {
  async create({ logs }) {
    const names = [];
    for (let i = 0; i < logs; i++) names.push(await create());
    return names;
  },
  async start({ rate }) {
    keepAppending(rate * sources.length);
    return null;
  },
  async begin() {
    appended = ticks = behind = 0;
    return null;
  },
  async report() {
    return { appended, round_trips: ticks, behind_s: behind };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await orders[order.do](order))}\n`);
}
process.exit();
