"""Chromium behind the shipped configurations of proxies, over HTTP/2: event streams share a connection, and a POST is
sent once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from support.api import Api
from support.cutting_backends import backends
from support.log_writer import LogWriter
from support.proxy_servers import KINDS, proxy_server
from support.stack import Stack, stack
from tailrace.log import Log
from tailrace.redis.server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAMS = 20
OPEN = """ids => {
    window.received = ids.map(() => "");
    window.streams = ids.map((id, index) => {
        const stream = new EventSource(`/v1/generations/${id}/events`);
        stream.addEventListener("text", event => { window.received[index] += JSON.parse(event.data).text; });
        return stream;
    });
}"""
POST = """async body => {
    const answer = await fetch("/v1/generations", {method: "POST", body}).catch(error => ({status: String(error)}));
    return answer.status;
}"""
ALL_HAVE = "text => window.received.every(each => each === text)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def without_worker() -> AsyncIterator[Stack]:
    async with stack(workers=0, frontends=2) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
async def test_twenty_streams_of_a_page_share_one_connection(
    browser: Browser, without_worker: Stack, kind: str, tmp_path: Path
) -> None:
    """As Chromium itself counts connections. Over HTTP/1.1 it would open six streams, and the others would wait."""
    log = Log(RedisServer.connect(without_worker.redis.url), lease_ms=600_000)
    async with aiohttp.ClientSession() as http:
        api = Api(http, without_worker.url)
        writers = [await LogWriter.start(log, await api.create()) for _ in range(STREAMS)]
    ports = [frontend.port for frontend in without_worker.frontends]
    context = await browser.new_context(ignore_https_errors=True)
    responses: list[dict[str, Any]] = []
    async with proxy_server(kind, tmp_path, ports) as proxy:
        page = await context.new_page()
        session = await context.new_cdp_session(page)
        session.on("Network.responseReceived", lambda event: responses.append(event))
        await session.send("Network.enable")
        await page.goto(f"{proxy.url}/healthz")
        await page.evaluate(OPEN, [writer.generation_id for writer in writers])
        text = ""
        for part in ("one ", "two ", "three "):
            text += part
            for writer in writers:
                await writer.write_text(part)
            await page.wait_for_function(ALL_HAVE, arg=text)  # each event before the next one is written
        streams = [each["response"] for each in responses if each["type"] == "EventSource"]
        await context.close()
    await log.server.close()
    assert len(streams) == STREAMS
    assert {each["protocol"] for each in streams} == {"h2"}
    assert len({each["connectionId"] for each in streams}) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_post_that_a_frontend_has_received_is_sent_once(browser: Browser, kind: str, tmp_path: Path) -> None:
    """A proxy may repeat it, or have the browser do so: HAProxy refuses the stream, and Chromium sends it again."""
    context = await browser.new_context(ignore_https_errors=True)
    async with backends(kind, tmp_path) as (proxy, served):
        page = await context.new_page()
        await page.goto(f"{proxy.url}/page")
        assert [await page.evaluate(POST, str(number)) for number in range(3)] == [502] * 3
        await context.close()
    assert sorted(body for each in served for body in each.bodies) == [b"0", b"1", b"2"]
