"""The link that lets another person read one answer without an API key."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from support.chat_page import END, answer_in, finished_answer, release
from support.stack import Frontend, Stack

OpenPage = Callable[..., Awaitable[Page]]
Json = dict[str, Any]

KEY = "anna-key-1"
BEARER = {"Authorization": f"Bearer {KEY}"}
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(loop_scope="module")
async def keyed(product: Stack) -> AsyncIterator[Frontend]:
    """A frontend with API keys."""
    frontend = await product.add_frontend(api_keys=f"anna:{KEY}", ticket_secret="sixteen characters")
    yield frontend
    await frontend.stop()


async def create(frontend: Frontend, *script: Json) -> Json:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "A private question"}], "script": script}
    async with (
        aiohttp.ClientSession(headers=BEARER) as http,
        http.post(f"{frontend.url}/v1/generations", json=body) as answer,
    ):
        created: Json = await answer.json()
        return created


def read_only_url(frontend: Frontend, created: Json) -> str:
    return f"{frontend.url}/?id={created['id']}#ticket={created['events_url'].partition('?ticket=')[2]}"


async def test_copied_read_only_link_shows_the_answer_without_key_and_question(
    keyed: Frontend, open_page: OpenPage
) -> None:
    created = await create(keyed, {"delta": {"content": "A *shared* answer."}}, *END)
    owner = await open_page(keyed.url + "/", disturbed=True, viewport={"width": 320, "height": 560}, **CLIPBOARD)
    await owner.evaluate("key => sessionStorage.setItem('tailrace.key', key)", KEY)
    await owner.goto(f"{keyed.url}/?id={created['id']}")
    await finished_answer(owner)
    await owner.get_by_role("button", name="Copy read-only link").click()
    note = owner.locator(".shared-note")
    await expect(note).to_contain_text("without its question")
    await expect(note).to_contain_text(str(time.gmtime(time.time() + 3600).tm_year))
    await expect(note.get_by_role("button", name="Revoke the link")).to_be_visible()
    await owner.wait_for_function(
        """() => document.querySelector(".shared-note").getBoundingClientRect().bottom
          <= document.querySelector("footer").getBoundingClientRect().top"""
    )
    link = await owner.evaluate("navigator.clipboard.readText()")
    assert re.match(rf"{re.escape(keyed.url)}/\?id={created['id']}#ticket=anna~\d+~shr_", unquote(link))

    reader = await open_page(link, models=None)
    await finished_answer(reader)
    await expect(reader.locator(".prose em")).to_have_text("shared")
    await expect(reader.locator("#shared")).to_contain_text("at the latest")
    for part in ("#composer", "#unlock", "#recent", "#gone"):
        await expect(reader.locator(part)).to_be_hidden()
    assert "A private question" not in await reader.locator("body").inner_text()
    urls: list[str] = []
    reader.on("request", lambda request: urls.append(request.url))
    await reader.reload()
    await finished_answer(reader)
    sent = [url.partition("#")[0] for url in urls]  # browsers send no fragment
    assert not [url for url in sent if "ticket" in url]
    assert [url for url in sent if "/v1/" in url] == [f"{keyed.url}/v1/generations/{created['id']}/events"]


async def test_revoked_link_ends_on_the_page_of_its_reader_and_the_others_go_on(
    keyed: Frontend, open_page: OpenPage
) -> None:
    created = await create(keyed, {"tokens": {"count": 20, "rate": 100}}, {"hang": True})
    owner = await owners_page(keyed, open_page, created)
    links = []
    for _ in range(2):
        await owner.get_by_role("button", name="Copy read-only link").click()
        await expect(owner.get_by_role("button", name="Copied")).to_be_visible()
        links.append(await owner.evaluate("navigator.clipboard.readText()"))
    assert links[0] != links[1]
    readers = [await open_page(link, disturbed=True, models=None) for link in links]
    for reader in readers:
        await expect(answer_in(reader)).to_contain_text("t19")
    note = owner.locator(".shared-note")
    await expect(note.get_by_role("button", name="Revoke all 2 links of this answer")).to_be_visible()
    await note.get_by_role("button", name="Revoke the link").click()
    await expect(note).to_have_text("The link does not work any more.")
    await expect(readers[1].locator("#status")).to_contain_text("was revoked")
    await expect(answer_in(readers[1])).to_contain_text("t19")
    await expect(readers[0].locator("#status")).to_have_attribute("data-state", "streaming")
    late = await open_page(links[1], disturbed=True, models=None)
    await expect(late.get_by_role("heading", name="This link is no longer valid.")).to_be_visible()

    await owner.get_by_role("button", name="Copy read-only link").click()
    await note.get_by_role("button", name="Revoke all 2 links of this answer").click()
    await expect(note).to_have_text("The links do not work any more.")
    await expect(readers[0].locator("#status")).to_contain_text("was revoked")
    await owner.get_by_role("button", name="Stop").click()
    await expect(owner.locator("#status")).to_have_attribute("data-state", "stopped")
    await expect(note).to_have_text("The links do not work any more.")


async def test_link_that_is_refused_is_explained(keyed: Frontend, open_page: OpenPage) -> None:
    created = await create(keyed, {"delta": {"content": "An answer."}}, *END)
    owner = await owners_page(keyed, open_page, created)
    await finished_answer(owner)
    refusal = {"error": {"message": "A generation can have 100 shares.", "code": None, "type": "x", "param": None}}
    await owner.route("**/shares", lambda route: route.fulfill(status=400, json=refusal))
    await owner.get_by_role("button", name="Copy read-only link").click()
    await expect(owner.locator(".shared-note")).to_have_text("There is no link: A generation can have 100 shares.")


async def owners_page(keyed: Frontend, open_page: OpenPage, created: Json) -> Page:
    """The page of the one who has the key, with the answer."""
    owner = await open_page(keyed.url + "/", disturbed=True, **CLIPBOARD)
    await owner.evaluate("key => sessionStorage.setItem('tailrace.key', key)", KEY)
    await owner.goto(f"{keyed.url}/?id={created['id']}")
    return owner


async def test_read_only_link_follows_an_answer_that_is_being_written(
    product: Stack, keyed: Frontend, open_page: OpenPage
) -> None:
    half = {"tokens": {"count": 50, "rate": 500}}
    rest = {"tokens": {"count": 50, "start": 50, "rate": 500}}
    created = await create(keyed, half, {"hold": "read-only"}, rest, *END)
    page = await open_page(read_only_url(keyed, created), models=None)
    await expect(page.locator("#status")).to_have_attribute("data-state", "streaming")
    await page.keyboard.press("Escape")
    await release(product, "read-only")
    await expect(page.locator("#status")).to_have_attribute("data-state", "done")
    assert "t99" in await answer_in(page).inner_text()


async def test_read_only_link_with_a_wrong_ticket_is_explained(keyed: Frontend, open_page: OpenPage) -> None:
    created = await create(keyed, {"delta": {"content": "A shared answer."}}, *END)
    page = await open_page(read_only_url(keyed, created)[:-2], disturbed=True, models=None)
    await expect(page.get_by_role("heading", name="This link is no longer valid.")).to_be_visible()
    for part in ("#unlock", "#shared-text"):
        await expect(page.locator(part)).to_be_hidden()
    await page.get_by_role("link", name="Open with an API key").click()
    await page.get_by_label("API key").fill(KEY)
    await page.get_by_role("button", name="Continue").click()
    await finished_answer(page)
    await expect(page.locator("#conversation")).to_contain_text("A private question")


async def test_new_chat_from_a_read_only_link_asks_for_a_key(keyed: Frontend, open_page: OpenPage) -> None:
    created = await create(keyed, {"delta": {"content": "A shared answer."}}, *END)
    page = await open_page(read_only_url(keyed, created), disturbed=True, models=None)
    await finished_answer(page)
    await page.get_by_role("link", name="New chat").click()
    await expect(page.get_by_label("This server requires an API key.")).to_be_focused()
    await page.go_back()
    await finished_answer(page)
    await expect(page.locator("#composer")).to_be_hidden()


async def test_open_server_offers_no_read_only_link(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    await page.get_by_label("Your message").fill("Hello")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Copy link")).to_be_visible()
    await expect(page.get_by_role("button", name="Copy read-only link")).to_have_count(0)
