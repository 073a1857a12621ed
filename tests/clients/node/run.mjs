// Runs the Node clients of the table of docs/clients.md against a running Tailrace whose upstream is the scripted model.
//
//   node run.mjs BASE_URL [--client NAME]     BASE_URL: http://127.0.0.1:8080, with or without /v1
//                                             NAME: one client, or the beginning of several names
//
// Prints a line of JSON for each cell: {"client", "version", "case", "ok", "detail"}. `detail` is the reason where `ok` is
// false, and otherwise what the client does not pass on to an application, if anything. A client has no line for a case
// that it has no call for. TAILRACE_API_KEY is the key, where Tailrace wants one. The exit status is 0 if every cell was
// run, whatever its result.
//
// The deadline of a cell exceeds TAILRACE_DISCONNECT_GRACE_S by 20 s: clients that cancel by leaving wait for that grace.
import { parseArgs } from "node:util";
import { CLIENTS as AI_SDK } from "./ai_sdk.mjs";
import { CASES } from "./cases.mjs";
import { CLIENTS as OPENAI_CHAT } from "./openai_chat.mjs";
import { CLIENTS as OPENAI_RESPONSES } from "./openai_responses.mjs";
import { Tailrace, shown } from "./tailrace.mjs";
import { CLIENTS as USE_CHAT } from "./use_chat.mjs";

const LANES = 16; // cells at a time
const DEADLINE_S = Number(process.env.TAILRACE_DISCONNECT_GRACE_S ?? 20) + 20;

const CLIENTS = [...OPENAI_CHAT, ...OPENAI_RESPONSES, ...AI_SDK, ...USE_CHAT];

async function run(url, client, name) {
  const test = CASES[name];
  const tailrace = new Tailrace(url, test.scripts);
  try {
    await within(DEADLINE_S, test.run(client, tailrace));
    return { ok: true, detail: client.lacks?.[name] ?? "" };
  } catch (error) {
    return { ok: false, detail: shown(error) };
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
const url = positionals[0].replace(/(\/v1)?\/?$/, "");
const cells = clients.flatMap((client) =>
  Object.keys(CASES)
    .filter((name) => CASES[name].isFor(client))
    .map((name) => [client, name]),
);
const lanes = Array.from({ length: LANES }, () => Promise.resolve());
const results = cells.map(([client, name], index) => {
  const lane = index % LANES;
  return (lanes[lane] = lanes[lane].then(() => run(url, client, name)));
});
for (const [index, [{ client, version }, name]] of cells.entries()) {
  console.log(JSON.stringify({ client, version, case: name, ...(await results[index]) }));
}
process.exit(0); // Cells that were given up may have left connections open.
