"""The dashboard in Chromium: every view, every act, its keyboard, its layout and its accessibility."""

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from support import npm
from support.api import Api, eventually
from support.stack import Stack, stack

OpenPage = Callable[..., Awaitable[Page]]

AXE = Path(__file__).parent / "axe"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (360, 1440)
END: list[dict[str, Any]] = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
QUICK = {"tokens": {"count": 20, "rate": 500}}
SLOW = {"tokens": {"count": 2000, "rate": 20}}
KEYS = ",".join(
    (
        "web:key-of-web-1;scopes=read+create+cancel",
        "ops:key-of-ops-1;scopes=admin",
        "view:key-of-view-1;scopes=admin:view",
    )
)
CLIPBOARD = ["clipboard-read", "clipboard-write"]
VIEWS = ("", "/generations", "/workers", "/upstreams", "/callers", "/health")

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

CUT_OFF = """[...document.querySelectorAll(".scroll, gap-strip, .facts, dialog[open]")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.textContent.slice(0, 80))"""
"""What is wider than its frame, without being wider than the page."""

RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded() -> AsyncIterator[Stack]:
    async with stack(lease_s="1", drain_s="0.5", api_keys=KEYS, ticket_secret="0123456789abcdef") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def web(guarded: Stack) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as http:
        yield Api(http, guarded.url, "key-of-web-1")


@pytest.fixture(scope="module")
def axe() -> str:
    return (npm.install(AXE) / "node_modules/axe-core/axe.min.js").read_text()


async def log_in(
    open_page: OpenPage, guarded: Stack, path: str = "", key: str = "key-of-ops-1", **options: Any
) -> Page:
    page = await open_page(f"{guarded.url}/dashboard{path}", models=None, **options)
    await page.get_by_label("API key").fill(key)
    await page.keyboard.press("Enter")
    await expect(page.locator("#bar")).to_be_visible()
    return page


async def answer(page: Page, word: str) -> None:
    """Agree to the question that is asked."""
    await page.locator("#question").get_by_role("button", name=word).click()


async def status_of(web: Api, generation_id: str) -> str:
    response = await web.get(generation_id)
    return str(response.value.get("status", response.status))


async def test_login_refuses_a_wrong_key_and_is_left_by_the_button(guarded: Stack, open_page: OpenPage) -> None:
    page = await open_page(f"{guarded.url}/dashboard", models=None, disturbed=True)
    await page.get_by_label("API key").fill("a-wrong-key")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("API key")
    await page.get_by_label("API key").fill("key-of-ops-1")
    await page.keyboard.press("Enter")
    await expect(page.locator(".tile").first).to_be_visible()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("API key")).to_be_visible()


