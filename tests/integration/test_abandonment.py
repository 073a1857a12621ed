"""Generations that run only while they are read (`on_disconnect: cancel`), on a product with the shortest grace."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.stack import Stack, stack

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

GRACE_S = 6.0
ABSENCE_S = GRACE_S + 2
ENDLESS = {"delta": {"content": "Hello"}}, {"sleep": 60}, {"done": True}
READ = {"on_disconnect": "cancel"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stack]:
    async with stack(workers=1, frontends=2, lease_s="1", disconnect_grace_s=str(GRACE_S)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def apis(running: Stack) -> AsyncIterator[list[Api]]:
    async with aiohttp.ClientSession() as http:
        yield [Api(http, frontend.url) for frontend in running.frontends]


async def test_client_that_returns_within_its_grace_is_never_cancelled(apis: list[Api]) -> None:
    """Leaving and returning at 85 % of the grace, again and again; the last time for longer."""
    one, other = apis

    async def come_and_go() -> str:
        generation_id = await one.create_scripted(*ENDLESS, tailrace=READ)
        cursor = None
        for api in (one, other):
            stream = await api.stream(generation_id, cursor)
            await stream.until_text("Hello") if cursor is None else await asyncio.sleep(0.1)
            cursor = stream.parser.last_id
            stream.cut()
            await asyncio.sleep(0.85 * GRACE_S)
            assert (await one.get(generation_id)).value["status"] == "running"
        stream = await other.stream(generation_id, cursor)
        await asyncio.sleep(1.2 * GRACE_S)
        assert (await one.get(generation_id)).value["status"] == "running"
        stream.cut()
        return generation_id

    generation_ids = await asyncio.gather(*(come_and_go() for _ in range(4)))
    for generation_id in generation_ids:
        await eventually(partial(_is_cancelled, one, generation_id), 2 * GRACE_S)


async def _is_cancelled(api: Api, generation_id: str) -> bool:
    """Asked without `?wait=`, which counts as a reader."""
    result = (await api.get(generation_id)).value
    return bool(result["status"] == "cancelled" and result["error"]["code"] == "client_disconnected")


@pytest.mark.parametrize("how", ["frozen", "stopped"])
async def test_absence_of_redis_longer_than_the_grace_cancels_nothing_that_has_readers(
    running: Stack, apis: list[Api], how: str
) -> None:
    """(What was sent to a frozen server is carried out when it goes on: reports of readers, or a renewal first.)"""
    one, other = apis
    generation_ids = [await one.create_scripted(*ENDLESS, tailrace=READ) for _ in range(4)]
    streams = [await other.stream(generation_id) for generation_id in generation_ids]
    for stream in streams:
        await stream.until_text("Hello")
    left = await one.create_scripted(*ENDLESS, tailrace=READ)
    if how == "frozen":
        os.kill(running.redis.pid, signal.SIGSTOP)
    else:
        running.redis.stop()
    await asyncio.sleep(ABSENCE_S)
    if how == "frozen":
        os.kill(running.redis.pid, signal.SIGCONT)
    else:
        running.redis.start()
    for stream in streams:
        await stream.rest()
        assert stream.parser.retry is not None
    await asyncio.sleep(3)  # the longest time that a retry hint names
    streams = [
        await one.stream(generation_id, stream.parser.last_id)
        for generation_id, stream in zip(generation_ids, streams, strict=True)
    ]
    await asyncio.sleep(1.2 * GRACE_S)
    for generation_id in generation_ids:
        assert (await one.get(generation_id)).value["status"] == "running"
    assert await _is_cancelled(one, left)
    for stream in streams:
        stream.cut()


async def test_operator_who_watches_keeps_nothing_alive(running: Stack, apis: list[Api]) -> None:
    """The dashboard reads by `/v1/admin/…/events`, at another frontend than the caller."""
    generation_id = await apis[0].create_scripted(*ENDLESS, tailrace=READ)
    stream = await apis[0].stream(generation_id)
    await stream.until_text("Hello")
    stream.cut()
    url = f"{running.frontends[1].url}/v1/admin/generations/{generation_id}/events"
    async with aiohttp.ClientSession() as http, http.get(url) as watching:
        assert watching.status == 200
        await eventually(partial(_is_cancelled, apis[0], generation_id), 2 * GRACE_S)
        assert b"client_disconnected" in await watching.content.read()
