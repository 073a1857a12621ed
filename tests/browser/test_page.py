"""The chat page, `/tailrace.js` and a plain EventSource in Chromium, through all that a deployment goes through."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect

from support.proxy import Proxy, proxy
from support.stack import Stack, stack

Json = dict[str, Any]
OpenPage = Callable[..., Awaitable[Page]]

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
END: list[Json] = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
MARKDOWN = """\
### A heading

Some **bold**, some *italic*, some `code` and [a link](https://example.org/).

> Something quoted

1. One
2. Two

```
a line of code that is a good deal longer than any telephone is wide, so that it has to be scrolled by itself
```

https://example.org/an-address-that-nobody-can-break-anywhere/because-it-has-no-spaces/in-it-at-all/whatever-you-try
"""

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    async with stack(lease_s="1", drain_s="0.5") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def between(product: Stack) -> AsyncIterator[Proxy]:
    """A proxy before the frontend."""
    async with proxy(product.frontends[0].port) as passing:
        yield passing


# ── what tests are made of ──────────────────────────────────────────────────────────────────────────────────────────


class GenerationRun:
    """A generation made over the API, to be looked at in the page."""

    def __init__(self, product: Stack, told: Json, script_id: str) -> None:
        self._product = product
        self._script_id = script_id
        self.id: str = told["id"]
        self.path = f"/?id={self.id}"
        self.url = product.url + self.path
        self.events_path: str = told["events_url"]

    async def told(self) -> Json:
        return await get(f"{self._product.url}/v1/generations/{self.id}")

    async def calls(self) -> Json:
        """What the upstream saw of it."""
        return await get(f"{self._product.upstream.removesuffix('/v1')}/calls?script_id={self._script_id}")

    async def calls_when_closed(self) -> Json:
        """The same, once no connection is open any more."""
        while True:
            calls = await self.calls()
            if not calls["open"]:
                return calls
            await asyncio.sleep(0.02)


async def get(url: str) -> Json:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        told: Json = await answer.json()
        return told


async def generate(product: Stack, script: list[Json], script_id: str = "") -> GenerationRun:
    messages = [{"role": "user", "content": "What survives?"}]
    body = {"model": "scripted", "messages": messages, "script": script, "script_id": script_id}
    async with aiohttp.ClientSession() as http, http.post(f"{product.url}/v1/generations", json=body) as answer:
        return GenerationRun(product, await answer.json(), script_id)


async def count(product: Stack, tokens: int, rate: float, script_id: str = "") -> GenerationRun:
    """A generation of unique tokens."""
    return await generate(product, [{"tokens": {"count": tokens, "rate": rate}}, *END], script_id)


async def say(product: Stack, text: str) -> GenerationRun:
    return await generate(product, [{"delta": {"content": text}}, *END])


def counted(tokens: int) -> str:
    """The text of that many, as the page shows it."""
    return " ".join(f"t{k}" for k in range(tokens))


def answer_in(page: Page) -> Locator:
    return page.locator("[data-role=assistant] .text").last


async def until_tokens(page: Page, tokens: int) -> None:
    """Wait until the answer on the page has so many."""
    enough = "n => (document.querySelector('[data-role=assistant] .text')?.textContent.split(' ').length ?? 0) > n"
    await page.wait_for_function(enough, arg=tokens)


async def until_state(page: Page, state: str) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-state", state, timeout=20_000)


async def shown(page: Page) -> str:
    """The whole answer, once there is nothing more to come."""
    await until_state(page, "done")
    return (await answer_in(page).inner_text()).strip()


async def hasten(page: Page) -> None:
    """What the page asks of the demo model is answered a hundred times as fast."""

    async def faster(route: Route) -> None:
        asked: Json = route.request.post_data_json or {}
        await route.continue_(post_data=asked | {"tokens_per_second": 4000})

    await page.route("**/v1/generations", faster)


async def read_plainly(page: Page, url: str) -> None:
    """An EventSource and nothing of ours; it leaves what it hears in `heard`."""
    await page.evaluate(
        """url => {
          window.heard = [];
          const source = new EventSource(url);
          for (const kind of ["created", "started", "item_opened", "text", "item_closed", "restarted", "done", "gone"])
            source.addEventListener(kind, ({ data, lastEventId: id }) => heard.push({ ...JSON.parse(data), kind, id }));
          source.addEventListener("done", () => source.close());
        }""",
        url,
    )


async def heard(page: Page) -> list[Json]:
    """What the EventSource was told, once it was told all."""
    await page.wait_for_function("() => heard.some(event => event.kind === 'done')")
    events: list[Json] = await page.evaluate("heard")
    return events


def assert_whole(events: list[Json], tokens: int) -> None:
    """No token lost, doubled or out of order."""
    assert "".join(event["text"] for event in events if event["kind"] == "text").strip() == counted(tokens)
    assert [event["kind"] for event in events].count("done") == 1
    ids = [tuple(map(int, event["id"].split("-"))) for event in events]
    assert ids == sorted(set(ids))


# ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_question_gets_its_whole_answer_and_an_address(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await hasten(page)
    await expect(page.get_by_role("heading", name="Answers that survive.")).to_be_visible()
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    said = await shown(page)
    generation = await get(f"{product.url}/v1/generations/{page.url.partition('?id=')[2]}")
    source = re.sub(r"^\d+\. ", "", generation["output"][0]["text"], flags=re.MULTILINE)
    assert re.findall(r"\w+", said) == re.findall(r"\w+", source)
    assert await answer_in(page).locator("li").count() == 5
    assert await page.title() == "What survives? · Tailrace"
    await expect(page.locator("#status")).to_have_text(re.compile(r"^Done · \d+ tokens · first in .* s · all in .* s$"))
    await expect(page.get_by_label("Your message")).to_have_value("")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_a_second_question_carries_the_conversation(product: Stack, open_page: OpenPage) -> None:
    first = await say(product, "The log.")
    page = await open_page(first.url)
    await hasten(page)
    assert await shown(page) == "The log."
    await page.get_by_label("Model").fill("demo")
    await page.get_by_label("Your message").fill("And the cursor?")
    await page.get_by_role("button", name="Send").click()
    await page.wait_for_url(lambda url: not url.endswith(first.id))
    await shown(page)
    generation = await get(f"{product.url}/v1/generations/{page.url.partition('?id=')[2]}")
    assert [message["content"] for message in generation["request"]["messages"]] == [
        "What survives?", "The log.", "And the cursor?",
    ]  # fmt: skip
    await page.go_back()
    await expect(answer_in(page)).to_have_text("The log.")  # the second one's "done" is shown until the first is there
    await expect(page.locator(".message")).to_have_count(2)


async def test_stop_ends_the_answer_and_the_upstream_s_connection(product: Stack, open_page: OpenPage) -> None:
    generation = await count(product, 5000, rate=50, script_id="stop")
    page = await open_page(generation.url)
    await until_tokens(page, 10)
    await page.get_by_role("button", name="Stop").click()
    await until_state(page, "stopped")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    told = await generation.told()
    assert told["status"] == "cancelled"
    assert await answer_in(page).inner_text() == told["output"][0]["text"].strip()
    calls = await generation.calls_when_closed()
    assert (calls["started"], calls["closed_by_client"]) == (1, 1)


async def test_a_generation_that_fails_says_why(product: Stack, open_page: OpenPage) -> None:
    refusal = {"status": 400, "json": {"error": {"message": "This model takes no rivers.", "type": "invalid"}}}
    page = await open_page((await generate(product, [refusal])).url)
    await until_state(page, "failed")
    await expect(page.locator("#status")).to_have_text("This model takes no rivers.")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()


async def test_an_address_of_nothing_says_so(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(f"{product.url}/?id=gen_{'a' * 26}", disturbed=True)
    await until_state(page, "failed")
    await expect(page.locator("#status")).not_to_be_empty()


async def test_where_no_worker_runs_the_page_says_so_until_one_does(product: Stack, open_page: OpenPage) -> None:
    worker = product.workers[0]
    await worker.stop()
    try:
        page = await open_page((await say(product, "At last.")).url)
        await until_state(page, "no-worker")
        await expect(page.locator("#status code")).to_have_text("tailrace worker")
    finally:
        await worker.start()
    assert await shown(page) == "At last."


async def test_a_server_with_keys_asks_for_one_and_goes_on(product: Stack, open_page: OpenPage) -> None:
    frontend = await product.add_frontend(api_keys="anna:anna-key-1", ticket_secret="sixteen characters")
    page = await open_page(frontend.url + "/", disturbed=True)
    await hasten(page)
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await page.get_by_label("API key").fill("anna-key-1")
    await page.get_by_role("button", name="Continue").click()
    assert "What survives?" in await shown(page)
    await page.reload()
    assert "What survives?" in await shown(page)
    await frontend.stop()


async def test_a_server_that_refuses_its_own_ticket_is_asked_for_one_more_and_no_third(
    product: Stack, open_page: OpenPage
) -> None:
    asked = Counter[str]()
    page = await open_page(product.url + "/", disturbed=True)
    generation = await count(product, 1000, rate=50)

    async def told(route: Route) -> None:
        kind = "events" if "/events" in route.request.url else "generation"
        asked[kind] += 1
        if kind == "events":
            error = {"message": "The ticket is not valid for this generation.", "code": "invalid_api_key"}
            await route.fulfill(status=401, json={"error": error})
        else:
            await route.continue_()

    await page.route("**/v1/generations/**", told)
    await page.goto(generation.url)
    await until_state(page, "failed")
    await expect(page.locator("#status")).to_contain_text("refuses the ticket it has just given out")
    await asyncio.sleep(1)
    assert asked == {"generation": 2, "events": 4}  # each stream once by EventSource, once to learn why it failed


# ── surviving ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reload_in_the_middle_goes_on(product: Stack, open_page: OpenPage) -> None:
    generation = await count(product, 250, rate=80, script_id="reload")
    page = await open_page(generation.url)
    await until_tokens(page, 40)
    await page.reload()
    await until_state(page, "streaming")
    await until_tokens(page, 60)
    assert await shown(page) == counted(250)
    assert (await generation.calls())["started"] == 1


async def test_a_second_tab_on_the_same_address_shows_the_same_answer_live(product: Stack, open_page: OpenPage) -> None:
    generation = await count(product, 5000, rate=50, script_id="second tab")
    tabs = [await open_page(generation.url), await open_page(generation.url)]
    for tab in tabs:
        await until_tokens(tab, 40)
    await tabs[1].get_by_role("button", name="Stop").click()
    for tab in tabs:
        await until_state(tab, "stopped")
    said = (await generation.told())["output"][0]["text"]
    assert said == counted(said.count(" ")) + " "
    assert [await answer_in(tab).inner_text() for tab in tabs] == [said.strip()] * 2
    assert (await generation.calls())["started"] == 1


async def test_a_killed_frontend_costs_neither_the_page_nor_a_plain_event_source_a_token(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await count(product, 300, rate=100)
    page = await open_page(generation.url, disturbed=True)
    plain = await open_page(product.url + "/", disturbed=True)
    await read_plainly(plain, generation.events_path)
    await until_tokens(page, 40)
    await plain.wait_for_function("() => heard.length > 40")
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGKILL)
    await until_state(page, "reconnecting")
    await frontend.start()
    assert await shown(page) == counted(300)
    assert_whole(await heard(plain), 300)


async def test_ten_seconds_without_redis_cost_neither_the_page_nor_a_plain_event_source_a_token(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await count(product, 600, rate=60)
    page = await open_page(generation.url, disturbed=True)
    plain = await open_page(product.url + "/", disturbed=True)
    await read_plainly(plain, generation.events_path)
    await until_tokens(page, 40)
    await plain.wait_for_function("() => heard.length > 40")
    product.redis.kill()
    away = asyncio.create_task(asyncio.sleep(10))
    await until_state(page, "reconnecting")
    await away
    product.redis.start()
    assert await shown(page) == counted(600)
    assert_whole(await heard(plain), 600)


async def test_a_killed_worker_s_answer_is_begun_anew(product: Stack, open_page: OpenPage) -> None:
    generation = await count(product, 200, rate=100, script_id="worker")
    page = await open_page(generation.url)
    await until_tokens(page, 40)
    worker = product.workers[0]
    await worker.stop(signal.SIGKILL)
    await worker.start()
    assert await shown(page) == counted(200)
    await expect(page.locator(".note")).to_have_text("The answer was interrupted on its way, and was begun anew.")
    assert (await generation.calls())["started"] == 2


async def test_a_proxy_that_answers_502_for_some_time_costs_no_token(
    product: Stack, between: Proxy, open_page: OpenPage
) -> None:
    generation = await count(product, 300, rate=100)
    page = await open_page(between.url + generation.path, disturbed=True)
    await until_tokens(page, 40)
    between.turn("refuse")
    await until_state(page, "reconnecting")
    await between.until_turned_away(3)  # EventSource's request, the one that asks why it failed, and the next
    between.turn("pass")
    assert await shown(page) == counted(300)


async def test_offline_and_back_costs_no_token(product: Stack, between: Proxy, open_page: OpenPage) -> None:
    generation = await count(product, 200, rate=80)
    page = await open_page(between.url + generation.path, disturbed=True)
    await until_tokens(page, 40)
    await page.context.set_offline(True)
    between.turn("cut")
    await until_state(page, "offline")
    between.turn("pass")
    await page.context.set_offline(False)
    assert await shown(page) == counted(200)


async def test_a_question_asked_while_the_proxy_answers_502_is_asked_once(
    product: Stack, between: Proxy, open_page: OpenPage
) -> None:
    page = await open_page(between.url + "/", disturbed=True)
    await hasten(page)
    before = await get(f"{product.url}/v1/generations?limit=100")
    between.turn("refuse")
    await page.get_by_label("Your message").fill("What survives?")
    await page.keyboard.press("Enter")
    await between.until_turned_away(2)
    await expect(page.locator("#status")).to_have_text("Sending…")
    between.turn("pass")
    await shown(page)
    after = await get(f"{product.url}/v1/generations?limit=100")
    assert len(after["data"]) == len(before["data"]) + 1


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_on_a_phone_nothing_scrolls_sideways_and_the_composer_is_in_view(
    product: Stack, open_page: OpenPage
) -> None:
    generation = await say(product, MARKDOWN * 3)
    for url in (product.url + "/", generation.url):
        page = await open_page(url, **PHONE)
        if url == generation.url:
            await shown(page)
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
  const told = {};
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const name = `${element.localName}${element.id && "#" + element.id} in ${element.parentElement.localName}`;
    if ((says || element.matches("input")) && element.checkVisibility()) told[name] = contrast(element);
    if (element.matches("textarea")) told["placeholder"] = contrast(element, "::placeholder");
  }
  return told;
}"""


async def test_every_word_has_contrast_enough_in_light_and_in_dark(product: Stack, open_page: OpenPage) -> None:
    failing = await generate(product, [{"delta": {"content": MARKDOWN}}, {"delta": {}, "finish_reason": "error"}])
    for url in (product.url + "/", failing.url):
        page = await open_page(url)
        if url == failing.url:
            await until_state(page, "failed")
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            contrasts: dict[str, float] = await page.evaluate(CONTRASTS)
            assert len(contrasts) > 5
            assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}


