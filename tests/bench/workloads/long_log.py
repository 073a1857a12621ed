"""Looking at a long log, and ending it: 200,000 tokens, one an entry, of a generation that runs.

A GET folds the log, and so does a cancel, which writes the output into `done`. Meanwhile another client asks for
/healthz again and again: what its answers take longer than before is the time for which the frontend's loop or the
machine was busy. Redis' slow log has the longest command.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
from redis.asyncio import Redis

from bench import procfs
from bench.delivery import appends_to
from bench.harness import Served, product
from bench.measures import Finding
from tailrace.process.tasks import cancel_and_wait

TOKENS = 200_000
CANCELS = 3
TOKEN = "~text"
PAUSE_S = 0.001
SLOW_US = 1000
"""Shorter commands are not in Redis' slow log."""


class LongLog(NamedTuple):
    """One trial. `get_ms`: frontend CPU of a GET. `wait_ms`, `calm_ms`: the longest answer to another client during the
    cancels, and during as long a time before. `command_ms`: the longest command of the cancels on Redis."""

    get_ms: float
    wait_ms: float
    calm_ms: float
    command_ms: float


async def long_log(seconds: float) -> Sequence[Finding]:
    trial = await long_log_trial(seconds)
    beside = {"another client's longest wait before, ms": trial.calm_ms}
    return [
        Finding("long-log/get", trial.get_ms, {}),
        Finding("long-log/wait", trial.wait_ms, beside),
        Finding("long-log/command", trial.command_ms, {}),
    ]


async def long_log_trial(seconds: float) -> LongLog:
    async with product(max_log_bytes="100000000") as stack, aiohttp.ClientSession() as http:
        frontend = await stack.add_frontend()
        async with appends_to("log")(stack, Served(frontend.pid, frontend.port)) as append:
            names = await append.do("create", logs=CANCELS)
            await append.do("fill", logs=list(range(CANCELS)), tokens=TOKENS, texts=[TOKEN], end=False)
        urls = [f"{frontend.url}/v1/generations/{name}" for name in names]
        before, count, began = procfs.cpu_s(frontend.pid), 0, time.monotonic()
        while time.monotonic() - began < seconds:
            snapshot = await _json(http.get(urls[0]))
            assert len(snapshot["output"][0]["text"]) == TOKENS * len(TOKEN)
            count += 1
        get_ms = 1000 * (procfs.cpu_s(frontend.pid) - before) / count

        redis: Redis = Redis.from_url(stack.redis.url)
        await redis.config_set("slowlog-log-slower-than", SLOW_US)
        await redis.slowlog_reset()
        began = time.monotonic()
        async with _another_client(http, frontend.url) as waits:
            for url in urls:
                assert (await _json(http.post(f"{url}/cancel")))["status"] == "cancelled"
        took, slow = time.monotonic() - began, await redis.slowlog_get(100)
        async with _another_client(http, frontend.url) as calm:
            await asyncio.sleep(took)
        await redis.aclose()
    longest_us = max((each["duration"] for each in slow), default=0)
    return LongLog(get_ms, 1000 * max(waits), 1000 * max(calm), longest_us / 1000)


async def _json(request: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Any:
    async with request as response:
        assert response.status == 200, response
        return await response.json()


@asynccontextmanager
async def _another_client(http: aiohttp.ClientSession, url: str) -> AsyncIterator[list[float]]:
    """Requests during the block, one after another: how many seconds each took."""
    waits: list[float] = []

    async def ask() -> None:
        while True:
            began = time.monotonic()
            async with http.get(f"{url}/healthz") as response:
                await response.read()
            waits.append(time.monotonic() - began)
            await asyncio.sleep(PAUSE_S)

    asking = asyncio.create_task(ask())
    try:
        yield waits
    finally:
        await cancel_and_wait(asking)
