// Chat Completions of openai-node: each call of the package, in each case.
import OpenAI, { APIConnectionTimeoutError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { randomUUID } from "node:crypto";
import { z } from "zod";
import {
  API_KEY, CUT_AFTER, LEAVES_AFTER_MS, MAX_TOKENS, QUESTION, RESULT, SCHEMA, TOOL,
  attempt, decoded, endOf, versionOf,
} from "./cell.mjs";

const FORMAT = { type: "json_schema", json_schema: { name: "Weather", schema: SCHEMA, strict: true } };

export const Weather = z.object({ city: z.string(), degrees: z.int() });
export const version = versionOf("openai");
export const openai = ({ url }) => new OpenAI({ baseURL: url, apiKey: API_KEY, maxRetries: 0 });

const completions = (cell) => openai(cell).chat.completions;

function requestOf({ case: name, model }, { format = FORMAT, strict = false } = {}) {
  return {
    model,
    messages: [{ role: "user", content: QUESTION }],
    ...(name === "tools" && { tools: [{ type: "function", function: { ...TOOL, strict } }] }),
    ...(name === "structured" && { response_format: format }),
    ...(name === "length" && { max_completion_tokens: MAX_TOKENS }),
  };
}

// `parse` refuses tools that are not strict. (`stream` parses the arguments of strict ones whenever another call goes on,
// so it cannot read interleaved calls.)
const parsedRequestOf = (cell) => requestOf(cell, { format: zodResponseFormat(Weather, "Weather"), strict: true });

const usageOf = ({ prompt_tokens_details: input, completion_tokens_details: output, ...usage }) => ({
  input: usage.prompt_tokens,
  output: usage.completion_tokens,
  total: usage.total_tokens,
  cached: input?.cached_tokens ?? 0,
  reasoning: output?.reasoning_tokens ?? 0,
});

const callOf = ({ id, function: { name, arguments: json } }) => ({ id, name, arguments: JSON.parse(json) });

function fillFrom(answer, { choices: [{ message, finish_reason: reason }], usage }) {
  answer.text = message.content ?? "";
  answer.refusal = message.refusal ?? "";
  answer.reasoning ||= message.reasoning_content ?? "";
  answer.calls = (message.tool_calls ?? []).map(callOf);
  answer.end = endOf(reason);
  answer.parsed = message.parsed ?? decoded(answer.text);
  if (usage) answer.usage = usageOf(usage);
}

// What an application does with the chunks of a stream.
function addChunk(answer, { choices: [choice], usage }, calls) {
  const { content, refusal, reasoning_content: reasoning, tool_calls: fragments = [] } = choice?.delta ?? {};
  answer.text += content ?? "";
  answer.refusal += refusal ?? "";
  answer.reasoning += reasoning ?? "";
  for (const { index, id, function: { name, arguments: piece } = {} } of fragments) {
    calls[index] ??= { id, function: { name, arguments: "" } };
    calls[index].function.arguments += piece ?? "";
  }
  if (choice?.finish_reason) answer.end = endOf(choice.finish_reason);
  if (usage) answer.usage = usageOf(usage);
}

async function addChunks(answer, chunks) {
  const calls = [];
  for await (const chunk of chunks) addChunk(answer, chunk, calls);
  answer.calls = calls.map(callOf);
  answer.parsed = decoded(answer.text);
}

// The answer of a call without a stream. To cancel it, its client leaves; to resume it, the client repeats its request.
const whole = (request, call) => (cell) =>
  attempt(async (answer) => {
    const ask = (options) => call(completions(cell), request(cell), { signal: cell.signal, ...options });
    const asking = cell.case === "resume" ? repeated(ask) : ask();
    const [completion] = await Promise.all([asking, cell.leave()]);
    fillFrom(answer, completion);
  });

async function repeated(ask) {
  const headers = { "Idempotency-Key": randomUUID() };
  try {
    await ask({ headers, timeout: LEAVES_AFTER_MS });
  } catch (error) {
    if (!(error instanceof APIConnectionTimeoutError)) throw error;
    return ask({ headers });
  }
  throw new Error("the answer was complete before its client left");
}

const createStream = (cell) =>
  attempt(async (answer) => {
    const request = { ...requestOf(cell), stream: true, stream_options: { include_usage: true } };
    const chunks = await completions(cell).create(request, { signal: cell.signal });
    if (cell.case === "resume") await addChunks(answer, readOn(cell, chunks));
    else await Promise.all([addChunks(answer, chunks), cell.leave()]);
  });

const stream = (cell) =>
  attempt(async (answer) => {
    const format = zodResponseFormat(Weather, "Weather");
    const request = { ...requestOf(cell, { format }), stream_options: { include_usage: true } };
    const helper = completions(cell).stream(request, { signal: cell.signal });
    if (cell.case === "resume") return addChunks(answer, readOn(cell, helper));
    await Promise.all([addChunks(answer, helper), cell.leave()]);
    return fillFrom(answer, await helper.finalChatCompletion());
  });

// The chunks of a stream up to the middle, and the rest from the stored answer: Tailrace's own extension, by the client's
// call for routes that it has no method for.
async function* readOn(cell, chunks) {
  let last;
  let text = "";
  for await (last of chunks) {
    yield last;
    text += last.choices[0]?.delta.content ?? "";
    if (text.includes(CUT_AFTER) && "sequence_number" in last) break;
  }
  const query = { stream: true, starting_after: last.sequence_number };
  yield* await openai(cell).get(`/chat/completions/${last.id}`, { query, stream: true });
}

// One turn: the upstream would answer the results with the same calls.
const runOnce = (api, request, options) => api.runTools(request, { maxChatCompletions: 1, ...options }).finalChatCompletion();

const toolsRequestOf = (cell) => {
  const run = { ...TOOL, function: () => RESULT, parse: JSON.parse };
  return { ...requestOf(cell), tools: [{ type: "function", function: run }] };
};

// A body that breaks off is an error of `fetch`, and the request is not repeated: the package repeats it up to the head.
const lateError = "terminated";
const row = (call, ask, more) => ({ client: `openai-node chat ${call}`, version, ask, lateError, ...more });
const leavesOut = { length: "The call raises an error for an answer that was cut, and drops its text." };

export const CLIENTS = [
  row("create", whole(requestOf, (api, request, options) => api.create(request, options))),
  row("create(stream)", createStream, { streams: true }),
  row("stream()", stream, { streams: true }),
  row("parse", whole(parsedRequestOf, (api, request, options) => api.parse(request, options)), { leavesOut }),
  row("runTools", whole(toolsRequestOf, runOnce), { leavesOut }),
];
