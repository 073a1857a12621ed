// The producing side: commands as JSON lines on stdin, a result each on stdout, like bench.appending.
//
// Event k goes to stream k mod n at k / rate seconds. Node's timers have a resolution of 1 ms, which would turn scattered
// events into bursts, so shorter waits block. The stream for the producer's own first client is read and discarded.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(`${process.cwd()}/`);
const { createResumableStreamContext } = require("resumable-stream");

const context = createResumableStreamContext({ waitUntil: null });
const sources = [];
const cell = new Int32Array(new SharedArrayBuffer(4)); // never notified: waiting for it is sleeping
const COARSE_S = 0.002;
let appended = 0;
let ticks = 0;
let behind = 0;

const seconds = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC

function timestampedText() {
  const micros = (process.hrtime.bigint() / 1000n).toString().padStart(16, "0");
  return `data: {"text":"@${micros} text"}\n\n`;
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
      for (; k <= now * rate; k++, appended++) sources[k % sources.length].enqueue(timestampedText());
    }
    await new Promise(setImmediate);
  }
}

const commands = {
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
  const command = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await commands[command.do](command))}\n`);
}
process.exit();
