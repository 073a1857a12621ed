"""The chat page, `/tailrace.js` and a plain EventSource in Chromium, under the failures that a deployment meets."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aiohttp
import pytest
from playwright.async_api import Browser, Page, Request, Route, expect

from support.chat_page import (
    END,
    answer_in,
    finished_answer,
    generate,
    generate_held,
    generate_text,
    generate_tokens,
    get,
    speed_up,
    token_text,
    wait_for_state,
    wait_for_tokens,
)
from support.proxy import Proxy, proxy
from support.stack import Stack

Json = dict[str, Any]
OpenPage = Callable[..., Awaitable[Page]]

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
MARKDOWN = """\
### A heading

Some **bold**, some *italic*, some `code` and [a link](https://example.org/).

> Something quoted

1. One
2. Two

```
a line of code that is a good deal longer than any telephone is wide, so that it has to be scrolled by itself
```

https://example.org/an-address-that-cannot-be-broken-anywhere/because-it-has-no-spaces/in-it-at-all/whatever-you-try
"""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


# ── support ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def open_event_source(page: Page, url: str) -> None:
    """Read the log with a plain EventSource; its events are collected in the page's `received`."""
    await page.evaluate(
        """url => {
          window.received = [];
          const source = new EventSource(url);
          for (const kind of ["created", "started", "item_opened", "text", "item_closed", "restarted", "done", "gone"])
            source.addEventListener(kind, ({ data, lastEventId: id }) => {
              received.push({ ...JSON.parse(data), kind, id });
            });
          source.addEventListener("done", () => source.close());
        }""",
        url,
    )


async def received_events(page: Page) -> list[Json]:
    """All events of the EventSource, after `done`."""
    await page.wait_for_function("() => received.some(event => event.kind === 'done')")
    events: list[Json] = await page.evaluate("received")
    return events


def assert_whole(events: list[Json], tokens: int) -> None:
    """Check that no token is lost, duplicated or out of order."""
    assert "".join(event["text"] for event in events if event["kind"] == "text").strip() == token_text(tokens)
    assert [event["kind"] for event in events].count("done") == 1
    ids = [tuple(map(int, event["id"].split("-"))) for event in events]
    assert ids == sorted(set(ids))


# ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_question_gets_its_whole_answer_and_a_url(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await speed_up(page)
    await expect(page.get_by_role("heading", name="Answers that survive.")).to_be_visible()
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    text = await finished_answer(page)
    generation = await get(f"{product.url}/v1/generations/{page.url.partition('?id=')[2]}")
    source = re.sub(r"^\d+\. ", "", generation["output"][0]["text"], flags=re.MULTILINE)
    assert re.findall(r"\w+", text) == re.findall(r"\w+", source)
    assert await answer_in(page).locator("li").count() == 5
    assert await page.title() == "What survives? · Tailrace"
    await expect(page.locator("#status")).to_have_text(
        re.compile(r"^Done\s· \d+\stokens\s· first\stoken\s.*\ss\s· total\s.*\ss$")
    )
    await expect(page.get_by_label("Your message")).to_have_value("")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_second_question_carries_the_conversation(product: Stack, open_page: OpenPage) -> None:
    first = await generate_text(product, "The log.")
    page = await open_page(first.url)
    await speed_up(page)
    assert await finished_answer(page) == "The log."
    await page.get_by_label("Model").select_option("demo")
    await page.get_by_label("Your message").fill("And the cursor?")
    await page.get_by_role("button", name="Send").click()
    await page.wait_for_url(lambda url: not url.endswith(first.id))
    await finished_answer(page)
    generation = await get(f"{product.url}/v1/generations/{page.url.partition('?id=')[2]}")
    assert [message["content"] for message in generation["request"]["messages"]] == [
        "What survives?", "The log.", "And the cursor?",
    ]  # fmt: skip
    await page.go_back()
    # The second answer's "done" is shown until the first answer is loaded.
    await expect(answer_in(page)).to_have_text("The log.")
    await expect(page.locator(".message")).to_have_count(2)


async def test_stop_button_ends_the_answer_and_the_upstream_connection(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 5000, rate=50, script_id="stop")
    page = await open_page(generation.url)
    await wait_for_tokens(page, 10)
    await page.get_by_role("button", name="Stop").click()
    await wait_for_state(page, "stopped")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    value = await generation.fetch()
    assert value["status"] == "cancelled"
    assert await answer_in(page).inner_text() == value["output"][0]["text"].strip()
    calls = await generation.calls_when_closed()
    assert (calls["started"], calls["closed_by_client"]) == (1, 1)


@pytest.mark.long
async def test_failed_generation_shows_the_reason(product: Stack, open_page: OpenPage) -> None:
    bad_request = {"status": 400, "json": {"error": {"message": "This model takes no rivers.", "type": "invalid"}}}
    page = await open_page((await generate(product, [bad_request])).url)
    await wait_for_state(page, "failed")
    await expect(page.locator("#status")).to_have_text("This model takes no rivers.")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


@pytest.mark.long
async def test_unknown_generation_is_explained_in_place_of_the_welcome(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(f"{product.url}/?id=gen_{'a' * 26}", disturbed=True)
    await wait_for_state(page, "gone")
    await expect(page.get_by_role("heading", name="There is no answer at this link.")).to_be_visible()
    await expect(page.get_by_role("heading", name="Answers that survive.")).to_be_hidden()
    await page.locator("#gone").get_by_role("link", name="New chat").click()
    await expect(page.get_by_role("heading", name="Answers that survive.")).to_be_visible()


@pytest.mark.long
async def test_missing_worker_is_shown_until_one_runs(product: Stack, open_page: OpenPage) -> None:
    worker = product.workers[0]
    await worker.stop()
    try:
        page = await open_page((await generate_text(product, "At last.")).url)
        await wait_for_state(page, "no-worker")
        await expect(page.locator("#status code")).to_have_text("tailrace worker")
    finally:
        await worker.start()
    assert await finished_answer(page) == "At last."


@pytest.mark.long
async def test_api_key_is_requested_and_the_question_then_sent(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/", disturbed=True)
    await speed_up(page)
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await page.get_by_label("API key").fill("anna-key-1")
    await page.get_by_role("button", name="Continue").click()
    answer = await finished_answer(page)
    assert answer.startswith("This is Tailrace's built-in demo model")
    await expect(page.get_by_role("article", name="You").locator(".text")).to_have_text("What survives?")
    await page.reload()
    assert await finished_answer(page) == answer
    await frontend.stop()


@pytest.mark.long
async def test_ticket_of_the_page_is_in_a_header_and_in_no_url(product: Stack, open_page: OpenPage) -> None:
    """A proxy writes URLs into its logs."""
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/", disturbed=True)
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    await speed_up(page)
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await page.get_by_label("API key").fill("anna-key-1")
    await page.get_by_role("button", name="Continue").click()
    await finished_answer(page)
    sent = [request.headers.get("authorization", "") for request in requests if "/events" in request.url]
    assert sent
    assert all(each.startswith("Ticket anna~") for each in sent)
    assert not [request.url for request in requests if "ticket" in request.url.lower()]
    await frontend.stop()


@pytest.mark.long
@pytest.mark.parametrize("form", ["?ticket=", "#ticket="])
async def test_follow_takes_the_ticket_out_of_the_url(product: Stack, open_page: OpenPage, form: str) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    path = await keyed_events_path(frontend.url)
    page = await open_page(frontend.url + "/")
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    text = await page.evaluate(
        """async url => {
          const { follow, Output } = await import("/tailrace.js");
          const output = new Output();
          await new Promise((resolve) => follow(url, {
            onEvent: (kind, data) => output.apply(kind, data),
            onState: (state) => state === "done" && resolve(),
          }));
          return output.text;
        }""",
        path.replace("?ticket=", form),
    )
    assert text.strip() == token_text(200)
    assert [url for url in urls if "/events" in url] == [frontend.url + path.partition("?")[0]]
    await frontend.stop()


@pytest.mark.long
async def test_plain_event_source_reads_by_the_ticket_in_its_url(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/")
    await open_event_source(page, await keyed_events_path(frontend.url))
    assert_whole(await received_events(page), 200)
    await frontend.stop()


async def keyed_events_path(url: str) -> str:
    """The `events_url` of a generation that a caller with a key has created."""
    script = [{"tokens": {"count": 200, "rate": 200}}, *END]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "?"}], "script": script}
    headers = {"Authorization": "Bearer anna-key-1"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/generations", json=body, headers=headers) as answer,
    ):
        path: str = (await answer.json())["events_url"]
        assert "?ticket=" in path
        return path


@pytest.mark.long
async def test_ticket_rejected_by_its_own_server_is_renewed_once_only(product: Stack, open_page: OpenPage) -> None:
    requests = Counter[str]()
    page = await open_page(product.url + "/", disturbed=True)
    generation = await generate_tokens(product, 1000, rate=50)

    async def reject_tickets(route: Route) -> None:
        kind = "events" if "/events" in route.request.url else "generation"
        requests[kind] += 1
        if kind == "events":
            error = {"message": "The ticket is not valid for this generation.", "code": "invalid_api_key"}
            await route.fulfill(status=401, json={"error": error})
        else:
            await route.continue_()

    await page.route("**/v1/generations/**", reject_tickets)
    await page.goto(generation.url)
    await wait_for_state(page, "failed")
    await expect(page.locator("#status")).to_contain_text("rejects the ticket that it has just issued")
    await asyncio.sleep(1)
    assert requests == {"generation": 2, "events": 2}


# ── surviving failures ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_reload_during_the_answer_continues_it(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 250, script_id="reload")
    page = await open_page(generation.url)
    await wait_for_tokens(page, 40)
    await page.reload()
    await wait_for_state(page, "streaming")
    await wait_for_tokens(page, 60)
    await generation.release()
    assert await finished_answer(page) == token_text(250)
    assert (await generation.calls())["started"] == 1


@pytest.mark.long
async def test_second_tab_on_the_same_url_shows_the_same_answer_live(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_tokens(product, 5000, rate=50, script_id="second tab")
    tabs = [await open_page(generation.url), await open_page(generation.url)]
    for tab in tabs:
        await wait_for_tokens(tab, 40)
    await tabs[1].get_by_role("button", name="Stop").click()
    for tab in tabs:
        await wait_for_state(tab, "stopped")
    text = (await generation.fetch())["output"][0]["text"]
    assert text == token_text(text.count(" ")) + " "
    assert [await answer_in(tab).inner_text() for tab in tabs] == [text.strip()] * 2
    assert (await generation.calls())["started"] == 1


async def test_killed_frontend_costs_neither_the_page_nor_a_plain_event_source_a_token(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await generate_held(product, 600)
    page = await open_page(generation.url, disturbed=True)
    plain = await open_page(product.url + "/", disturbed=True)
    await open_event_source(plain, generation.events_path)
    await wait_for_tokens(page, 40)
    await plain.wait_for_function("() => received.length > 4")
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGKILL)
    await wait_for_state(page, "reconnecting")
    await frontend.start()
    await generation.release()
    assert await finished_answer(page) == token_text(600)
    assert_whole(await received_events(plain), 600)


@pytest.mark.long
async def test_redis_outage_costs_neither_the_page_nor_a_plain_event_source_a_token(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await generate_held(product, 600)
    page = await open_page(generation.url, disturbed=True)
    plain = await open_page(product.url + "/", disturbed=True)
    await open_event_source(plain, generation.events_path)
    await wait_for_tokens(page, 40)
    await plain.wait_for_function("() => received.length > 4")
    product.redis.kill()
    outage = asyncio.create_task(asyncio.sleep(10))
    await wait_for_state(page, "reconnecting")
    await outage
    product.redis.start()
    await generation.release()
    assert await finished_answer(page) == token_text(600)
    assert_whole(await received_events(plain), 600)


async def test_killed_worker_restarts_the_answer(product: Stack, open_page: OpenPage) -> None:
    generation = await generate_held(product, 400, script_id="worker")
    page = await open_page(generation.url)
    await wait_for_tokens(page, 40)
    worker = product.workers[0]
    await worker.stop(signal.SIGKILL)
    await worker.start()
    await generation.release()
    assert await finished_answer(page) == token_text(400)
    await expect(page.locator("[data-figure=attempt]")).to_have_text("attempt 2")
    assert (await generation.calls())["started"] == 2


@pytest.mark.long
async def test_proxy_answering_502_costs_no_token(product: Stack, frontend_proxy: Proxy, open_page: OpenPage) -> None:
    generation = await generate_held(product, 400)
    page = await open_page(frontend_proxy.url + generation.path, disturbed=True)
    await wait_for_tokens(page, 40)
    frontend_proxy.set_mode("refuse")
    await wait_for_state(page, "reconnecting")
    await frontend_proxy.wait_for_refusals(3)
    frontend_proxy.set_mode("pass")
    await generation.release()
    assert await finished_answer(page) == token_text(400)


@pytest.mark.long
async def test_offline_period_costs_no_token(product: Stack, frontend_proxy: Proxy, open_page: OpenPage) -> None:
    generation = await generate_held(product, 400)
    page = await open_page(frontend_proxy.url + generation.path, disturbed=True)
    await wait_for_tokens(page, 40)
    await page.context.set_offline(True)
    frontend_proxy.set_mode("cut")
    await wait_for_state(page, "offline")
    frontend_proxy.set_mode("pass")
    await page.context.set_offline(False)
    await generation.release()
    assert await finished_answer(page) == token_text(400)


@pytest.mark.long
async def test_question_sent_through_a_proxy_answering_502_creates_one_generation(
    product: Stack, frontend_proxy: Proxy, open_page: OpenPage
) -> None:
    page = await open_page(frontend_proxy.url + "/", disturbed=True)
    await speed_up(page)
    before = await get(f"{product.url}/v1/generations?limit=100")
    frontend_proxy.set_mode("refuse")
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await frontend_proxy.wait_for_refusals(2)
    await expect(page.locator("#status")).to_have_text("Sending…")
    frontend_proxy.set_mode("pass")
    await finished_answer(page)
    after = await get(f"{product.url}/v1/generations?limit=100")
    assert len(after["data"]) == len(before["data"]) + 1


# ── layout ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_phone_layout_never_scrolls_sideways_and_keeps_the_composer_in_view(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await generate_text(product, MARKDOWN * 3)
    for url in (product.url + "/", generation.url):
        page = await open_page(url, **PHONE)
        if url == generation.url:
            await finished_answer(page)
        assert await page.evaluate("document.documentElement.scrollWidth") == 375
        assert await page.evaluate("visualViewport.scale") == 1
        for part in (page.get_by_label("Your message"), page.get_by_label("Model"), page.locator("#send")):
            await expect(part).to_be_in_viewport(ratio=1)
        for field in await page.locator("textarea, input").all():
            assert await field.evaluate("field => parseFloat(getComputedStyle(field).fontSize)") >= 16
        assert await page.locator("main").evaluate("main => parseFloat(getComputedStyle(main).fontSize)") >= 16


SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]
CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return rgb(colour)[3] === 255 || !element.parentElement ? colour : ground(element.parentElement);
  };
  const contrast = (element, pseudo) => {
    const pair = [light(getComputedStyle(element, pseudo).color), light(ground(element))];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  };
  const contrasts = {};
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const name = `${element.localName}${element.id && "#" + element.id} in ${element.parentElement.localName}`;
    if ((hasText || element.matches("input")) && element.checkVisibility()) contrasts[name] = contrast(element);
    if (element.matches("textarea")) contrasts["placeholder"] = contrast(element, "::placeholder");
  }
  return contrasts;
}"""


@pytest.mark.long
async def test_text_contrast_is_sufficient_in_light_and_dark_schemes(product: Stack, open_page: OpenPage) -> None:
    failing = await generate(product, [{"delta": {"content": MARKDOWN}}, {"delta": {}, "finish_reason": "error"}])
    for url in (product.url + "/", failing.url):
        page = await open_page(url)
        if url == failing.url:
            await wait_for_state(page, "failed")
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            contrasts: dict[str, float] = await page.evaluate(CONTRASTS)
            assert len(contrasts) > 5
            assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


@pytest.mark.long
async def test_answer_of_one_very_long_line_is_shown_whole(product: Stack, open_page: OpenPage) -> None:
    for opening in ("", "# "):
        page = await open_page((await generate_text(product, opening + token_text(3000))).url)
        assert "".join((await finished_answer(page)).split("\n\n")) == token_text(3000)


# ── security ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
async def test_model_output_is_rendered_as_text_only(product: Stack, open_page: OpenPage) -> None:
    hostile = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(2)</script>",
        "**<svg onload=alert(3)>**",
        "[a link](javascript:alert(4))",
        '[another](https://example.org/"onmouseover="alert(5))',
        "`<iframe src=//example.org>`",
    ]
    page = await open_page((await generate_text(product, "\n\n".join(hostile))).url)
    text = await finished_answer(page)
    for snippet in hostile[:2]:
        assert snippet in text
    answer = answer_in(page)
    assert await answer.locator("img, script, svg, iframe, [onerror], [onload], [onmouseover]").count() == 0
    assert await answer.locator("a").evaluate_all("links => links.map(link => link.protocol)") == ["https:"]


async def test_url_and_question_are_rendered_as_text_only(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/?id=<img src=x onerror=alert(1)>", disturbed=True)
    await wait_for_state(page, "gone")
    await page.goto(product.url + "/")
    await speed_up(page)
    await page.get_by_label("Your message").fill("<img src=x onerror=alert(1)>")
    await page.keyboard.press("Enter")
    await finished_answer(page)
    await expect(page.locator("[data-role=user] .text")).to_have_text("<img src=x onerror=alert(1)>")
    assert await page.locator(".message img").count() == 0


async def test_content_security_policy_blocks_inline_scripts(product: Stack, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(product.url + "/")
    violated: list[str] = await page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
            resolve([effectiveDirective, window.ran]);
          });
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        })"""
    )
    assert violated == ["script-src-elem", None]
    await page.close()


