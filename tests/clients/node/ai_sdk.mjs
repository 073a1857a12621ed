// The core of the AI SDK: its calls for a text and for an object, with each of its providers for OpenAI's routes.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  NoObjectGeneratedError, Output, generateObject, generateText, isStepCount, jsonSchema, streamObject, streamText, tool,
} from "ai";
import assert from "node:assert/strict";
import {
  API_KEY, CASES, MAX_TOKENS, QUESTION, RESULT, SCHEMA, TOOL, all, attempt, endOf, shown, versionOf,
} from "./cell.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false; // They would stand between the lines of `run.mjs`.

const openai = ({ url }) => createOpenAI({ baseURL: url, apiKey: API_KEY });

const compatible = ({ url }) =>
  createOpenAICompatible({
    baseURL: url, apiKey: API_KEY, name: "tailrace", includeUsage: true, supportsStructuredOutputs: true,
  });

const NO_RESUME = "The package has no call that reads an answer on.";
const NO_REASONING = "The package drops `reasoning_content`, which is no part of OpenAI's API.";
const NO_JSON = "Invalid JSON response"; // for an object that is not the one that it expects
const NO_TOOLS = "The call has no tools.";
const OBJECT_ALONE = "The call has the reasoning of an object alone.";

const PROVIDERS = [
  {
    name: "@ai-sdk/openai chat",
    modelOf: (cell, model) => openai(cell).chat(model),
    lateError: NO_JSON,
    leavesOut: { reasoning: NO_REASONING, resume: NO_RESUME },
  },
  {
    name: "@ai-sdk/openai responses",
    modelOf: (cell, model) => openai(cell).responses(model),
    // The provider asks for the reasoning of models whose names it knows, or of any if it is forced to.
    reasoning: { openai: { forceReasoning: true, reasoningSummary: "auto" } },
    leavesOut: { resume: NO_RESUME },
  },
  {
    name: "@ai-sdk/openai-compatible chat",
    modelOf: (cell, model) => compatible(cell).chatModel(model),
    lateError: NO_JSON,
    leavesOut: { resume: NO_RESUME },
  },
];

const weather = tool({ inputSchema: jsonSchema(TOOL.parameters), execute: () => RESULT });

// The SDK runs tools and sends the results: that turn has another model, whose answer is the text of the case `text`.
const withTools = (provider, cell) => ({
  tools: { [TOOL.name]: weather },
  stopWhen: isStepCount(2),
  prepareStep: ({ stepNumber }) => (stepNumber ? { model: provider.modelOf(cell, cell.modelOfText) } : {}),
});

const commonOf = (provider, cell) => ({
  model: provider.modelOf(cell, cell.model),
  prompt: QUESTION,
  maxRetries: 0,
  abortSignal: cell.signal,
  ...(cell.case === "length" && { maxOutputTokens: MAX_TOKENS }),
});

const requestOf = (provider, cell) => ({
  ...commonOf(provider, cell),
  ...(cell.case === "reasoning" && { providerOptions: provider.reasoning }),
  ...(cell.case === "structured" && { output: Output.object({ schema: jsonSchema(SCHEMA), name: "Weather" }) }),
  ...(cell.case === "tools" && withTools(provider, cell)),
});

const objectRequestOf = (provider, cell) => ({
  ...commonOf(provider, cell),
  schema: jsonSchema(SCHEMA),
  schemaName: "Weather",
});

const usageOf = ({ inputTokenDetails: input, outputTokenDetails: output, ...usage }) => ({
  input: usage.inputTokens,
  output: usage.outputTokens,
  total: usage.totalTokens,
  cached: input?.cacheReadTokens ?? 0,
  reasoning: output?.reasoningTokens ?? 0,
});

const callOf = ({ toolCallId: id, toolName: name, input }) => ({ id, name, arguments: input });

// The SDK has a refusal as a text, and a finish reason that no other answer of these cases has.
const textsOf = (text, reason) => (reason === "content-filter" ? { text: "", refusal: text } : { text });

async function fill(answer, result, cell) {
  const [first, ...others] = await result.steps;
  if (cell.case === "tools") {
    assert.deepEqual(others.map(({ text }) => text), [CASES.text.expected.text], "the results were not answered");
  }
  Object.assign(answer, textsOf(first.text, first.finishReason));
  answer.reasoning = first.reasoningText ?? "";
  answer.calls = first.toolCalls.map(callOf);
  answer.end = endOf(await result.finishReason);
  answer.usage = usageOf(first.usage);
  if (cell.case === "structured") answer.parsed = await result.output;
}

// The result of a call for an object. An answer that is none is an error, which has the text and what belongs to it.
async function fillFromObject(answer, call) {
  const result = await call().catch((error) => {
    if (!NoObjectGeneratedError.isInstance(error)) throw error;
    return error;
  });
  Object.assign(answer, textsOf(result.text ?? "", result.finishReason));
  answer.parsed = result.object;
  answer.end = endOf(result.finishReason);
  answer.usage = usageOf(result.usage);
}

const generateWhole = (provider) => (cell) =>
  attempt(async (answer) => {
    const call = () => generateObject(objectRequestOf(provider, cell));
    await Promise.all([fillFromObject(answer, call), cell.leave()]);
  });

const streamWhole = (provider) => (cell) =>
  attempt(async (answer) => {
    const onError = ({ error }) => {
      answer.error = shown(error);
    };
    const result = streamObject({ ...objectRequestOf(provider, cell), onError });
    const [partials] = await Promise.all([all(result.partialObjectStream), cell.leave()]);
    if (answer.error || cell.signal.aborted) return;
    const call = async () => ({
      object: await result.object, finishReason: await result.finishReason, usage: await result.usage,
    });
    await fillFromObject(answer, call);
    if (cell.case === "structured") assert.deepEqual(partials.at(-1), answer.parsed);
  });

const generate = (provider) => (cell) =>
  attempt(async (answer) => {
    const [result] = await Promise.all([generateText(requestOf(provider, cell)), cell.leave()]);
    await fill(answer, result, cell);
  });

const stream = (provider) => (cell) =>
  attempt(async (answer) => {
    const onError = ({ error }) => {
      answer.error = shown(error);
    };
    const result = streamText({ ...requestOf(provider, cell), onError });
    const read = async () => {
      for await (const piece of result.textStream) answer.text += piece;
    };
    await Promise.all([read(), cell.leave()]);
    if (answer.error || cell.signal.aborted) return;
    assert.equal(answer.text, (await result.steps).map(({ text }) => text).join(""));
    await fill(answer, result, cell);
  });

export const CLIENTS = PROVIDERS.flatMap(({ name, leavesOut, lateError, ...provider }) => {
  // (The stream of an object has no piece of a text that is none, so `streams` does not hold for it.)
  const ofObject = { reasoning: OBJECT_ALONE, ...leavesOut, tools: NO_TOOLS };
  const ofStream = { ...ofObject, reasoning: "The call has no reasoning." };
  const version = `${versionOf(name.split(" ")[0])} (ai ${versionOf("ai")})`;
  return [
    { client: `${name} generateText`, version, ask: generate(provider), lateError, leavesOut },
    { client: `${name} streamText`, version, ask: stream(provider), leavesOut, streams: true },
    { client: `${name} generateObject`, version, ask: generateWhole(provider), lateError, leavesOut: ofObject },
    { client: `${name} streamObject`, version, ask: streamWhole(provider), leavesOut: ofStream },
  ];
});
