// Chat Completions of openai-node: `create`, streamed and not, `stream`, `parse` and `runTools`.
import OpenAI from "openai";
import { LengthFinishReasonError } from "openai/error";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { RESULT, SCHEMA, TOOL } from "./cases.mjs";
import { API_KEY, MODEL, all, shown, versionOf } from "./tailrace.mjs";

export const Weather = z.object({ city: z.string(), degrees: z.number().int() });
export const version = versionOf("openai");

export const openai = (tailrace) =>
  new OpenAI({ baseURL: tailrace.api, apiKey: API_KEY, fetch: tailrace.fetch, maxRetries: 0 });

const FINISHES = { tool_calls: "tool-calls" };
const CHUNKS_BEFORE_CUT = 10;

const completions = (tailrace) => openai(tailrace).chat.completions;

const requestOf = ({ tools, schema }) => ({
  model: MODEL,
  messages: [{ role: "user", content: "Well?" }],
  ...(tools && { tools: [{ type: "function", function: { ...TOOL, strict: true } }] }),
  ...(schema && {
    response_format: { type: "json_schema", json_schema: { name: "weather", schema: SCHEMA, strict: true } },
  }),
});

const parsedRequestOf = (asked) => ({
  ...requestOf(asked),
  ...(asked.schema && { response_format: zodResponseFormat(Weather, "weather") }),
});

// Fills the answer as far as `fill` gets. An error is a part of it.
export async function attempt(fill) {
  const answer = { text: "", refusal: "", reasoning: "", calls: [] };
  try {
    await fill(answer);
  } catch (error) {
    if (error instanceof LengthFinishReasonError) return { ...answer, text: undefined, finish: "length" };
    answer.error = shown(error);
  }
  return answer;
}

export const callOf = ({ id, function: { name, arguments: json } }) => ({ id, name, input: JSON.parse(json) });

const usageOf = ({ prompt_tokens: input, completion_tokens: output, total_tokens: total }) => ({ input, output, total });

function fillFromCompletion(answer, { choices: [{ message, finish_reason }], usage }, asked) {
  answer.text = message.content ?? "";
  answer.refusal = message.refusal ?? "";
  answer.reasoning ||= message.reasoning_content ?? "";
  answer.calls = (message.tool_calls ?? []).map(callOf);
  answer.finish = FINISHES[finish_reason] ?? finish_reason;
  if (asked.schema) answer.value = message.parsed ?? JSON.parse(answer.text);
  if (usage) answer.usage = usageOf(usage);
}

// What an application does with the chunks of `create`.
function fillFromChunk(answer, { choices: [choice], usage }, calls) {
  const { content, refusal, reasoning_content: reasoning, tool_calls: fragments = [] } = choice?.delta ?? {};
  answer.text += content ?? "";
  answer.refusal += refusal ?? "";
  answer.reasoning += reasoning ?? "";
  for (const { index, id, function: { name, arguments: piece } = {} } of fragments) {
    calls[index] ??= { id, function: { name, arguments: "" } };
    calls[index].function.arguments += piece ?? "";
  }
  if (choice?.finish_reason) answer.finish = FINISHES[choice.finish_reason] ?? choice.finish_reason;
  if (usage) answer.usage = usageOf(usage);
}

const create = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    fillFromCompletion(answer, await completions(tailrace).create(requestOf(asked), { signal }), asked);
  });

const createStreamed = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const request = { ...requestOf(asked), stream: true, stream_options: { include_usage: true } };
    const calls = [];
    for await (const chunk of await completions(tailrace).create(request, { signal })) fillFromChunk(answer, chunk, calls);
    answer.calls = calls.map(callOf);
    if (asked.schema) answer.value = JSON.parse(answer.text);
  });

const stream = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const request = { ...parsedRequestOf(asked), stream_options: { include_usage: true } };
    const streaming = completions(tailrace).stream(request, { signal });
    for await (const chunk of streaming) fillFromChunk(answer, chunk, []);
    fillFromCompletion(answer, await streaming.finalChatCompletion(), asked);
  });

const parse = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    fillFromCompletion(answer, await completions(tailrace).parse(parsedRequestOf(asked), { signal }), asked);
  });

const runTools = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const run = { ...TOOL, function: () => RESULT, parse: JSON.parse };
    const request = { ...requestOf(asked), tools: [{ type: "function", function: run }] };
    const runner = completions(tailrace).runTools(request, { signal });
    fillFromCompletion(answer, await runner.finalChatCompletion(), asked);
    answer.calls = runner.messages.flatMap(({ tool_calls: calls }) => calls ?? []).map(callOf);
  });

// The answer again, by its id.
async function readAgain(tailrace) {
  const whole = await completions(tailrace).create(requestOf({}));
  return { resumed: await completions(tailrace).retrieve(whole.id), whole };
}

// Tailrace's own extension, by the client's call for routes that it has no method for.
async function readOn(tailrace) {
  const seen = [];
  for await (const chunk of await completions(tailrace).create({ ...requestOf({}), stream: true })) {
    seen.push(chunk);
    if (seen.length >= CHUNKS_BEFORE_CUT && "sequence_number" in chunk) break;
  }
  const [{ id }] = seen;
  const read = async (query) => {
    const options = { query: { stream: true, ...query }, stream: true };
    return all(await openai(tailrace).get(`/chat/completions/${id}`, options));
  };
  const rest = await read({ starting_after: seen.at(-1).sequence_number });
  return { resumed: [...seen, ...rest], whole: await read({}) };
}

const row = (call, ask, more) => ({ client: `openai-node chat.completions.${call}`, version, ask, ...more });

export const CLIENTS = [
  row("create", create, { resume: readAgain }),
  row("create (stream)", createStreamed, { streams: true, resume: readOn }),
  row("stream", stream, { streams: true }),
  row("parse", parse),
  row("runTools", runTools, { runsTools: true }),
];
