// Responses of openai-node: `create`, streamed and not, in the background and not, `stream` and `parse`.
import { zodTextFormat } from "openai/helpers/zod";
import { SCHEMA, TOOL } from "./cases.mjs";
import { attempt, openai, version, Weather } from "./openai_chat.mjs";
import { MODEL, all, until } from "./tailrace.mjs";

const DELTAS_BEFORE_CUT = 10;
const FORMAT = { type: "json_schema", name: "weather", schema: SCHEMA, strict: true };

const responses = (tailrace) => openai(tailrace).responses;
const isDelta = ({ type }) => type === "response.output_text.delta";

const requestOf = ({ tools, schema, reasoning }, format = FORMAT) => ({
  model: MODEL,
  input: "Well?",
  ...(tools && { tools: [{ type: "function", ...TOOL, strict: true }] }),
  ...(schema && { text: { format } }),
  ...(reasoning && { reasoning: { summary: "auto" } }),
});

const textOf = (response) => partsOf(response, "output_text").map(({ text }) => text).join("");
const partsOf = ({ output }, type) => output.flatMap(({ content }) => content ?? []).filter((part) => part.type === type);

function finishOf({ status, incomplete_details: details }, calls) {
  if (status !== "completed") return details?.reason === "max_output_tokens" ? "length" : status;
  return calls.length ? "tool-calls" : "stop";
}

function fillFrom(answer, response, asked) {
  answer.text = textOf(response);
  answer.refusal = partsOf(response, "refusal").map(({ refusal }) => refusal).join("");
  answer.reasoning = response.output
    .filter(({ type }) => type === "reasoning")
    .flatMap(({ summary, content }) => [...summary, ...(content ?? [])])
    .map(({ text }) => text)
    .join("");
  answer.calls = response.output
    .filter(({ type }) => type === "function_call")
    .map(({ call_id: id, name, arguments: json }) => ({ id, name, input: JSON.parse(json) }));
  answer.finish = finishOf(response, answer.calls);
  if (asked.schema) answer.value = response.output_parsed ?? JSON.parse(answer.text);
  if (response.usage) {
    const { input_tokens: input, output_tokens: output, total_tokens: total } = response.usage;
    answer.usage = { input, output, total };
  }
  if (response.error) throw new Error(response.error.message);
}

// Reads a stream of events to its end.
async function fillFromEvents(answer, events, asked) {
  for await (const event of events) {
    if (isDelta(event)) answer.text += event.delta;
    if (["response.completed", "response.incomplete"].includes(event.type)) fillFrom(answer, event.response, asked);
  }
}

const create = (tailrace, asked, signal) =>
  attempt(async (answer) => fillFrom(answer, await responses(tailrace).create(requestOf(asked), { signal }), asked));

const createStreamed = (more) => (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const request = { ...requestOf(asked), stream: true, ...more };
    await fillFromEvents(answer, await responses(tailrace).create(request, { signal }), asked);
  });

const stream = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const request = requestOf(asked, asked.schema && zodTextFormat(Weather, "weather"));
    const streaming = responses(tailrace).stream(request, { signal });
    for await (const event of streaming) if (isDelta(event)) answer.text += event.delta;
    fillFrom(answer, await streaming.finalResponse(), asked);
  });

const parse = (tailrace, asked, signal) =>
  attempt(async (answer) => {
    const request = requestOf(asked, asked.schema && zodTextFormat(Weather, "weather"));
    fillFrom(answer, await responses(tailrace).parse(request, { signal }), asked);
  });

const isOver = ({ status }) => !["queued", "in_progress"].includes(status);

async function polled(tailrace, id, condition = isOver) {
  return until(async () => {
    const response = await responses(tailrace).retrieve(id);
    return condition(response) && response;
  });
}

const background = (tailrace, asked) =>
  attempt(async (answer) => {
    const { id } = await responses(tailrace).create({ ...requestOf(asked), background: true });
    fillFrom(answer, await polled(tailrace, id), asked);
  });

// Cancels by the client's own call, and again.
const cancel = (tailrace) =>
  attempt(async (answer) => {
    const { id } = await responses(tailrace).create({ ...requestOf({}), background: true });
    await polled(tailrace, id, (response) => textOf(response) === "Once");
    await responses(tailrace).cancel(id);
    fillFrom(answer, await responses(tailrace).cancel(id), {});
  });

const cancelStreamed = (tailrace) =>
  attempt(async (answer) => {
    const events = await responses(tailrace).create({ ...requestOf({}), background: true, stream: true });
    let id;
    for await (const event of events) {
      if (event.type === "response.created") id = event.response.id;
      if (isDelta(event)) await responses(tailrace).cancel(id);
      if (event.type === "response.incomplete") fillFrom(answer, event.response, {});
    }
  });

// The Response again, by its id.
async function readAgain(tailrace) {
  const whole = await responses(tailrace).create(requestOf({}));
  return { resumed: await responses(tailrace).retrieve(whole.id), whole };
}

const readOn = (more) => async (tailrace) => {
  const [seen, id] = await begun(tailrace, more);
  const read = async (query) => all(await responses(tailrace).retrieve(id, { stream: true, ...query }));
  const rest = await read({ starting_after: seen.at(-1).sequence_number });
  return { resumed: [...seen, ...rest], whole: await read({}) };
};

async function readOnByStream(tailrace) {
  const [seen, id] = await begun(tailrace, {});
  const after = { response_id: id, starting_after: seen.at(-1).sequence_number };
  const streaming = responses(tailrace).stream(after);
  const resumed = seen.filter(isDelta).map(({ delta }) => delta);
  for await (const event of streaming) if (isDelta(event)) resumed.push(event.delta);
  return { resumed: resumed.join(""), whole: textOf(await streaming.finalResponse()) };
}

// The first events of a response, and its id. Its reader has left.
async function begun(tailrace, more) {
  const seen = [];
  for await (const event of await responses(tailrace).create({ ...requestOf({}), stream: true, ...more })) {
    seen.push(event);
    if (seen.filter(isDelta).length === DELTAS_BEFORE_CUT) break;
  }
  return [seen, seen[0].response.id];
}

const row = (call, ask, more) => ({ client: `openai-node responses.${call}`, version, ask, ...more });

export const CLIENTS = [
  row("create", create, { resume: readAgain }),
  row("create (stream)", createStreamed({}), { streams: true, resume: readOn({}) }),
  row("create (background)", background, { streams: true, cancel }),
  row("create (background, stream)", createStreamed({ background: true }), {
    streams: true, cancel: cancelStreamed, resume: readOn({ background: true }),
  }),
  row("stream", stream, { streams: true, resume: readOnByStream }),
  row("parse", parse),
];
