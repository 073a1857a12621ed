// The Node clients' cells: the contract is in ../table.py, the cases are in ../cases.json.
//
//   node run.mjs BASE_URL [--client NAME]     BASE_URL: http://127.0.0.1:8080/v1
//                                             NAME: one client, or the beginning of several names
//
// Prints a line of JSON for each cell: {"client", "version", "case", "ok", "detail"}. `ok` is null, and `detail` the
// reason, where a case makes no sense for a client. The upstream of BASE_URL plays the script of a case for the models
// `CASE` and `CASE.ANYTHING` (../upstream.py). The exit status is 0 if every cell was run, whatever its result.
//
// A client is an object:
//   client, version    as in the table
//   ask                async (cell) => an answer (below)
//   streams            whether the text that precedes a failure or a cancel reaches the application
//   cancels            whether a cancelled answer has that status
//   lateError          its own message for an `error` object under the status 200, where it repeats no request
//   leavesOut          {case: the reason why it makes no sense for the client}
//
// An answer is {text, end, calls: [{id, name, arguments}], parsed, refusal, reasoning, usage, error}; `end` is `complete`,
// `length`, `cancelled`, or what the client calls it. `usage` is {input, output, total, cached, reasoning}.
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { CLIENTS as AI_SDK } from "./ai_sdk.mjs";
import { CASES, Cell, shown } from "./cell.mjs";
import { CLIENTS as OPENAI_CHAT } from "./openai_chat.mjs";
import { CLIENTS as OPENAI_RESPONSES } from "./openai_responses.mjs";
import { CLIENTS as USE_CHAT } from "./use_chat.mjs";

const LANES = 8; // cells at a time
const DEADLINE_S = 60; // longer than the grace after which an answer whose client has left is cancelled

const FAILURES = ["failure", "late-failure"];

const CLIENTS = [...OPENAI_CHAT, ...OPENAI_RESPONSES, ...AI_SDK, ...USE_CHAT];

async function run(url, client, name) {
  if (client.leavesOut?.[name]) return { ok: null, detail: client.leavesOut[name] };
  const cell = new Cell(url, client.client, name);
  try {
    const answer = await within(DEADLINE_S, client.ask(cell));
    if (answer.error && ![...FAILURES, "cancel"].includes(name)) assert.fail(`raised ${answer.error}`);
    compare(answer, expectedOf(client, name));
    if (name === "cancel") assert.equal(await within(DEADLINE_S, cell.ended()), "cancelled");
    return { ok: true, detail: "" };
  } catch (error) {
    return { ok: false, detail: shown(error) };
  }
}

// The fields that an answer must have. A client that waits for the whole has no text where it gets none.
function expectedOf({ streams, cancels, lateError }, name) {
  const { expected } = CASES[name];
  if (name === "late-failure" && !streams && lateError) return { error: lateError };
  if (FAILURES.includes(name) && !streams) return { error: expected.error };
  if (name === "cancel" && !cancels) return streams ? { text: expected.text } : {};
  return expected;
}

function compare(answer, expected) {
  for (const [name, value] of Object.entries(expected)) {
    if (name === "error") assert.ok(answer.error?.includes(value), `error is ${answer.error}, expected ${value}`);
    else assert.deepEqual(answer[name], value, `${name} is ${JSON.stringify(answer[name])}, expected ${JSON.stringify(value)}`);
  }
}

function within(seconds, running) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no result within ${seconds} s`)), 1000 * seconds);
  });
  return Promise.race([running, late]).finally(() => clearTimeout(timer));
}

const { values, positionals } = parseArgs({ options: { client: { type: "string" } }, allowPositionals: true });
const clients = CLIENTS.filter(({ client }) => client.startsWith(values.client ?? ""));
if (positionals.length !== 1 || !clients.length) {
  const names = CLIENTS.map(({ client }) => `  ${client}`).join("\n");
  console.error(`usage: node run.mjs BASE_URL [--client NAME]\n${names}`);
  process.exit(2);
}
const cells = clients.flatMap((client) => Object.keys(CASES).map((name) => [client, name]));
const lanes = Array.from({ length: LANES }, () => Promise.resolve());
const results = cells.map(([client, name], index) => {
  const lane = index % LANES;
  return (lanes[lane] = lanes[lane].then(() => run(positionals[0], client, name)));
});
for (const [index, [{ client, version }, name]] of cells.entries()) {
  console.log(JSON.stringify({ client, version, case: name, ...(await results[index]) }));
}
process.exit(0); // Cells that were given up may have left connections open.
