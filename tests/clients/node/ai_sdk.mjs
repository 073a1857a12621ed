// The core of the AI SDK: `generateText` and `streamText` with each of its providers for OpenAI's routes.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import { RESULT, SCHEMA, TOOL } from "./cases.mjs";
import { API_KEY, MODEL, shown, versionOf } from "./tailrace.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false; // They would stand between the lines of `run.mjs`.

const settings = (tailrace) => ({ baseURL: tailrace.api, apiKey: API_KEY, fetch: tailrace.fetch });
const openai = (tailrace) => createOpenAI(settings(tailrace));

const compatible = (tailrace) =>
  createOpenAICompatible({
    ...settings(tailrace), name: "tailrace", includeUsage: true, supportsStructuredOutputs: true,
  });

const NO_REFUSAL = "the AI SDK does not pass refusals on";

const PROVIDERS = [
  {
    name: "@ai-sdk/openai",
    route: "chat",
    modelOf: (tailrace) => openai(tailrace).chat(MODEL),
    lacks: { refusal: NO_REFUSAL, reasoning: "the provider does not read `reasoning_content`" },
  },
  {
    name: "@ai-sdk/openai",
    route: "responses",
    modelOf: (tailrace) => openai(tailrace).responses(MODEL),
    // The provider asks for reasoning of models that it knows, or that are named as reasoning models.
    reasoning: { openai: { forceReasoning: true, reasoningSummary: "auto" } },
    lacks: { refusal: NO_REFUSAL },
  },
  {
    name: "@ai-sdk/openai-compatible",
    route: "chat",
    modelOf: (tailrace) => compatible(tailrace).chatModel(MODEL),
    lacks: { refusal: NO_REFUSAL },
  },
];

const requestOf = (provider, tailrace, asked, abortSignal) => ({
  model: provider.modelOf(tailrace),
  prompt: "Well?",
  maxRetries: 0,
  abortSignal,
  ...(asked.reasoning && { providerOptions: provider.reasoning }),
  ...(asked.schema && { output: Output.object({ schema: jsonSchema(SCHEMA) }) }),
  ...(asked.tools && { tools: { [TOOL.name]: look }, stopWhen: isStepCount(2) }),
});

const look = tool({ description: TOOL.description, inputSchema: jsonSchema(TOOL.parameters), execute: () => RESULT });

const callOf = ({ toolCallId: id, toolName: name, input }) => ({ id, name, input });

const newAnswer = () => ({ text: "", refusal: "", reasoning: "", calls: [] });

async function fill(answer, result, asked) {
  answer.text = await result.text;
  answer.reasoning = (await result.reasoningText) ?? "";
  answer.calls = (await result.steps).flatMap(({ toolCalls }) => toolCalls).map(callOf);
  answer.finish = await result.finishReason;
  const { inputTokens: input, outputTokens: output, totalTokens: total } = await result.usage;
  answer.usage = { input, output, total };
  if (asked.schema) answer.value = await result.output;
}

const generate = (provider) => async (tailrace, asked, signal) => {
  const answer = newAnswer();
  try {
    await fill(answer, await generateText(requestOf(provider, tailrace, asked, signal)), asked);
  } catch (error) {
    answer.error = shown(error);
  }
  return answer;
};

const stream = (provider) => async (tailrace, asked, signal) => {
  const answer = newAnswer();
  const onError = ({ error }) => {
    answer.error = shown(error);
  };
  try {
    const result = streamText({ ...requestOf(provider, tailrace, asked, signal), onError });
    for await (const piece of result.textStream) answer.text += piece;
    if (!answer.error && !signal?.aborted) await fill(answer, result, asked);
  } catch (error) {
    answer.error ??= shown(error);
  }
  return answer;
};

export const CLIENTS = PROVIDERS.flatMap((provider) => {
  const row = (call, ask, more) => ({
    client: `${provider.name} ${provider.route} ${call}`,
    version: `${versionOf(provider.name)}, ai ${versionOf("ai")}`,
    ask: ask(provider),
    runsTools: true,
    lacks: provider.lacks,
    ...more,
  });
  return [row("generateText", generate), row("streamText", stream, { streams: true })];
});
