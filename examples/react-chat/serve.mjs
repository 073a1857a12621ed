// The page, and its own server in front of Tailrace: it forwards /api/chat and adds the API key, which no browser sees.
// All users behind one key share its chats. This server has one user; with several, check here that the chat of a request
// (`id` in the body of POST /api/chat, or the path) belongs to the user who is signed in.
import { readFileSync, readdirSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { extname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const PORT = Number(process.env.PORT ?? 3000);
const PUBLIC_URL = new URL(process.env.PUBLIC_URL ?? `http://localhost:${PORT}`); // The address that browsers show.
const TAILRACE_URL = new URL(process.env.TAILRACE_URL ?? "http://127.0.0.1:8080");
const TAILRACE_KEY = process.env.TAILRACE_KEY;
for (const { protocol, href } of [PUBLIC_URL, TAILRACE_URL]) {
  if (!["http:", "https:"].includes(protocol)) throw new Error(`${href} does not begin with http:// or https://`);
}

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

// Whether a request is for this server and comes from its own page. A page of another site has another `Origin`; one
// whose name was made to resolve to this address (DNS rebinding) has another `Host`.
function isOwn({ headers: { host, origin }, socket }) {
  const local = ["localhost", "127.0.0.1", "[::1]"].map((name) => new URL(`http://${name}:${socket.localPort}`));
  const own = [PUBLIC_URL, ...local];
  return own.some((url) => url.host === host) && (origin === undefined || own.some((url) => url.origin === origin));
}

// The API key goes to TAILRACE_URL alone: only path and query are taken from the request.
function forward(request, response, { pathname, search }) {
  const target = Object.assign(new URL(TAILRACE_URL), { pathname, search });
  const headers = { ...request.headers, host: target.host };
  delete headers.origin; // It was checked here, and the request is now this server's.
  if (TAILRACE_KEY) headers.authorization = `Bearer ${TAILRACE_KEY}`;
  const client = target.protocol === "https:" ? https : http;
  const forwarded = client.request(target, { method: request.method, headers }, (answer) => {
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
    // The whole target becomes a path, so that `//host/…` and `http://host/…` are unknown paths and name no other host.
    const url = new URL(`http://localhost/${request.url.replace(/^\//, "")}`);
    const file = FILES.get(url.pathname);
    if (!isOwn(request)) response.writeHead(403).end("Refused: the page or the host is not that of PUBLIC_URL.");
    else if (url.pathname === "/api/chat" || url.pathname.startsWith("/api/chat/")) forward(request, response, url);
    else if (file) response.writeHead(200, { "content-type": file.type ?? "application/octet-stream" }).end(file.body);
    else response.writeHead(404).end();
  })
  .listen(PORT, "127.0.0.1", function () {
    console.log(`http://127.0.0.1:${this.address().port}`);
  });
