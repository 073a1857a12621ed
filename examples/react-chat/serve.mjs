// The page, and its own server in front of Tailrace: it forwards /api/chat and adds the API key, which no browser sees.
// All users behind one key share its chats. This server has one user; with several, check here that the chat of a request
// (`id` in the body of POST /api/chat, or the path) belongs to the user who is signed in.
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import { extname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const PORT = Number(process.env.PORT ?? 3000);
const TAILRACE_URL = new URL(process.env.TAILRACE_URL ?? "http://127.0.0.1:8080");
const TAILRACE_KEY = process.env.TAILRACE_KEY;

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css" };
const BUILT = fileURLToPath(new URL("dist", import.meta.url));

// What `vite build` has written, by path.
const FILES = new Map(
  readdirSync(BUILT, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .map((name) => [name.slice(BUILT.length).replaceAll(sep, "/"), { type: TYPES[extname(name)], body: readFileSync(name) }]),
);
FILES.set("/", FILES.get("/index.html"));

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
    const file = FILES.get(pathname);
    if (pathname.startsWith("/api/chat")) forward(request, response);
    else if (file) response.writeHead(200, { "content-type": file.type ?? "application/octet-stream" }).end(file.body);
    else response.writeHead(404).end();
  })
  .listen(PORT, "127.0.0.1", function () {
    console.log(`http://127.0.0.1:${this.address().port}`);
  });
