// The resuming side: node:http, one context, each stream resumed for each client and piped chunk by chunk.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.cwd()}/`); // the packages are in the working directory
const { createResumableStreamContext } = require("resumable-stream");

const context = createResumableStreamContext({ waitUntil: null });
const headers = { "Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no" };

createServer(async (request, response) => {
  const stream = await context.resumeExistingStream(request.url.split("/").at(-1));
  if (!stream) return response.writeHead(404).end();
  response.writeHead(200, headers).flushHeaders();
  const reader = stream.getReader();
  response.on("close", () => reader.cancel().catch(() => {}));
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    if (!response.write(piece.value)) await new Promise((resolve) => response.once("drain", resolve));
  }
  response.end();
}).listen(Number(process.env.PORT), "127.0.0.1", 4096);
