// `useChat` without a browser: `Chat` is the class that the hook makes, here with the SDK's default transport.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  API_KEY, CASES, CUT_AFTER, MAX_TOKENS, QUESTION, RESULT, SCHEMA, TOOL,
  attempt, decoded, endOf, shown, until, versionOf,
} from "./cell.mjs";

const headers = { authorization: `Bearer ${API_KEY}` };
const FORMAT = { type: "json_schema", json_schema: { name: "Weather", schema: SCHEMA, strict: true } };

const bodyOf = (name) => ({
  ...(name === "tools" && { tools: [{ type: "function", function: TOOL }] }),
  ...(name === "structured" && { response_format: FORMAT }),
  ...(name === "length" && { max_completion_tokens: MAX_TOKENS }),
});

// A page's chat. `ends`: what `onFinish` has received. The page runs tools, and the SDK sends their results: that turn has
// another model, whose answer is the text of the case `text`.
function open(cell, more = {}) {
  const ends = [];
  const models = [cell.model, cell.modelOfText];
  const chat = new Chat({
    transport: new DefaultChatTransport({
      api: `${cell.root}/api/chat`,
      headers,
      body: () => ({ model: models.shift(), ...bodyOf(cell.case) }),
    }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
      chat.addToolOutput({ tool: toolName, toolCallId, output: RESULT });
    },
    onFinish: (end) => ends.push(end),
    ...more,
  });
  return { chat, ends };
}

const joined = (parts, type) => parts.filter((part) => part.type === type).map(({ text }) => text).join("");
const textOf = ({ lastMessage }) => (lastMessage?.role === "assistant" ? joined(lastMessage.parts, "text") : "");
const isRefusal = ({ providerMetadata }) => providerMetadata?.tailrace?.refusal === true; // a text part is marked as one

function fillFrom(answer, { chat, ends }) {
  const { parts } = chat.lastMessage;
  answer.text = joined(parts.filter((part) => !isRefusal(part)), "text");
  answer.refusal = joined(parts.filter(isRefusal), "text");
  answer.reasoning = joined(parts, "reasoning");
  answer.calls = parts.filter((part) => "toolCallId" in part).map(callOf);
  answer.end = endOf(ends.at(-1)?.finishReason);
  answer.parsed = decoded(answer.text);
  if (chat.error) answer.error = shown(chat.error);
}

const callOf = ({ toolCallId: id, toolName, type, input }) => ({
  id, name: toolName ?? type.slice("tool-".length), arguments: input,
});

const ask = (cell) =>
  attempt(async (answer) => {
    if (cell.case === "resume") return resume(answer, cell);
    const page = open(cell);
    const reading = page.chat.sendMessage({ text: QUESTION });
    if (cell.case === "cancel") await stop(page.chat, cell);
    await reading;
    fillFrom(answer, page);
    if (cell.case === "cancel") assert.equal(page.chat.status, "ready");
    if (cell.case !== "tools") return undefined;
    assert.equal(answer.text, CASES.text.expected.text, "the results were not answered");
    answer.text = ""; // that of the turn with the calls
    return undefined;
  });

// The stop button of a page: the route that the SDK has no call for. The page reads to the end of its stream.
async function stop(chat, cell) {
  await until(() => textOf(chat));
  const response = await fetch(`${cell.root}/api/chat/${chat.id}/stop`, { method: "POST", headers });
  assert.equal(response.status, 200);
}

// A page that is closed in the middle of the answer, and one that is loaded afterwards.
async function resume(answer, cell) {
  const id = randomUUID();
  const { chat } = open(cell, { id });
  const reading = chat.sendMessage({ text: QUESTION });
  await until(() => textOf(chat).includes(CUT_AFTER));
  await chat.stop();
  await reading;
  const loaded = await fetch(`${cell.root}/api/chat/${id}/messages`, { headers });
  const page = open(cell, { id, messages: (await loaded.json()).messages });
  await page.chat.resumeStream();
  assert.deepEqual(page.chat.messages.map(({ role }) => role), ["user", "assistant"]);
  fillFrom(answer, page);
}

export const CLIENTS = [
  {
    client: "@ai-sdk/react useChat",
    version: `${versionOf("@ai-sdk/react")} (ai ${versionOf("ai")})`,
    ask,
    streams: true,
    leavesOut: { usage: "A UI message stream has no usage." },
  },
];
