// An answer that continues without its client: OpenAI's Responses in background mode, on any upstream.
//
//   node background.mjs "What survives?"    asks, and writes the answer as it arrives. Kill it at any time.
//   node background.mjs                     continues the same answer after the last event that was stored.
//
// The only difference from OpenAI is `baseURL`. OPENAI_BASE_URL, OPENAI_API_KEY and MODEL may name others.
import { appendFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import OpenAI from "openai";

const FILE = process.env.ANSWER_FILE ?? "answer.jsonl";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8080/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "none",
});

// The file has a line for each event that was received: its number, type and text. So text and cursor agree,
// whenever the process is killed.
function record({ type, sequence_number: number, delta, response }) {
  const text = type === "response.output_text.delta" ? delta : "";
  appendFileSync(FILE, `${JSON.stringify({ number, type, text, id: response?.id })}\n`);
  process.stdout.write(text);
}

// What was received so far. A line that was not written to its end is removed: its event will be sent again.
function recorded() {
  if (!existsSync(FILE)) return [];
  const written = readFileSync(FILE);
  const whole = written.subarray(0, written.lastIndexOf("\n") + 1);
  truncateSync(FILE, whole.length);
  return whole.toString().split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

async function ask(question) {
  writeFileSync(FILE, "");
  const model = process.env.MODEL ?? "demo";
  return client.responses.create({ model, input: question, background: true, stream: true });
}

async function resume() {
  const events = recorded();
  if (!events.length) throw new Error("there is no answer to resume: ask a question");
  process.stdout.write(events.map(({ text }) => text).join(""));
  return client.responses.retrieve(events[0].id, { stream: true, starting_after: events.at(-1).number });
}

const [question] = process.argv.slice(2);
for await (const event of question ? await ask(question) : await resume()) record(event);
process.stdout.write("\n");
if (recorded().at(-1)?.type !== "response.completed") {
  console.error("The answer is not complete.");
  process.exitCode = 1;
}
