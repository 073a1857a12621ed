// The producing side: orders as JSON lines on stdin, an answer each on stdout, like bench.appending.
//
// Event k goes to stream k mod n at k / rate seconds; node's timers count in ms, so a few come at a time. The stream
// that a producer gives to its own first client is read here, and thrown away.
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.cwd()}/`);
const { createResumableStreamContext } = require("resumable-stream");

const context = createResumableStreamContext({ waitUntil: null });
const sources = [];
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

function start(rate) {
  const began = seconds();
  let k = 0;
  setInterval(() => {
    const now = seconds() - began;
    behind = Math.max(behind, now - k / rate);
    if (k <= now * rate) ticks++;
    for (; k <= now * rate; k++, appended++) sources[k % sources.length].enqueue(stamped());
  }, 1);
}

const orders = {
  async create({ logs }) {
    const names = [];
    for (let i = 0; i < logs; i++) names.push(await create());
    return names;
  },
  async start({ rate }) {
    start(rate * sources.length);
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