async def test_page_of_another_origin_can_neither_create_nor_read(product: Stack, browser: Browser) -> None:
    generation = await generate_text(product, "Not for you.")
    before = await get(f"{product.url}/v1/generations?limit=100")
    async with proxy(product.frontends[0].port) as other_origin:
        page = await browser.new_page()
        await page.goto(other_origin.url + "/healthz")  # a response without a content security policy
        outcomes: Json = await page.evaluate(
            """async ([url, events]) => {
              const body = JSON.stringify({ model: "demo", messages: [{ role: "user", content: "mine" }] });
              const send = (options) => fetch(`${url}/v1/generations`, options).then((a) => a.type, (e) => e.name);
              const followed = new Promise((resolve) => {
                const source = new EventSource(url + events);
                source.onopen = () => resolve("open");
                source.onerror = () => resolve(source.readyState);
              });
              return {
                opaque: await send({ method: "POST", mode: "no-cors", body }),
                posted: await send({ method: "POST", headers: { "Content-Type": "application/json" }, body }),
                listed: await send({}),
                followed: await followed,
              };
            }""",
            [product.url, generation.events_path],
        )
        await page.close()
    assert outcomes == {"opaque": "opaque", "posted": "TypeError", "listed": "TypeError", "followed": 2}
    after = await get(f"{product.url}/v1/generations?limit=100")
    assert len(after["data"]) == len(before["data"])
