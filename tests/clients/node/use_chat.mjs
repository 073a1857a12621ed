// `useChat` without a browser: `Chat` is the class that the hook makes, with the SDK's default transport.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { randomUUID } from "node:crypto";
import { RESULT, SCHEMA, TOOL } from "./cases.mjs";
import { API_KEY, MODEL, shown, until, versionOf } from "./tailrace.mjs";

const headers = { authorization: `Bearer ${API_KEY}` };

const bodyOf = ({ tools, schema }) => ({
  model: MODEL,
  ...(tools && { tools: [{ type: "function", function: TOOL }] }),
  ...(schema && {
    response_format: { type: "json_schema", json_schema: { name: "weather", schema: SCHEMA, strict: true } },
  }),
});

// A page's chat. `ends`: what `onFinish` has received.
function open(tailrace, asked = {}, more = {}) {
  const ends = [];
  const body = bodyOf(asked);
  const chat = new Chat({
    transport: new DefaultChatTransport({ api: `${tailrace.url}/api/chat`, fetch: tailrace.fetch, headers, body }),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
      chat.addToolOutput({ tool: toolName, toolCallId, output: RESULT });
    },
    onFinish: (end) => ends.push(end),
    ...more,
  });
  return { chat, ends };
}

const partsOf = (chat, type) => chat.lastMessage.parts.filter((part) => part.type === type);
const textOf = (chat) => (chat.lastMessage?.role === "assistant" ? joined(partsOf(chat, "text")) : "");
const joined = (parts) => parts.map(({ text }) => text).join("");

function answerOf({ chat, ends }, asked = {}) {
  const text = textOf(chat);
  return {
    text,
    refusal: "",
    reasoning: joined(partsOf(chat, "reasoning")),
    calls: chat.lastMessage.parts
      .filter((part) => "toolCallId" in part)
      .map(({ toolCallId: id, toolName, type, input }) => ({ id, name: toolName ?? type.slice("tool-".length), input })),
    finish: ends.at(-1)?.finishReason,
    value: asked.schema && JSON.parse(text),
    error: chat.error && shown(chat.error),
  };
}

async function ask(tailrace, asked) {
  const page = open(tailrace, asked);
  await page.chat.sendMessage({ text: "Well?" });
  return answerOf(page, asked);
}

// The stop button of a page: the route that the SDK has no call for. The page reads to the end of its stream.
async function stop(tailrace) {
  const page = open(tailrace);
  const reading = page.chat.sendMessage({ text: "Well?" });
  await tailrace.written("Once");
  const response = await fetch(`${tailrace.url}/api/chat/${page.chat.id}/stop`, { method: "POST", headers });
  if (!response.ok) throw new Error(`stop: ${response.status}`);
  await reading;
  if (page.chat.status !== "ready") throw new Error(`the page is ${page.chat.status}: ${shown(page.chat.error)}`);
  return answerOf(page);
}

// A page that is closed in the middle of the answer, and one that is loaded afterwards.
async function reload(tailrace) {
  const id = randomUUID();
  const first = open(tailrace, {}, { id }).chat;
  const reading = first.sendMessage({ text: "Well?" });
  await until(() => textOf(first).includes("t9 "));
  await first.stop();
  await reading;
  const load = async () => (await tailrace.get(`/api/chat/${id}/messages`)).messages;
  const second = open(tailrace, {}, { id, messages: await load() }).chat;
  await second.resumeStream();
  return { resumed: second.messages, whole: await load() };
}

export const CLIENTS = [
  {
    client: "@ai-sdk/react useChat",
    version: `${versionOf("@ai-sdk/react")}, ai ${versionOf("ai")}`,
    ask,
    cancel: stop,
    resume: reload,
    streams: true,
    runsTools: true,
    lacks: { refusal: "a refusal is a text part" },
    skips: ["usage"],
  },
];