async def test_an_answer_of_one_endless_line_is_shown_whole(product: Stack, open_page: OpenPage) -> None:
    for opening in ("", "# "):
        page = await open_page((await say(product, opening + counted(3000))).url)
        assert "".join((await shown(page)).split("\n\n")) == counted(3000)


# ── trusting nobody ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_model_writes_is_text_and_nothing_more(product: Stack, open_page: OpenPage) -> None:
    hostile = [
        "<img src=x onerror=alert(1)>",
        "<script>alert(2)</script>",
        "**<svg onload=alert(3)>**",
        "[a link](javascript:alert(4))",
        '[another](https://example.org/"onmouseover="alert(5))',
        "`<iframe src=//example.org>`",
    ]
    page = await open_page((await say(product, "\n\n".join(hostile))).url)
    said = await shown(page)
    for text in hostile[:2] + hostile[3:4]:
        assert text in said
    answer = answer_in(page)
    assert await answer.locator("img, script, svg, iframe, [onerror], [onload], [onmouseover]").count() == 0
    assert await answer.locator("a").evaluate_all("links => links.map(link => link.protocol)") == ["https:"]


async def test_what_is_in_an_address_or_a_question_is_text_and_nothing_more(
    product: Stack, open_page: OpenPage
) -> None:
    page = await open_page(product.url + "/?id=<img src=x onerror=alert(1)>", disturbed=True)
    await until_state(page, "failed")
    await page.goto(product.url + "/")
    await hasten(page)
    await page.get_by_label("Your message").fill("<img src=x onerror=alert(1)>")
    await page.keyboard.press("Enter")
    await shown(page)
    await expect(page.locator("[data-role=user]")).to_have_text("<img src=x onerror=alert(1)>")
    assert await page.locator(".message img").count() == 0


