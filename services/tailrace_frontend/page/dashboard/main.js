/* The frame of the dashboard: who looks, which view is shown, what is wrong, the keyboard. */

import { get, post, remove, session, whenLoggedOut } from "./api.js";
import { announce, isAsking } from "./confirm.js";
import { el, setText, template } from "./dom.js";
import { live } from "./live.js";
import { callers } from "./callers.js";
import { generation } from "./generation.js";
import { generations } from "./generations.js";
import { health } from "./health.js";
import { overview } from "./overview.js";
import { upstreams } from "./upstreams.js";
import { workers } from "./workers.js";

const VIEWS = { "": overview, generations, workers, upstreams, callers, health };
const THEME = "tailrace.dashboard.theme";
const $ = (id) => document.getElementById(id);
const main = $("view");
let leaveView = () => {};
let lifetime = new AbortController();

/** Shows the view that the address names. A view is called with its root, the rest of the address and a signal that
 * ends with it; what it returns is called when it is left. */
async function show({ focus = false } = {}) {
  lifetime.abort();
  leaveView();
  lifetime = new AbortController();
  const [name = "", rest = ""] = location.pathname.replace(/^\/dashboard\/?/, "").split("/");
  const view = name === "generations" && rest ? generation : VIEWS[name];
  for (const link of document.querySelectorAll("#bar nav a")) {
    if (link.dataset.view === name) {
      link.setAttribute("aria-current", "page");
      link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 16; // where the bar is narrow
    } else link.removeAttribute("aria-current");
  }
  main.replaceChildren();
  document.title = `${rest || name || "overview"} · tailrace`;
  leaveView = () => {};
  if (!view) return main.append(el("h1", {}, "There is no such view."));
  const leave = view(main, rest, lifetime.signal);
  leaveView = typeof leave === "function" ? leave : () => {};
  if (focus) main.focus();
}

export function navigate(address) {
  history.pushState(null, "", address);
  show({ focus: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/dashboard']");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.target) return;
  event.preventDefault();
  navigate(link.getAttribute("href"));
});
addEventListener("popstate", () => show());
addEventListener("navigate-to", (event) => navigate(event.detail));

/* Logging in and out */

function showLogin() {
  lifetime.abort();
  leaveView();
  leaveView = () => {};
  live.stop();
  for (const part of ["bar", "badges"]) $(part).hidden = true;
  main.replaceChildren(template("login"));
  const form = main.querySelector("form");
  const problem = form.querySelector(".problem");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await post("/session", { key: form.querySelector("input").value });
      await begin();
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
  form.querySelector("input").focus();
}

async function begin() {
  const me = await get("/session");
  if (!me.caller) return showLogin();
  session.set(me);
  $("bar").hidden = false;
  $("leave").hidden = me.caller === "open";
  $("leave").title = me.caller;
  live.start();
  show();
}

whenLoggedOut(showLogin);
$("leave").addEventListener("click", async () => {
  await remove("/session").catch(() => {});
  showLogin();
});

/* What is wrong, and whether what is shown is live */

live.addEventListener("snapshot", () => {
  const { badges } = live.snapshot;
  const list = $("badges");
  const known = new Set([...list.children].map((each) => each.dataset.code));
  const news = badges.filter(({ code }) => !known.has(code));
  list.replaceChildren(...badges.map(({ code, level, text }) => el("li", { "data-code": code, "data-level": level }, text)));
  list.hidden = !badges.length;
  if (news.length) announce(news.map(({ text }) => text).join(" "));
});
live.addEventListener("state", () => {
  const words = { live: "live", paused: "paused", away: "reconnecting", connecting: "connecting" };
  setText($("link"), words[live.state]);
  $("link").dataset.state = live.state;
});
live.addEventListener("refused", () => get("/me").catch(() => {}));

/* Choices that this browser keeps */

$("interval").value = String(live.interval);
$("interval").addEventListener("change", () => (live.interval = Number($("interval").value)));
$("theme").value = localStorage.getItem(THEME) ?? "";
document.documentElement.dataset.theme = $("theme").value;
$("theme").addEventListener("change", () => {
  localStorage.setItem(THEME, $("theme").value);
  document.documentElement.dataset.theme = $("theme").value;
  dispatchEvent(new Event("themechange"));
});

/* Keyboard */

const NAMES = Object.keys(VIEWS);
$("help").addEventListener("click", () => $("shortcuts").showModal());

function move(step) {
  const links = [...main.querySelectorAll("tbody tr th a, tbody tr td.tick + th a")];
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  links[Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
}

function pause() {
  const before = Number($("interval").dataset.before || 1);
  $("interval").dataset.before = live.interval || before;
  live.interval = live.interval ? 0 : before;
  $("interval").value = String(live.interval);
}

addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey || isAsking() || $("bar").hidden) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea, dialog")) return;
  const { key } = event;
  if (key === "?") $("shortcuts").showModal();
  else if (NAMES[key - 1] !== undefined) navigate(`/dashboard${NAMES[key - 1] && `/${NAMES[key - 1]}`}`);
  else if (key === "/") {
    if (!main.querySelector("#q")) navigate("/dashboard/generations");
    main.querySelector("#q")?.focus();
  } else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "x") document.activeElement.closest("tr")?.querySelector("input[type=checkbox]")?.click();
  else if (key === "r") live.refresh();
  else if (key === "p") pause();
  else return;
  event.preventDefault();
});

begin().catch((error) => {
  showLogin();
  const problem = main.querySelector(".problem");
  problem.hidden = false;
  problem.textContent = error.message;
});
