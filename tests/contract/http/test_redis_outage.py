"""Redis that is unreachable, has just started or is full."""

import asyncio
import time

import pytest

from support.api import Api, body, eventually
from support.product import LEASE_S, UNKNOWN_ID, Product, running_product
from support.sse import Parser
from tailrace.log import Log

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_redis_outage_refuses_requests_and_streams_go_on_afterwards() -> None:
    async with running_product(lease_s="4") as product:
        api, redis = product.api, product.stack.redis
        generation_id = await api.create()
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        streams = [await api.stream(generation_id) for _ in range(3)]
        for stream in streams:
            await stream.until_text("Hello")
        pid = product.stack.frontends[0].pid
        for stop in (redis.stop, redis.kill):
            await _flushed(product.log)
            await asyncio.to_thread(stop)
            await _refused_while_away(api, generation_id)
            await asyncio.to_thread(redis.start)
            await eventually(lambda: _is_back(api))
            await writer.write_text(f" after {stop.__name__}")
            for stream in streams:
                await stream.until_text(f" after {stop.__name__}")
        await writer.end()
        for stream in streams:
            await stream.rest()
            assert stream.text == "Hello after stop after kill"
            assert stream.kinds == ["created", "started", "item_opened", "text", "text", "text", "done"]
        assert product.stack.frontends[0].pid == pid
        assert (await api.post(body())).status == 202


async def _flushed(log: Log) -> None:
    """Wait until everything so far is on disk."""
    await log.server.client.execute_command("WAITAOF", 1, 0, 5000)


async def _is_back(api: Api) -> bool:
    return (await api.request("GET", "/readyz")).status == 200


async def _refused_while_away(api: Api, generation_id: str) -> None:
    for response in (
        await api.post(body()),
        await api.get(generation_id),
        await api.list(),
        await api.cancel(generation_id),
        await api.delete(generation_id),
        await api.request("GET", "/readyz"),
        await api.events(generation_id, Accept="application/x-ndjson"),
        await api.events(generation_id, Accept="*/*"),
    ):
        assert response.refusal == (503, "unavailable")
        assert int(response.headers["retry-after"]) >= 1
    response = await api.events(generation_id)
    assert response.status == 200
    parser = Parser()
    assert parser.feed(response.body) == []
    assert 1000 <= (parser.retry or 0) <= 3000
    assert len(parser.comments) == 1
    assert (await api.request("GET", "/healthz")).status == 200


async def test_redis_outage_longer_than_a_lease_ends_streams_with_retry() -> None:
    async with running_product() as product:
        api, redis = product.api, product.stack.redis
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        await asyncio.to_thread(redis.stop)
        began = time.monotonic()
        await stream.rest()
        assert LEASE_S + 0.5 < time.monotonic() - began < LEASE_S + 3
        assert stream.parser.retry
        assert stream.parser.comments == ["Redis is unavailable"]
        assert stream.kinds == ["created"]
        await asyncio.to_thread(redis.start)
        await eventually(lambda: _is_back(api))
        await api.cancel(generation_id)
        rest = await api.read(generation_id, stream.parser.last_id)
        assert rest.kinds == ["done"]


async def test_young_redis_makes_a_missing_log_unavailable_not_unknown() -> None:
    async with running_product(lease_s="30") as product:
        response = await product.api.events(UNKNOWN_ID)
        assert (response.status, response.body[:7]) == (200, b"retry: ")
        for response in (
            await product.api.events(UNKNOWN_ID, Accept="*/*"),
            await product.api.get(UNKNOWN_ID),
            await product.api.cancel(UNKNOWN_ID),
            await product.api.delete(UNKNOWN_ID),
        ):
            assert response.refusal == (503, "unavailable")


async def test_full_redis_refuses_new_generations_and_serves_stored_ones(product: Product) -> None:
    redis = product.log.server.client
    generation_id = await product.completed("Hello")
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", used)
    try:
        await asyncio.sleep(0.6)  # the frontend caches memory usage for half a second
        async with product.nothing_stored():
            responses = [await product.api.post(body()), await product.api.post(body(), Idempotency_Key="full")]
        for response in responses:
            assert response.refusal == (503, "unavailable")
            assert int(response.headers["retry-after"]) >= 1
        assert (await product.api.read(generation_id)).text == "Hello"
        assert (await product.api.get(generation_id)).status == 200
    finally:
        await redis.config_set("maxmemory", 0)
    await asyncio.sleep(0.6)
    assert (await product.api.post(body())).status == 202
