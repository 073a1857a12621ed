// Responses of openai-node: each call of the package, in each case. What is cancelled or resumed is a background response.
import assert from "node:assert/strict";
import { zodTextFormat } from "openai/helpers/zod";
import { CUT_AFTER, MAX_TOKENS, QUESTION, SCHEMA, TOOL, attempt, decoded, until } from "./cell.mjs";
import { openai, version, Weather } from "./openai_chat.mjs";

const FORMAT = { type: "json_schema", name: "Weather", schema: SCHEMA, strict: true };
const ENDS = ["response.completed", "response.incomplete", "response.failed"];

const responses = (cell) => openai(cell).responses;
const isDelta = ({ type }) => type === "response.output_text.delta";
const isOver = ({ status }) => !["queued", "in_progress"].includes(status);

function requestOf({ case: name, model }, format = FORMAT) {
  return {
    model,
    input: QUESTION,
    ...(name === "tools" && { tools: [{ type: "function", ...TOOL, strict: true }] }),
    ...(name === "structured" && { text: { format } }),
    ...(name === "reasoning" && { reasoning: { summary: "auto" } }),
    ...(name === "length" && { max_output_tokens: MAX_TOKENS }),
    ...(["cancel", "resume"].includes(name) && { background: true }),
  };
}

const parsedRequestOf = (cell) => requestOf(cell, zodTextFormat(Weather, "Weather"));

const parts = ({ output }, type) => output.flatMap(({ content }) => content ?? []).filter((part) => part.type === type);
const textOf = (response) => parts(response, "output_text").map(({ text }) => text).join("");

const usageOf = ({ input_tokens_details: input, output_tokens_details: output, ...usage }) => ({
  input: usage.input_tokens,
  output: usage.output_tokens,
  total: usage.total_tokens,
  cached: input.cached_tokens,
  reasoning: output.reasoning_tokens,
});

function fillFrom(answer, response) {
  const { status, incomplete_details: details, output, usage, error } = response;
  answer.text = textOf(response);
  answer.refusal = parts(response, "refusal").map(({ refusal }) => refusal).join("");
  answer.reasoning = output.flatMap(({ summary }) => summary ?? []).map(({ text }) => text).join("");
  answer.calls = output
    .filter(({ type }) => type === "function_call")
    .map(({ call_id: id, name, arguments: json }) => ({ id, name, arguments: JSON.parse(json) }));
  answer.end = details?.reason === "max_output_tokens" ? "length" : status === "completed" ? "complete" : status;
  answer.parsed = response.output_parsed ?? decoded(answer.text);
  if (usage) answer.usage = usageOf(usage);
  if (error) answer.error = error.message;
}

const polled = (cell, id, condition) =>
  until(async () => {
    const response = await responses(cell).retrieve(id);
    return condition(response) && response;
  });

// The answer of a call without a stream. A background response is polled.
const whole = (request, call) => (cell) =>
  attempt(async (answer) => {
    let response = await call(responses(cell), request(cell));
    if (cell.case === "cancel") {
      await polled(cell, response.id, (found) => textOf(found) === "Once");
      await responses(cell).cancel(response.id);
      response = await responses(cell).cancel(response.id); // Repeating is harmless.
    }
    if (cell.case === "resume") {
      assert.ok(!isOver(response), response.status);
      response = await polled(cell, response.id, isOver);
    }
    fillFrom(answer, response);
  });

const createStream = (cell) =>
  attempt(async (answer) => {
    const events = await responses(cell).create({ ...requestOf(cell), stream: true });
    if (cell.case !== "resume") return addEvents(answer, events, cell);
    const readOn = (id, query) => responses(cell).retrieve(id, { stream: true, ...query });
    return addEvents(answer, resumed(events, readOn), cell);
  });

const stream = (cell) =>
  attempt(async (answer) => {
    const helper = responses(cell).stream(parsedRequestOf(cell));
    if (cell.case === "resume") {
      const readOn = (id, query) => responses(cell).stream({ response_id: id, ...query });
      return addEvents(answer, resumed(helper, readOn), cell);
    }
    await addEvents(answer, helper, cell);
    return fillFrom(answer, await helper.finalResponse());
  });

// The answer at the end of a stream; its deltas add up to the same text, and its numbers have no gap.
async function addEvents(answer, events, cell) {
  let number = 0;
  let id;
  let last;
  for await (last of events) {
    assert.equal(last.sequence_number, number++);
    id ??= last.response.id;
    if (!isDelta(last)) continue;
    answer.text += last.delta;
    if (cell.case === "cancel") await responses(cell).cancel(id);
  }
  assert.ok(ENDS.includes(last.type), last.type);
  const { text } = answer;
  fillFrom(answer, last.response);
  assert.equal(answer.text, text);
}

// The events of a stream up to the middle, and the rest of them by their number.
async function* resumed(events, readOn) {
  let id;
  let number;
  let text = "";
  for await (const event of events) {
    yield event;
    id ??= event.response.id;
    number = event.sequence_number;
    text += isDelta(event) ? event.delta : "";
    if (text.includes(CUT_AFTER)) break;
  }
  yield* await readOn(id, { starting_after: number });
}

const row = (call, ask, more) => ({ client: `openai-node responses ${call}`, version, ask, cancels: true, ...more });

export const CLIENTS = [
  row("create", whole(requestOf, (api, request) => api.create(request))),
  row("create(stream)", createStream, { streams: true }),
  row("stream()", stream, { streams: true }),
  row("parse", whole(parsedRequestOf, (api, request) => api.parse(request))),
];