async def test_the_page_s_policy_lets_no_code_run_but_its_own(product: Stack, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(product.url + "/")
    violated: list[str] = await page.evaluate(
        """() => new Promise((tell) => {
          document.addEventListener("securitypolicyviolation", (event) => tell([event.effectiveDirective, window.ran]));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        })"""
    )
    assert violated == ["script-src-elem", None]
    await page.close()


async def test_a_page_of_another_origin_may_neither_ask_nor_read(product: Stack, browser: Browser) -> None:
    generation = await say(product, "Not for you.")
    before = await get(f"{product.url}/v1/generations?limit=100")
    async with proxy(product.frontends[0].port) as elsewhere:
        page = await browser.new_page()
        await page.goto(elsewhere.url + "/healthz")  # which has no policy of its own
        refused: Json = await page.evaluate(
            """async ([url, events]) => {
              const body = JSON.stringify({ model: "demo", messages: [{ role: "user", content: "mine" }] });
              const asked = (options) => fetch(`${url}/v1/generations`, options).then((a) => a.type, (e) => e.name);
              const followed = new Promise((tell) => {
                const source = new EventSource(url + events);
                source.onopen = () => tell("open");
                source.onerror = () => tell(source.readyState);
              });
              return {
                blind: await asked({ method: "POST", mode: "no-cors", body }),
                asked: await asked({ method: "POST", headers: { "Content-Type": "application/json" }, body }),
                listed: await asked({}),
                followed: await followed,
              };
            }""",
            [product.url, generation.events_path],
        )
        await page.close()
    assert refused == {"blind": "opaque", "asked": "TypeError", "listed": "TypeError", "followed": 2}
    after = await get(f"{product.url}/v1/generations?limit=100")
    assert len(after["data"]) == len(before["data"])
