"""What breaks while the user looks: the buttons of `tailrace dev`, an answer that starts over, a line that goes dead.

The stack has no `tailrace dev`: its routes are answered here, by a real SIGKILL and a new process.
"""

import asyncio
import itertools
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from support.chat_page import (
    END,
    CreatedGeneration,
    answer_in,
    finished_answer,
    generate,
    generate_held,
    generate_tokens,
    token_text,
    wait_for_state,
    wait_for_tokens,
)
from support.proxy import Proxy
from support.stack import Stack, stack

OpenPage = Callable[..., Awaitable[Page]]

KILLS = 3

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

RECORD_FRAMES = """() => {
  window.frames_seen = [];
  const record = () => {
    const layers = document.querySelector(".layers");
    const strip = document.querySelector(".strip");
    if (layers && strip) {
      frames_seen.push({ height: layers.offsetHeight, scrollY, strip: strip.getBoundingClientRect().top + scrollY });
    }
    requestAnimationFrame(record);
  };
  record();
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    async with stack(lease_s="2", drain_s="0.5", dev_processes="answered-by-the-test") as running:
        yield running


async def break_by_signals(page: Page, product: Stack) -> None:
    """Answer the routes of `tailrace dev`."""

    async def processes(route: Route) -> None:
        pids = {"worker": product.workers[0].pid, "frontend": product.frontends[0].pid}
        await route.fulfill(json={name: {"pid": pid, "restarts": 0} for name, pid in pids.items()})

    async def kill(route: Route) -> None:
        assert route.request.method == "POST"
        assert route.request.headers["x-tailrace-dev"] == "1"
        process = product.workers[0] if route.request.url.endswith("/worker") else product.frontends[0]
        await route.fulfill(status=202, json={"pid": process.pid})
        await process.stop(signal.SIGKILL)
        await process.start()

    await page.context.route("**/dev", processes)
    await page.context.route("**/dev/kill/*", kill)


async def open_breakable(product: Stack, open_page: OpenPage, generation: CreatedGeneration, **options: Any) -> Page:
    page = await open_page(product.url + "/", disturbed=True, **options)
    await break_by_signals(page, product)
    await page.goto(generation.url)
    await wait_for_tokens(page, 40)
    return page


async def wait_for_text_after_the_break(page: Page) -> None:
    await expect(page.locator(".experiment")).to_contain_text(
        re.compile(r"text goes on after [\d.]+ s"), timeout=40_000
    )


async def test_text_goes_on_after_each_kill_of_the_worker_from_the_page(product: Stack, open_page: OpenPage) -> None:
    page = await open_breakable(product, open_page, await generate_tokens(product, 3000, rate=60))
    for attempt in range(2, KILLS + 2):
        await page.get_by_role("button", name="Kill the worker").click()
        await expect(page.locator(".experiment")).to_contain_text(f"attempt {attempt}")
        await wait_for_text_after_the_break(page)
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")


async def test_killed_worker_costs_nothing_and_the_page_has_compared(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 300)
    page = await open_breakable(product, open_page, generation)
    await page.get_by_role("button", name="Kill the worker").click()
    await generation.release()
    assert await finished_answer(page) == token_text(300)
    await expect(page.locator(".experiment")).to_contain_text(
        re.compile(r"^Worker killed \(pid \d+\) · noticed after .* s · attempt 2 · .* · nothing lost, nothing twice: ")
    )
    await expect(page.get_by_role("button", name="Kill the worker")).to_be_hidden()


async def test_each_kill_names_its_own_worker_and_the_strip_none_that_is_dead(
    product: Stack, open_page: OpenPage
) -> None:
    page = await open_breakable(product, open_page, await generate_tokens(product, 3000, rate=60))
    worker, clock = page.locator("[data-figure=worker]"), page.locator(".experiment")
    for attempt in (2, 3):
        killed = (product.workers[0].pid, await worker.inner_text())
        await page.get_by_role("button", name="Kill the worker").click()
        await wait_for_state(page, "worker-lost")
        await expect(page.locator("#status")).to_have_text("The worker is lost. Another one takes over…")
        await expect(worker).to_be_hidden()
        await expect(clock).to_contain_text(f"Worker killed (pid {killed[0]}) · noticed after")
        await expect(clock).to_contain_text(f"attempt {attempt}")
        await expect(worker).to_be_visible()
        assert await worker.inner_text() != killed[1]
        await wait_for_text_after_the_break(page)
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")


async def test_button_that_breaks_keeps_the_focus_until_the_answer_ends(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 720)
    page = await open_breakable(product, open_page, generation)
    cut = page.get_by_role("button", name="Cut my connection")
    await cut.focus()
    await page.keyboard.press("Enter")
    await expect(cut).to_have_attribute("aria-disabled", "true")
    await expect(cut).to_be_focused()
    await page.keyboard.press("Enter")  # has no effect
    await expect(cut).to_have_attribute("aria-disabled", "false")
    await expect(cut).to_be_focused()
    await generation.release()
    assert await finished_answer(page) == token_text(720)
    await expect(page.locator(".message[data-role=assistant] > .actions button").first).to_be_focused()


async def test_kill_that_is_refused_gives_the_reason(product: Stack, open_page: OpenPage) -> None:
    page = await open_breakable(product, open_page, await generate_tokens(product, 600, rate=60))
    message = "The worker is not running at the moment; `tailrace dev` is starting it again."
    refusal = {"status": 503, "json": {"error": {"message": message, "code": "unavailable"}}}
    await page.context.route("**/dev/kill/*", lambda route: route.fulfill(**refusal))
    await page.get_by_role("button", name="Kill the worker").click()
    await expect(page.locator(".experiment")).to_have_text(f"Nothing was broken: {message}")
    await expect(page.get_by_role("button", name="Kill the worker")).to_have_attribute("aria-disabled", "false")
    await expect(page.locator("#status")).to_have_text("Streaming")
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")


async def test_lost_worker_of_a_queued_answer_shows_its_place(product: Stack, open_page: OpenPage) -> None:
    page = await open_breakable(product, open_page, await generate_tokens(product, 2000, rate=60))

    async def queued(route: Route) -> None:
        answer = await route.fetch()
        waits = {"status": "queued", "queue_position": 3, "worker_running": True}
        await route.fulfill(response=answer, json=await answer.json() | waits)

    await page.context.route("**/dev/kill/*", lambda route: route.fulfill(status=202, json={"pid": 1}))
    await page.route("**/v1/generations/*?output=false", queued)
    await page.get_by_role("button", name="Kill the worker").click()
    await expect(page.locator("#status")).to_have_text(
        "The worker is lost. Waiting for another one: position 3 in the queue"
    )
    await page.unroute_all(behavior="wait")
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")


async def test_answer_that_its_upstream_broke_off_names_that(product: Stack, open_page: OpenPage) -> None:
    generation = await generate(product, [{"tokens": {"count": 200, "rate": 100}}, {"reset": True}])
    page = await open_page(generation.url, disturbed=True)
    await wait_for_state(page, "restarted")
    await expect(page.locator("#status")).to_contain_text(
        "the upstream broke off, and the answer starts over. The earlier text is being replaced."
    )
    await page.get_by_role("button", name="Stop").click()


async def test_killed_web_server_costs_nothing(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 500)
    page = await open_breakable(product, open_page, generation)
    await page.get_by_role("button", name="Kill the web server").click()
    await generation.release()
    await wait_for_text_after_the_break(page)
    assert await finished_answer(page) == token_text(500)
    await expect(page.locator(".experiment")).to_contain_text("connected again after")
    await expect(page.locator(".experiment")).to_contain_text("nothing lost, nothing twice")
    await expect(page.locator("[data-figure=attempt]")).to_have_text("attempt 1")


async def test_cut_connection_costs_nothing(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 400)
    page = await open_breakable(product, open_page, generation)
    await page.get_by_role("button", name="Cut my connection").click()
    await generation.release()
    await wait_for_text_after_the_break(page)
    assert await finished_answer(page) == token_text(400)
    await expect(page.locator(".experiment")).to_contain_text(re.compile(r"^Connection cut · connected again after"))
    await expect(page.locator(".experiment")).to_contain_text("nothing lost, nothing twice")


async def test_earlier_text_is_overwritten_in_place_and_nothing_jumps(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 900)
    page = await open_breakable(product, open_page, generation)
    await wait_for_tokens(page, 400)
    await page.get_by_role("button", name="Kill the worker").click()  # which may scroll to the button
    await page.evaluate(RECORD_FRAMES)
    await generation.release()
    await expect(page.locator(".earlier")).to_be_visible()
    assert await page.locator(".earlier").get_attribute("aria-hidden") == "true"
    await wait_for_state(page, "restarted")
    await expect(page.locator(".earlier")).to_have_count(0, timeout=40_000)
    frames: list[dict[str, float]] = await page.evaluate("frames_seen")
    assert len(frames) > 50
    for before, after in itertools.pairwise(frames):
        assert after["height"] >= before["height"] - 1
        assert after["strip"] >= before["strip"] - 1
        assert after["scrollY"] >= before["scrollY"] - 1
    assert await finished_answer(page) == token_text(900)


async def test_new_text_out_of_sight_has_a_button_that_leads_to_it(product: Stack, open_page: OpenPage) -> None:
    page = await open_breakable(
        product, open_page, await generate_tokens(product, 3000, rate=150), viewport={"width": 390, "height": 600}
    )
    await wait_for_tokens(page, 500)
    await page.get_by_role("button", name="Kill the worker").click()
    before = await page.evaluate("scrollY")
    await expect(page.locator("#latest")).to_have_text(re.compile(r"^↑ New text: ….*t\d+"))
    await page.get_by_role("button", name="↑ New text").click()
    assert await page.evaluate("scrollY") < before
    await expect(page.get_by_role("button", name="↑ New text")).to_be_hidden()
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")


async def test_buttons_that_break_are_absent_where_there_is_no_dev(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/", disturbed=True)
    await page.route("**/dev", lambda route: route.fulfill(status=404, json={}))
    await page.goto((await generate_tokens(product, 1000, rate=50)).url)
    await wait_for_tokens(page, 20)
    await expect(page.locator("[data-figure=cursor]")).to_be_visible()
    await expect(page.locator(".breaks")).to_be_hidden()
    await page.get_by_role("button", name="Stop").click()


async def test_strip_shows_where_log_and_reader_stand(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 1000, rate=50)
    page = await open_page(product.url + "/", disturbed=True)

    async def progress(route: Route) -> None:
        answer = await route.fetch()
        known = {"attempt": 1, "worker": "pm6p", "readers": 2}
        await route.fulfill(response=answer, json=await answer.json() | known)

    await page.route("**/v1/generations/*?output=false", progress)
    await page.goto(generation.url)
    await wait_for_tokens(page, 40)
    first = int((await page.locator("[data-figure=entry]").inner_text()).removeprefix("entry "))
    await expect(page.locator("[data-figure=readers]")).to_have_text("2 readers")
    await expect(page.locator("[data-figure=worker]")).to_have_text("worker pm6p")
    await asyncio.sleep(0.5)
    assert int((await page.locator("[data-figure=entry]").inner_text()).removeprefix("entry ")) > first
    cursor = await page.locator("[data-figure=cursor]").get_attribute("title")
    assert cursor
    assert re.fullmatch(r"Last-Event-ID: \d+-\d+", cursor)
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")
    await page.unroute_all(behavior="wait")


async def test_replay_has_the_entries_that_the_log_had(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 1200, rate=300)  # events follow each other as a replay's do
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{product.url}/v1/generations/{generation.id}?output=false") as answer:
                known = await answer.json()
            if int(known["last_event_id"].split("-")[1]) > 100:
                break
    page = await open_page(product.url + "/", disturbed=True)
    sent: list[str] = []

    async def opened(route: Route) -> None:
        answer = await route.fetch()
        sent.append((await answer.json())["last_event_id"])
        await route.fulfill(response=answer)

    await page.route(f"**/v1/generations/{generation.id}", opened)
    await page.goto(generation.url)
    figure = page.locator("[data-figure=replay]")
    await expect(figure).to_have_text(re.compile(r"^[\d,]+ entries replayed in \d+ ms$"))
    await generation.release()
    entries = int((await figure.inner_text()).split()[0].replace(",", ""))
    assert entries == int(sent[0].split("-")[1]) + 1
    await page.unroute_all(behavior="wait")


# ── statuses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_dead_line_is_reported_and_the_answer_then_goes_on(
    product: Stack, frontend_proxy: Proxy, open_page: OpenPage
) -> None:
    generation = await generate_held(product, 1500)
    page = await open_page(frontend_proxy.url + generation.path, disturbed=True)
    await wait_for_tokens(page, 40)
    frontend_proxy.set_mode("stall")
    status = page.locator("#status")
    await expect(status).to_have_attribute("data-state", "unreachable", timeout=15_000)
    await expect(status).to_contain_text("No contact with the server. Trying again… The text so far is kept.")
    await expect(status.locator(".clock")).to_have_text(re.compile(r"^1\d s$"))
    frontend_proxy.set_mode("pass")
    await expect(status).to_have_attribute("data-state", "streaming", timeout=40_000)
    await generation.release()
    assert await finished_answer(page) == token_text(1500)


async def test_lost_connection_claims_nothing_of_the_answer(
    product: Stack, frontend_proxy: Proxy, open_page: OpenPage
) -> None:
    generation = await generate_held(product, 400)
    page = await open_page(frontend_proxy.url + generation.path, disturbed=True)
    await wait_for_tokens(page, 40)
    frontend_proxy.set_mode("cut")
    await expect(page.locator("#status")).to_contain_text("Connection lost. Trying again… The text so far is kept.")
    await expect(page.locator("#status .clock")).to_have_text("2 s")
    frontend_proxy.set_mode("pass")
    await generation.release()
    assert await finished_answer(page) == token_text(400)


async def test_question_to_a_dead_server_gives_the_reason_and_can_be_taken_back(
    product: Stack, frontend_proxy: Proxy, open_page: OpenPage
) -> None:
    page = await open_page(frontend_proxy.url + "/", disturbed=True)
    frontend_proxy.set_mode("cut")
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_contain_text("The server cannot be reached. Trying again to send…")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_label("Your message")).to_have_value("What survives?")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    await expect(page.locator(".message")).to_have_count(0)
    frontend_proxy.set_mode("pass")


async def test_quiet_model_is_shown_otherwise_than_a_dead_line(product: Stack, open_page: OpenPage) -> None:
    script: list[dict[str, Any]] = [
        {"delta": {"content": "Well "}},
        {"hold": "quiet"},
        {"delta": {"content": "then."}},
        *END,
    ]
    generation = await generate(product, script, hold="quiet")
    page = await open_page(generation.url, disturbed=True)
    await wait_for_state(page, "quiet")
    await expect(page.locator("#status")).to_contain_text("The server answers")
    await generation.release()
    assert await finished_answer(page) == "Well then."
    await expect(answer_in(page)).to_have_text("Well then.")
