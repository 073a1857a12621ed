// The page, and its own server in front of Tailrace: it forwards /api/chat and adds the API key, which no browser sees.
import { readFile } from "node:fs/promises";
import http from "node:http";

const PORT = Number(process.env.PORT ?? 3000);
const TAILRACE_URL = new URL(process.env.TAILRACE_URL ?? "http://127.0.0.1:8080");
const TAILRACE_KEY = process.env.TAILRACE_KEY;

const FILES = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/main.js": ["dist/main.js", "text/javascript; charset=utf-8"],
};

async function sendFile([name, type], response) {
  response.writeHead(200, { "content-type": type }).end(await readFile(new URL(name, import.meta.url)));
}

function forward(request, response) {
  const headers = { ...request.headers, host: TAILRACE_URL.host };
  delete headers.origin; // The request is this server's, not the page's.
  if (TAILRACE_KEY) headers.authorization = `Bearer ${TAILRACE_KEY}`;
  const forwarded = http.request(new URL(request.url, TAILRACE_URL), { method: request.method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
    answer.on("error", () => response.destroy()); // A broken stream must not look like a whole one.
  });
  forwarded.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on("close", () => forwarded.destroy());
  request.pipe(forwarded);
}

http
  .createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (pathname.startsWith("/api/chat")) forward(request, response);
    else if (FILES[pathname]) sendFile(FILES[pathname], response);
    else response.writeHead(404).end();
  })
  .listen(PORT, "127.0.0.1", function () {
    console.log(`http://127.0.0.1:${this.address().port}`);
  });
