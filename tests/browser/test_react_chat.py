"""`examples/react-chat`: a stock `useChat({ resume: true })` in Chromium, built, behind its own server."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from support import npm
from support.api import eventually
from support.stack import Stack, stack
from tailrace.ids import new_token
from tailrace_cli.children import die_with_parent

EXAMPLE = Path(__file__).parents[2] / "examples" / "react-chat"
KEY = "page-key-1"
Json = dict[str, Any]
OpenPage = Callable[..., Awaitable[Page]]

pytestmark = [
    pytest.mark.long,
    npm.requires_npm,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def example() -> Path:
    """The example, built."""
    return npm.build(EXAMPLE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(example: Path) -> AsyncIterator[Stack]:
    async with stack(
        lease_s="1", drain_s="0.2", model="scripted", api_keys=f"page:{KEY}", ticket_secret="0123456789abcdef"
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(product: Stack) -> AsyncIterator[str]:
    """The URL of the page, on the application's own server."""
    environment = npm.environment(PORT="0", TAILRACE_URL=product.url, TAILRACE_KEY=KEY)
    process = await asyncio.create_subprocess_exec(
        "node", "serve.mjs", cwd=EXAMPLE, env=environment, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    process.kill()
    await process.wait()


class ChatPage:
    """The page, whose questions are answered by one script at a time."""

    def __init__(self, page: Page, product: Stack, script: list[Json]) -> None:
        self.page = page
        self.script = script
        self.script_id = new_token()
        self.fields: Json = {}  # of the next requests
        self._product = product

    @classmethod
    async def opened(cls, open_page: OpenPage, site: str, product: Stack, *script: Json, **context: Any) -> "ChatPage":
        """`context`: options of the browser context."""
        chat = cls(await open_page(site, disturbed=True, **context), product, list(script))

        async def scripted(route: Route) -> None:
            body: Json = route.request.post_data_json or {}
            await route.continue_(post_data=body | {"script": chat.script, "script_id": chat.script_id} | chat.fields)

        await chat.page.route("**/api/chat", scripted)
        await expect(chat.page.get_by_label("Question")).to_be_visible()  # the page has loaded the chat's messages
        return chat

    async def ask(self, text: str) -> None:
        await self.page.get_by_label("Question").fill(text)
        await self.page.keyboard.press("Enter")

    async def until_token(self, token: int) -> None:
        await expect(self.page.locator("[data-role=assistant] .text").last).to_contain_text(f"t{token} ")

    async def until_ready(self) -> None:
        await expect(self.page.locator("form")).to_have_attribute("data-status", "ready", timeout=30_000)

    async def answers(self) -> list[str]:
        """The texts of the assistant's messages; each may have several text parts."""
        return await self.page.locator("[data-role=assistant]").all_inner_texts()

    async def calls(self) -> Json:
        """The upstream's record of its calls."""
        url = f"{self._product.upstream.removesuffix('/v1')}/calls?script_id={self.script_id}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            value: Json = await response.json()
            return value


def script(tokens: int, rate: float = 60) -> list[Json]:
    count: Json = {"tokens": {"count": tokens, "rate": rate}}
    return [count, {"delta": {}, "finish_reason": "stop"}, {"done": True}]


def text_of(tokens: int) -> str:
    return " ".join(f"t{k}" for k in range(tokens))


async def assert_whole(chat: ChatPage, tokens: int) -> None:
    """One answer, with the whole text, once."""
    await chat.until_token(tokens - 1)
    await chat.until_ready()
    assert [answer.strip() for answer in await chat.answers()] == [text_of(tokens)]


async def test_answer_survives_three_reloads(open_page: OpenPage, site: str, product: Stack) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(240))
    await chat.ask("What survives?")
    for reload in range(1, 4):
        await chat.until_token(20 * reload)
        await chat.page.reload()
    await assert_whole(chat, 240)
    assert (await chat.calls())["started"] == 1
    await chat.page.reload()
    await assert_whole(chat, 240)


async def test_answer_is_followed_in_a_second_tab(open_page: OpenPage, site: str, product: Stack) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(180))
    await chat.ask("What survives?")
    await chat.until_token(20)
    other = ChatPage(await open_page(chat.page.url), product, [])
    for page in (chat, other):
        await assert_whole(page, 180)


async def test_answer_survives_a_killed_frontend(open_page: OpenPage, site: str, product: Stack) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(180))
    await chat.ask("What survives?")
    await chat.until_token(20)
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGKILL)
    await frontend.start()
    await assert_whole(chat, 180)
    assert (await chat.calls())["started"] == 1


async def test_answer_survives_a_killed_worker(open_page: OpenPage, site: str, product: Stack) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(120))
    await chat.ask("What survives?")
    await chat.until_token(20)
    worker = product.workers[0]
    await worker.stop(signal.SIGKILL)
    await worker.start()
    await assert_whole(chat, 120)
    assert (await chat.calls())["started"] == 2


async def is_closed_upstream(chat: ChatPage) -> bool:
    return bool((await chat.calls())["closed_by_client"] == 1)


async def stopped(chat: ChatPage) -> None:
    """Press the stop button once the answer has begun, and wait until the upstream's call is closed."""
    await chat.until_token(20)
    await chat.page.get_by_role("button", name="Stop").click()
    await chat.until_ready()
    await eventually(lambda: is_closed_upstream(chat))


