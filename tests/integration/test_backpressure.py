"""A worker whose Redis is away under upstreams at full speed: what it holds is bounded, and nothing is lost."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from bench.procfs import rss_bytes
from support.api import MESSAGES, Api, eventually
from support.chat_chunks import choice, chunk, end
from support.logs import token
from support.stack import stack
from tailrace_worker.writer import MAX_UNSENT_BYTES

pytestmark = pytest.mark.long

GENERATIONS = 20
AWAY_S = 6.0
GROWTH = 15
"""Bytes of memory for each byte of a chunk with logprobs, as events; 9 measured."""


class Upstream:
    """Answers with endless chunks with logprobs: five a second, at full speed while `fast`, and no more once `over`."""

    def __init__(self) -> None:
        self.fast = self.over = False
        self.sent = 0
        text = chunk(choice({"content": " word"}, logprobs={"content": [token(" word") | {"top_logprobs": TOP}]}))
        self.payload = b"data: " + json.dumps(text).encode() + b"\n\n"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while not self.over:
            await response.write(self.payload)
            self.sent += len(self.payload)
            await asyncio.sleep(0 if self.fast else 0.2)
        await response.write(b"data: " + json.dumps(end()).encode() + b"\n\ndata: [DONE]\n\n")
        return response


TOP = [token(f" alternative {n}") for n in range(5)]


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    upstream, app = Upstream(), web.Application()
    app.router.add_post("/v1/chat/completions", upstream.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield upstream, f"http://127.0.0.1:{port}/v1"
    upstream.over = True
    await runner.cleanup()


async def test_worker_holds_little_while_redis_is_away_and_its_upstreams_are_fast(
    upstream: tuple[Upstream, str],
) -> None:
    model, url = upstream
    async with stack(workers=0, frontends=1, max_jobs=str(GENERATIONS)) as running, aiohttp.ClientSession() as http:
        running.environment["OPENAI_BASE_URL"] = url
        worker, api = await running.add_worker(), Api(http, running.frontends[0].url)
        body = {"model": "m", "messages": MESSAGES, "logprobs": True, "top_logprobs": 5}
        created = [(await api.post(body)).value["id"] for _ in range(GENERATIONS)]

        async def all_run() -> bool:
            return all([(await api.get(each)).value["status"] == "running" for each in created])

        await eventually(all_run)
        await asyncio.sleep(1)
        before = rss_bytes(worker.pid)
        assert running.redis.pid
        os.kill(running.redis.pid, signal.SIGSTOP)
        model.fast = True
        await asyncio.sleep(AWAY_S)
        sent = model.sent
        await asyncio.sleep(1)
        grown = rss_bytes(worker.pid) - before
        is_blocked = model.sent == sent
        model.fast = False
        os.kill(running.redis.pid, signal.SIGCONT)
        assert sent > 2 * GENERATIONS * MAX_UNSENT_BYTES
        assert grown < GROWTH * GENERATIONS * MAX_UNSENT_BYTES, f"{grown / 2**20:.0f} MiB for {sent / 2**20:.0f} sent"
        assert is_blocked
        assert worker.output.count("Redis does not take the answer") == GENERATIONS
        model.over = True
        for each in created:
            assert (await api.wait_for_result(each))["status"] == "completed"
        # What the upstreams had sent meanwhile may have made a generation wait once more.
        waits = worker.output.count("Redis does not take the answer")
        assert worker.output.count("the upstream is read again") == waits >= GENERATIONS
