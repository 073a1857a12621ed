"""Generations that are opened in the chat page, and what the page shows of them."""

import asyncio
import uuid
from typing import Any

import aiohttp
from playwright.async_api import Locator, Page, Route, expect

from support.stack import Stack

Json = dict[str, Any]

END: list[Json] = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]


class CreatedGeneration:
    """A generation that was created over the API and is then opened in the page."""

    def __init__(self, product: Stack, created: Json, script_id: str, hold: str = "") -> None:
        self._product = product
        self._script_id = script_id
        self._hold = hold
        self.id: str = created["id"]
        self.path = f"/?id={self.id}"
        self.url = product.url + self.path
        self.events_path: str = created["events_url"]

    async def release(self) -> None:
        """Let the upstream send the second half of a held answer."""
        await release(self._product, self._hold)

    async def fetch(self) -> Json:
        return await get(f"{self._product.url}/v1/generations/{self.id}")

    async def calls(self) -> Json:
        """The upstream's record of its calls."""
        return await get(f"{self._product.upstream.removesuffix('/v1')}/calls?script_id={self._script_id}")

    async def calls_when_closed(self) -> Json:
        """The same record, after the last connection has closed."""
        while True:
            calls = await self.calls()
            if not calls["open"]:
                return calls
            await asyncio.sleep(0.02)


async def get(url: str) -> Json:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        value: Json = await answer.json()
        return value


async def release(product: Stack, hold: str) -> None:
    """Let the upstream go on behind a step `hold`."""
    url = f"{product.upstream.removesuffix('/v1')}/release?hold={hold}"
    async with aiohttp.ClientSession(raise_for_status=True) as http, http.post(url):
        pass


async def generate(product: Stack, script: list[Json], script_id: str = "", hold: str = "") -> CreatedGeneration:
    messages = [{"role": "user", "content": "What survives?"}]
    body = {"model": "scripted", "messages": messages, "script": script, "script_id": script_id}
    async with aiohttp.ClientSession() as http, http.post(f"{product.url}/v1/generations", json=body) as answer:
        return CreatedGeneration(product, await answer.json(), script_id, hold)


async def generate_held(product: Stack, tokens: int, script_id: str = "", rate: float = 60) -> CreatedGeneration:
    """A generation of unique tokens that sends the second half of them once it is released."""
    hold, half = uuid.uuid4().hex, tokens // 2
    script: list[Json] = [
        {"tokens": {"count": half, "rate": rate}},
        {"hold": hold},
        {"tokens": {"count": tokens - half, "start": half, "rate": rate}},
        *END,
    ]
    return await generate(product, script, script_id, hold)


async def generate_tokens(product: Stack, tokens: int, rate: float, script_id: str = "") -> CreatedGeneration:
    """A generation of unique tokens."""
    return await generate(product, [{"tokens": {"count": tokens, "rate": rate}}, *END], script_id)


async def generate_text(product: Stack, text: str) -> CreatedGeneration:
    return await generate(product, [{"delta": {"content": text}}, *END])


def token_text(tokens: int) -> str:
    """The text of `tokens` unique tokens, as the page shows it."""
    return " ".join(f"t{k}" for k in range(tokens))


def answer_in(page: Page) -> Locator:
    return page.locator("[data-role=assistant] .text").last


async def wait_for_tokens(page: Page, tokens: int) -> None:
    """Wait until the answer on the page has more than `tokens` tokens."""
    enough = "n => (document.querySelector('[data-role=assistant] .text')?.textContent.split(' ').length ?? 0) > n"
    await page.wait_for_function(enough, arg=tokens)


async def wait_for_state(page: Page, state: str) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-state", state, timeout=40_000)


async def finished_answer(page: Page) -> str:
    """The text of the answer after its end."""
    await wait_for_state(page, "done")
    return (await answer_in(page).inner_text()).strip()


async def speed_up(page: Page) -> None:
    """Let the demo model answer the page's questions a hundred times as fast."""

    async def faster(route: Route) -> None:
        body: Json = route.request.post_data_json or {}
        await route.continue_(post_data=body | {"tokens_per_second": 4000})

    await page.route("**/v1/generations", faster)
