// Reads UI message streams with the AI SDK. Its input is one JSON object of streams by name; it prints what a page would
// have of each: the message, the error, the finish reason, and whether the page would be `ready` or in `error`.
import { text } from "node:stream/consumers";
import { AbstractChat, DefaultChatTransport } from "ai";

class State {
  status = "ready";
  messages = [];
  pushMessage = (message) => this.messages.push(message);
  popMessage = () => this.messages.pop();
  replaceMessage = (index, message) => {
    this.messages[index] = message;
  };
  snapshot = structuredClone;
}

class Page extends AbstractChat {
  constructor(stream, onFinish) {
    const fetch = async () => new Response(stream, { headers: { "content-type": "text/event-stream" } });
    super({ state: new State(), transport: new DefaultChatTransport({ fetch }), onFinish });
  }
}

async function read(stream) {
  let finishReason;
  const page = new Page(stream, (end) => {
    finishReason = end.finishReason;
  });
  await page.resumeStream();
  return { messages: page.messages, status: page.status, error: page.error?.message, finishReason };
}

const streams = JSON.parse(await text(process.stdin));
const results = {};
for (const [name, stream] of Object.entries(streams)) results[name] = await read(stream);
console.log(JSON.stringify(results));
