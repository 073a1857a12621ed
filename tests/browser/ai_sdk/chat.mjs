// The chat of the AI SDK, as `useChat` has it but without React. Reads lines of JSON, one command each, and answers each
// with a line: the state of the chat after it.
import { createInterface } from "node:readline";
import { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";

class State {
  status = "ready";
  error = undefined;
  constructor(messages = []) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((each, at) => (at === index ? message : each));
  };
  snapshot = structuredClone;
}

class Chat extends AbstractChat {
  // `bodies`: what each POST has beside the messages, one after the other. `results`: of tools that the page runs.
  constructor({ id, url, bodies = [{}], messages, results }) {
    const finished = [];
    const requests = [];
    const recorded = (...given) => {
      requests.push(`${given[1]?.method ?? "GET"} ${new URL(given[0]).pathname}`);
      return fetch(...given);
    };
    super({
      id,
      state: new State(messages),
      transport: new DefaultChatTransport({
        api: `${url}/api/chat`,
        body: () => (bodies.length > 1 ? bodies.shift() : bodies[0]),
        fetch: recorded,
      }),
      onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
        finished.push({ isAbort, isDisconnect, isError, finishReason }),
      onToolCall: ({ toolCall }) => {
        if (results && toolCall.toolName in results) {
          const { toolName: tool, toolCallId } = toolCall;
          this.addToolOutput({ tool, toolCallId, output: results[tool] });
        }
      },
      sendAutomaticallyWhen: results && lastAssistantMessageIsCompleteWithToolCalls,
    });
    Object.assign(this, { finished, requests });
  }

  report() {
    const { id, status, error, messages, finished, requests } = this;
    return { id, status, error: error && { name: error.name, message: error.message }, messages, finished, requests };
  }
}

const text = (message) => message?.parts.map((part) => part.text ?? "").join("") ?? "";

const until = async (condition) => {
  while (!condition()) await new Promise((resume) => setTimeout(resume, 5));
};

let chat;
let running = Promise.resolve();

const COMMANDS = {
  open: (options) => {
    chat = new Chat(options);
  },
  send: ({ text: question, message }) => {
    running = chat.sendMessage(message ?? { text: question });
  },
  resume: () => {
    running = chat.resumeStream();
  },
  regenerate: () => {
    running = chat.regenerate();
  },
  text: ({ contains }) => until(() => text(chat.lastMessage).includes(contains)),
  stop: () => chat.stop(),
  end: () => running,
  keep: ({ messages }) => {
    chat.messages = messages;
  },
  report: () => {},
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  await COMMANDS[name](options);
  console.log(JSON.stringify(chat.report()));
}