async def test_stop_button_ends_the_answer_at_the_upstream_and_a_reload_shows_it(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(10_000))
    await chat.ask("What survives?")
    await stopped(chat)
    (before,) = await chat.answers()
    assert text_of(10_000).startswith(before.strip())
    await chat.page.reload()
    await expect(chat.page.locator("[data-role=assistant]")).to_have_text(before)
    await chat.until_ready()
    assert await chat.answers() == [before], "nothing is added to it"
    assert (await chat.calls())["started"] == 1


async def test_stop_button_works_after_a_reload_and_the_next_answer_survives_one(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(10_000))
    await chat.ask("What survives?")
    await chat.until_token(10)
    await chat.page.reload()
    await stopped(chat)
    (before,) = await chat.answers()
    chat.script = script(120)
    await chat.ask("And now?")
    await expect(chat.page.locator("[data-role=assistant]")).to_have_count(2)
    await chat.until_token(30)
    await chat.page.reload()
    await expect(chat.page.locator("[data-role=assistant]").last).to_contain_text("t119")
    await chat.until_ready()
    assert [answer.strip() for answer in await chat.answers()] == [before.strip(), text_of(120)]


async def test_failure_is_shown_and_the_next_question_is_answered(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    failure = {"raw": 'data: {"error":{"message":"Overloaded.","code":"overloaded"}}\n\n'}
    chat = await ChatPage.opened(open_page, site, product, {"delta": {"content": "Once"}}, failure)
    await chat.ask("What survives?")
    await expect(chat.page.get_by_role("alert")).to_have_text("Overloaded.")
    assert await chat.answers() == ["Once"]
    chat.script = script(3)
    await chat.ask("And now?")
    await expect(chat.page.locator("[data-role=assistant]").last).to_contain_text("t2")
    await expect(chat.page.get_by_role("alert")).to_have_count(0)


async def test_refused_question_returns_into_its_field_with_the_reason(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(3))
    chat.fields = {"n": 2}
    await chat.ask("What survives?")
    await expect(chat.page.get_by_role("alert")).to_contain_text("a chat has one answer")
    await expect(chat.page.get_by_label("Question")).to_have_value("What survives?")
    await chat.until_ready()
    await expect(chat.page.get_by_role("article")).to_have_count(0)
    chat.fields = {}
    await chat.page.keyboard.press("Enter")
    await assert_whole(chat, 3)
    await expect(chat.page.get_by_role("alert")).to_have_count(0)


async def test_question_that_met_no_server_returns_into_its_field(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(3))
    await chat.page.context.set_offline(True)
    await chat.ask("What survives?")
    await expect(chat.page.get_by_role("alert")).not_to_be_empty()
    await chat.page.context.set_offline(False)
    await expect(chat.page.get_by_label("Question")).to_have_value("What survives?")
    await chat.until_ready()
    await chat.page.keyboard.press("Enter")
    await assert_whole(chat, 3)


async def test_reasoning_and_calls_are_shown_before_and_after_a_reload(
    open_page: OpenPage, site: str, product: Stack
) -> None:
    call = {"index": 0, "id": "c0", "type": "function", "function": {"name": "look", "arguments": '{"q":"ä"}'}}
    steps: list[Json] = [
        {"delta": {"reasoning_content": "Let me"}}, {"delta": {"reasoning_content": " see."}},
        {"delta": {"content": "I look."}}, {"delta": {"tool_calls": [call]}},
        {"delta": {}, "finish_reason": "tool_calls"}, {"done": True},
    ]  # fmt: skip
    chat = await ChatPage.opened(open_page, site, product, *steps)
    await chat.ask("What survives?")
    for _ in range(2):
        answer = chat.page.locator("[data-role=assistant]")
        await expect(answer.locator(".reasoning")).to_have_text("Let me see.")
        await expect(answer.locator(".text")).to_have_text("I look.")
        await expect(answer.locator(".call")).to_have_text('look: {"q":"ä"}')
        await chat.until_ready()
        await chat.page.reload()


async def test_page_fits_a_phone(open_page: OpenPage, site: str, product: Stack) -> None:
    long = [{"delta": {"content": "verylong" * 60}}, {"delta": {"content": " end"}}]
    phone = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}
    chat = await ChatPage.opened(open_page, site, product, *long, *script(2), **phone)
    await chat.page.get_by_label("Question").fill("What survives?")
    await chat.page.get_by_role("button", name="Send").tap()
    await chat.until_token(1)
    await chat.until_ready()
    assert await chat.page.evaluate("document.documentElement.scrollWidth") <= 360
    await expect(chat.page.get_by_role("button", name="Send")).to_be_in_viewport()
    box = await chat.page.get_by_role("button", name="Send").bounding_box()
    assert box is not None
    assert box["height"] >= 24, "WCAG 2.2, 2.5.8: the smallest target"


async def test_page_stays_at_the_newest_text(open_page: OpenPage, site: str, product: Stack) -> None:
    lines = [{"delta": {"content": f"line {k}\n"}} for k in range(100)]
    phone = {"viewport": {"width": 360, "height": 640}}
    chat = await ChatPage.opened(open_page, site, product, *lines, *script(40), **phone)
    await chat.ask("What survives?")
    await chat.until_token(10)
    for _ in range(2):
        end = await chat.page.get_by_role("article").last.bounding_box()
        assert end is not None
        assert 0 < end["y"] + end["height"] <= 640
        await chat.until_ready()


async def test_key_of_the_application_is_never_in_the_page(open_page: OpenPage, site: str, product: Stack) -> None:
    chat = await ChatPage.opened(open_page, site, product, *script(3))
    seen: list[str] = []
    chat.page.on("request", lambda request: seen.append(str(request.headers)))
    await chat.ask("What survives?")
    await assert_whole(chat, 3)
    assert KEY not in "".join([await chat.page.content(), *seen])