async def test_overview_is_live_and_names_what_is_wrong_until_it_is_cured(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    page = await log_in(open_page, guarded)
    await expect(page.locator("#link")).to_have_text("live")
    await expect(page.locator("#badges")).to_be_hidden()
    generation_id = await web.create_scripted(QUICK, *END)
    await expect(page.locator(f"tr[data-key={generation_id}] .pill")).to_have_text("completed")
    await guarded.workers[0].stop(signal.SIGKILL)
    await expect(page.locator("#badges li")).to_contain_text("No worker is alive")
    await guarded.workers[0].start()
    await expect(page.locator("#badges")).to_be_hidden()
    for name in ("60 minutes", "3 days", "last minutes"):
        await page.locator("#range").select_option(label=name)
        await expect(page.locator("time-chart canvas").first).to_be_visible()
    await page.locator("time-chart summary").first.click()
    await expect(page.locator("time-chart tbody tr").first).to_be_visible()


async def test_search_selects_and_ends_what_was_asked_for(guarded: Stack, web: Api, open_page: OpenPage) -> None:
    ids = [await web.create_scripted(SLOW, *END) for _ in range(3)]
    page = await log_in(open_page, guarded, "/generations", disturbed=True)
    await page.locator("#q").fill("status:running owner:web")
    await page.keyboard.press("Enter")
    for generation_id in ids[:2]:
        await page.get_by_label(f"Select {generation_id}").check()
    await expect(page.locator(".acting")).to_contain_text("2 generations selected")
    await page.locator(".acting").get_by_role("button", name="Cancel").click()
    await expect(page.locator("#question")).to_contain_text("Cancel 2 generations?")
    await answer(page, "Keep")
    assert await status_of(web, ids[0]) == "running"
    refusal = {"error": {"message": "Redis is away.", "type": "server_error", "param": None, "code": "unavailable"}}
    await page.route("**/v1/admin/generations/cancel", lambda route: route.fulfill(status=503, json=refusal), times=1)
    await page.locator(".acting").get_by_role("button", name="Cancel").click()
    await answer(page, "Cancel 2")
    await expect(page.locator(".outcome")).to_have_text("Redis is away.")
    await expect(page.locator(".outcome")).to_be_visible()
    await page.locator(".acting").get_by_role("button", name="Cancel").click()
    await answer(page, "Cancel 2")
    await expect(page.locator(".outcome")).to_have_text("2 cancelled, 0 unchanged, 0 missing, 0 failed.")
    for generation_id in ids[:2]:
        await expect(page.locator(f"tr[data-key={generation_id}]")).to_have_count(0)
    assert [await status_of(web, each) for each in ids] == ["cancelled", "cancelled", "running"]
    await page.get_by_label(f"Select {ids[2]}").check()
    await page.locator(".acting").get_by_role("button", name="Delete").click()
    await answer(page, "Delete 1")
    await expect(page.locator(f"tr[data-key={ids[2]}]")).to_have_count(0)
    assert await status_of(web, ids[2]) == "410"


async def test_id_opens_its_generation_and_a_wrong_word_is_explained(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    generation_id = await web.create_scripted(QUICK, *END)
    page = await log_in(open_page, guarded, "/generations", disturbed=True)
    await page.locator("#q").fill("colour:red")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("no qualifier")
    await page.locator("#q").fill(generation_id.replace("gen_", "chatcmpl-"))
    await page.keyboard.press("Enter")
    await expect(page.locator("h1.id")).to_have_text(generation_id)


async def test_generation_has_its_text_its_gaps_and_survives_its_worker(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    generation_id = await web.create_scripted({"tokens": {"count": 80, "rate": 20}}, *END)
    page = await log_in(open_page, guarded, f"/generations/{generation_id}")
    await expect(page.locator("live-text pre")).to_contain_text("t10")
    await guarded.workers[0].stop(signal.SIGKILL)
    await guarded.workers[0].start()
    await expect(page.locator(".waterfall")).to_contain_text("Attempt 2")
    await expect(page.locator(".summary .pill").first).to_have_text("completed")
    text = (await page.locator("live-text pre").inner_text()).split()
    assert text == [f"t{n}" for n in range(80)], "each token once"
    await expect(page.locator(".facts")).to_contain_text("Longest gap")
    await expect(page.locator(".summary")).to_contain_text("lease lost")
    await expect(page.locator(".summary")).to_contain_text("restarted")
    await page.locator("gap-strip li button").first.click()
    await expect(page.locator("#announcer")).to_contain_text("Gap of")
    await page.locator("summary", has_text="Request").click()
    await expect(page.locator("details[data-name=request] pre")).to_contain_text('"messages"')


async def test_generation_is_cancelled_copied_downloaded_and_deleted(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    generation_id = await web.create_scripted(SLOW, *END)
    page = await log_in(
        open_page, guarded, f"/generations/{generation_id}", permissions=["clipboard-read", "clipboard-write"]
    )
    await page.get_by_role("button", name="Copy id").click()
    await expect(page.locator("#announcer")).to_have_text("The id is copied.")
    assert await page.evaluate("navigator.clipboard.readText()") == generation_id
    await page.get_by_role("button", name="Copy as curl").click()
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await answer(page, "Cancel it")
    await expect(page.locator(".summary .pill")).to_have_text("cancelled")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download").click()
    assert (await download.value).suggested_filename == f"{generation_id}.json"
    await page.get_by_role("button", name="Delete").click()
    await answer(page, "Delete it")
    await expect(page.get_by_role("heading", name="Generations")).to_be_visible()
    assert await status_of(web, generation_id) == "410"


async def test_generation_has_its_readers_its_log_and_another_run(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    generation_id = await web.create_scripted(SLOW, *END)
    page = await log_in(open_page, guarded, f"/generations/{generation_id}")
    await expect(page.locator("reader-list")).to_contain_text("a dashboard")
    stream = await web.stream(generation_id)
    await expect(page.locator("reader-list tbody tr")).to_have_count(2)
    await expect(page.locator("reader-list")).to_contain_text("live")
    stream.cut()
    await expect(page.locator("reader-list tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await answer(page, "Cancel it")
    await expect(page.locator(".summary .pill").first).to_have_text("cancelled")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Log as NDJSON").click()
    file = await download.value
    assert file.suggested_filename == f"{generation_id}.ndjson"
    lines = [json.loads(line) for line in _lines(await file.path())]
    assert (lines[0]["event"], lines[-1]["event"]) == ("created", "done")
    await page.get_by_role("button", name="Run again").click()
    await expect(page.locator("#question")).to_contain_text("web")
    await answer(page, "Run it again")
    await expect(page.locator("h1.id")).not_to_have_text(generation_id)
    again = await page.locator("h1.id").inner_text()
    assert (await web.get(again)).value["request"] == (await web.get(generation_id)).value["request"]
    await web.cancel(again)


async def test_upstream_has_its_429s_its_limits_and_its_last_error(
    guarded: Stack, web: Api, open_page: OpenPage
) -> None:
    headers = {"x-ratelimit-remaining-requests": "17", "x-ratelimit-remaining-tokens": "4000", "retry-after-ms": "1"}
    page = await log_in(open_page, guarded, "/upstreams")
    generation_id = await web.create_scripted({"statuses": [429], "headers": headers}, *END, script_id="limited")
    await web.wait_for_result(generation_id)
    row = page.locator("tbody tr").first
    await expect(row).to_contain_text("17 requests, 4,000 tokens")
    await expect(row).to_contain_text("429")
    await expect(row.locator("td[data-name='429s']")).not_to_have_text("0")
    await page.get_by_role("link", name="Health").click()
    await expect(page.locator("tbody").first).to_contain_text("worker")
    await expect(page.locator("tbody").first).to_contain_text("frontend")
    await expect(page.locator("tbody").first).not_to_contain_text("not ready")


async def test_limits_of_a_caller_are_changed_and_removed(guarded: Stack, web: Api, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded, "/callers", disturbed=True)

    async def policy() -> dict[str, Any]:
        async with aiohttp.ClientSession() as http:
            found = await Api(http, guarded.url, "key-of-ops-1").request("GET", "/v1/admin/callers/web")
        return dict(found.value["policy"])

    dialog = page.locator("#policy")
    await page.get_by_role("button", name="Limits of web").click()
    await dialog.get_by_label("Weight").fill("2.5")
    await dialog.get_by_label("Running at once").fill("7")
    await dialog.get_by_label("US dollars a day").fill("0.75")
    await dialog.get_by_label("Models").fill("demo* scripted")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    await expect(page.locator("tr[data-key=web]")).to_contain_text("/ 7")
    changed = {"weight": 2.5, "max_running": 7, "budget_day_usd": 0.75, "models": ["demo*", "scripted"]}
    assert await policy() == changed
    await page.get_by_role("button", name="Limits of web").click()
    await dialog.get_by_label("Weight").fill("100000")
    await dialog.get_by_label("US dollars a day").fill("")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("weight")
    assert await policy() == changed
    await dialog.get_by_label("Weight").fill("2.5")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_have_count(0)
    assert await policy() == {name: value for name, value in changed.items() if name != "budget_day_usd"}
    await page.get_by_role("button", name="Limits of web").click()
    await dialog.get_by_role("button", name="Remove all").click()
    await answer(page, "Keep")
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="Remove all").click()
    await answer(page, "Remove it")
    await expect(dialog).to_have_count(0)
    assert await policy() == {}


async def test_key_without_content_and_acts_sees_neither(guarded: Stack, web: Api, open_page: OpenPage) -> None:
    prompt = [{"role": "user", "content": "A prompt that only auditors see"}]
    generation_id = await web.create_scripted(QUICK, *END, messages=prompt)
    page = await log_in(open_page, guarded, f"/generations/{generation_id}", key="key-of-view-1")
    await expect(page.locator(".text")).to_contain_text("admin:content")
    for name in ("Delete", "Run again", "Log as NDJSON"):
        await expect(page.get_by_role("button", name=name)).to_be_hidden()
    await page.get_by_role("link", name="Generations").click()
    await expect(page.locator(f"tr[data-key={generation_id}]")).to_be_visible()
    assert "only auditors" not in await page.content()
    await expect(page.locator("input[type=checkbox]")).to_have_count(0)
    await page.get_by_role("link", name="Workers").click()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await expect(page.get_by_role("button", name="Drain")).to_have_count(0)


async def test_missing_generation_has_no_acts_and_is_asked_for_once(guarded: Stack, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded, disturbed=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{guarded.url}/dashboard/generations/gen_{'a' * 26}")
    await expect(page.locator(".summary .pill")).to_have_text("gone")
    await expect(page.locator("[data-act]:visible")).to_have_count(0)
    await expect(page.locator("main section:visible")).to_have_count(0)
    await page.wait_for_timeout(4000)  # two refreshes
    assert len([url for url in asked if "/generations/gen_" in url and "/admin/" in url]) == 1


async def test_spans_are_rounded_before_they_are_split(guarded: Stack, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded)
    text = """async (spans) => {
      const script = document.querySelector("script[type=module]").src;
      const { span } = await import(new URL("./format.js", script));
      return spans.map(span);
    }"""
    spans = [59.97, 179.7, 3599.6, 7199, 100_000]
    assert await page.evaluate(text, spans) == ["1 min 0 s", "3 min 0 s", "1 h 0 min", "2 h 0 min", "27 h 47 min"]


async def test_worker_is_drained_and_stopped(guarded: Stack, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded, "/workers")
    await page.get_by_role("button", name="Drain").click()
    await expect(page.locator("#question")).to_contain_text("Drain worker")
    await answer(page, "Drain worker")
    await expect(page.locator("tbody")).to_contain_text("draining")
    await expect(page.locator("#badges")).to_contain_text("Every worker drains")
    await page.get_by_role("button", name="Stop").click()
    await answer(page, "Stop worker")
    assert await guarded.workers[0].wait() == 0
    await expect(page.get_by_text("No worker is alive.", exact=True)).to_be_visible()
    await guarded.workers[0].start()
    await expect(page.locator("tbody")).to_contain_text("takes jobs")


async def test_caller_is_blocked_and_unblocked(guarded: Stack, web: Api, open_page: OpenPage) -> None:
    await web.create_scripted(QUICK, *END)
    page = await log_in(open_page, guarded, "/callers")
    await page.get_by_role("button", name="Block web").click()
    await answer(page, "Block it")
    await expect(page.get_by_role("button", name="Unblock web")).to_be_visible()
    assert (await web.list()).status == 403
    await page.get_by_role("button", name="Unblock web").click()
    await answer(page, "Unblock it")
    await expect(page.get_by_role("button", name="Block web", exact=True)).to_be_visible()
    assert (await web.list()).status == 200


async def test_keyboard_reaches_views_rows_and_the_search(guarded: Stack, web: Api, open_page: OpenPage) -> None:
    ids = [await web.create_scripted(QUICK, *END) for _ in range(2)]
    page = await log_in(open_page, guarded)
    await expect(page.locator(".tile").first).to_be_visible()
    for key, heading in (("3", "Workers"), ("4", "Upstreams"), ("5", "Callers"), ("6", "Health"), ("2", "Generations")):
        await page.keyboard.press(key)
        await expect(page.locator("h1")).to_have_text(heading)
    await expect(page.locator(f"tr[data-key={ids[1]}]")).to_be_visible()
    await page.keyboard.press("j")
    await page.keyboard.press("x")
    await expect(page.locator(".acting")).to_contain_text("1 generation selected")
    await page.keyboard.press("/")
    await expect(page.locator("#q")).to_be_focused()
    await page.keyboard.press("Escape")
    await page.locator("tbody th a").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1.id")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.locator("#shortcuts")).to_be_visible()


async def test_choices_are_kept_and_a_paused_page_has_no_connection(guarded: Stack, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded)
    await expect(page.locator("#link")).to_have_text("live")
    await page.keyboard.press("p")
    await expect(page.locator("#link")).to_have_text("paused")
    await page.locator("#theme").select_option("dark")
    await page.reload()
    await expect(page.locator("#bar")).to_be_visible()
    await expect(page.locator("#link")).to_have_text("paused")
    await expect(page.locator("#theme")).to_have_value("dark")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")

    async def no_reader() -> bool:
        async with aiohttp.ClientSession() as http:
            overview = await Api(http, guarded.url, "key-of-ops-1").request("GET", "/v1/admin/overview")
        return bool(overview.value["readers"] == 0)

    await eventually(no_reader)


async def test_hidden_tab_closes_its_connection_and_a_visible_one_is_fresh(guarded: Stack, open_page: OpenPage) -> None:
    page = await log_in(open_page, guarded)
    await expect(page.locator("#link")).to_have_text("live")
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    async with aiohttp.ClientSession() as http:
        ops = Api(http, guarded.url, "key-of-ops-1")

        async def readers() -> int:
            return int((await ops.request("GET", "/v1/admin/overview")).value["readers"])

        await eventually(lambda: _is(readers, 1))
        await page.evaluate(hide, True)
        await eventually(lambda: _is(readers, 0))
        await page.evaluate(hide, False)
        await eventually(lambda: _is(readers, 1))


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


async def _is(read: Callable[[], Awaitable[int]], value: int) -> bool:
    return await read() == value


async def test_dashboard_outlives_its_frontend(open_page: OpenPage) -> None:
    async with stack(workers=1, lease_s="1", drain_s="0.5") as product:
        page = await open_page(f"{product.url}/dashboard", models=None, disturbed=True)
        await expect(page.locator("#link")).to_have_text("live")
        await product.frontends[0].stop()
        await expect(page.locator("#link")).to_have_text("reconnecting")
        await product.frontends[0].start()
        await expect(page.locator("#link")).to_have_text("live")
        await expect(page.locator(".tile").first).to_be_visible()


@npm.requires_npm
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_every_view_is_accessible_and_fits(
    guarded: Stack, web: Api, open_page: OpenPage, axe: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    generation_id = await web.create_scripted(QUICK, *END)
    await web.create(model="demo:error-500")
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    page = await open_page(f"{guarded.url}/dashboard", models=None, reduced_motion="reduce", **options)
    findings: dict[str, list[str]] = {}

    async def check(state: str) -> None:
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, state
        assert await page.evaluate(CUT_OFF) == [], state
        await page.evaluate(axe)
        findings[state] = await page.evaluate(RUN_AXE)

    await expect(page.get_by_label("API key")).to_be_visible()
    await check("login")
    await page.get_by_label("API key").fill("key-of-ops-1")
    await page.keyboard.press("Enter")
    await expect(page.locator(".tile").first).to_be_visible()
    async with aiohttp.ClientSession() as http:
        limits = {"budget_day_tokens": 2_000_000, "budget_month_tokens": 40_000_000}
        ops = Api(http, guarded.url, "key-of-ops-1")
        await ops.request("PATCH", "/v1/admin/callers/web", json=limits)
    for view in (*VIEWS, f"/generations/{generation_id}"):
        await page.goto(f"{guarded.url}/dashboard{view}")
        await expect(page.locator("#link")).to_have_text("live")
        await expect(page.locator(".tile, tbody tr, .checks li").first).to_be_visible()
        await check(view)
    await page.locator("summary", has_text="Entries by kind").click()
    await check("details")
    await page.get_by_role("button", name="Run again").click()
    await check("run again")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Delete").click()
    await check("question")
    await page.keyboard.press("Escape")
    await page.goto(f"{guarded.url}/dashboard")
    await page.locator("#range").select_option(label="60 minutes")
    await expect(page.locator(".errors")).to_be_visible()
    await check("history")
    await page.goto(f"{guarded.url}/dashboard/callers")
    await page.get_by_role("button", name="Limits of web").click()
    await expect(page.locator("#policy")).to_be_visible()
    await check("limits")
    assert {state: found for state, found in findings.items() if found} == {}
