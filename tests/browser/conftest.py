"""Headless Chromium, and the checks that every page must pass in it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, Request, async_playwright, expect

from support.chromium import ARGUMENTS, CHROMIUM
from support.proxy import Proxy, proxy
from support.stack import Stack, stack

expect.set_options(timeout=40_000)  # a bound on what hangs, on a machine that does other work as well

OpenPage = Callable[..., Awaitable[Page]]

MODELS = ("demo", "demo-long", "demo-reasoning", "demo-tools")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the page is not tested in a browser")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    async with stack(lease_s="1", drain_s="0.5") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def frontend_proxy(product: Stack) -> AsyncIterator[Proxy]:
    """A proxy in front of the frontend."""
    async with proxy(product.frontends[0].port) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """`open_page(url, **context)` opens a page in a browser context of its own.

    At the end the fixture fails if a page raised an exception, violated its own content security policy, sent a
    request to another origin, or logged an error. A `disturbed` page may log requests that failed. `models`: the
    server's list, which the workers report some time after their start; None for the server's own.
    """
    problems: list[str] = []
    contexts = []

    async def open_page(
        url: str, *, disturbed: bool = False, models: Sequence[str] | None = MODELS, **options: Any
    ) -> Page:
        context = await browser.new_context(**options)
        contexts.append(context)
        if models is not None:
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}
            await context.route("**/v1/models", lambda route: route.fulfill(json=listed))
        page = await context.new_page()
        page.set_default_timeout(40_000)
        origin = "/".join(url.split("/")[:3]) + "/"

        def on_console(message: ConsoleMessage) -> None:
            failed = "Failed to load resource" in message.text or "EventSource's response" in message.text
            if message.type in ("error", "warning") and not (disturbed and failed):
                problems.append(f"console: {message.text}")

        def on_request(request: Request) -> None:
            if not request.url.startswith(origin):
                problems.append(f"request: {request.url}")

        async def on_dialog(dialog: Dialog) -> None:
            problems.append(f"dialog: {dialog.message}")
            await dialog.dismiss()

        page.on("console", on_console)
        page.on("request", on_request)
        page.on("dialog", on_dialog)
        page.on("pageerror", lambda error: problems.append(f"thrown: {error}"))
        await page.goto(url)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert problems == []
