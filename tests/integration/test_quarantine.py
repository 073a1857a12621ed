"""Quarantined generations on a real worker: what waits, what runs beside them, what a stopping worker hands over."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.stack import Stack, stack
from tailrace import keys
from tailrace.lifecycle.limits import QUARANTINE_AFTER, new_job_id
from tailrace.log import Log, Outcome
from tailrace.queue import QUARANTINE, Queue
from tailrace.settings import Settings

MAX_JOBS = 5
LONG_S = 10.0
ENDS: list[dict[str, Any]] = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
LONG: list[dict[str, Any]] = [{"delta": {"content": "Hi"}}, {"sleep": LONG_S}, *ENDS]


class Product:
    """A stack without a worker at first, and generations that are made to have lost three."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = running
        self.api = Api(http, running.frontends[0].url)
        settings = Settings(redis_url=running.redis.url, lease_s=1)
        self.log, self.queue = Log.connect(settings), Queue.connect(settings)

    async def quarantine(self, count: int) -> list[str]:
        """New generations that wait, quarantined, for a worker."""
        generation_ids = [await self.api.create_scripted(*LONG) for _ in range(count)]
        for generation_id in generation_ids:
            await self.log.server.execute("HSET", keys.state(generation_id), "attempt", QUARANTINE_AFTER)
            state = await self.log.state(generation_id)
            job_id = new_job_id(state)
            await self.queue.jobs.remove(state.job_id)
            assert await self.log.requeue_expired(generation_id, state.epoch, job_id) is Outcome.OK
            await self.queue.jobs.enqueue(generation_id, job_id, 3600)
        return generation_ids

    async def statuses(self, generation_ids: list[str]) -> list[str]:
        return sorted([(await self.log.state(generation_id)).status for generation_id in generation_ids])

    async def waiting(self) -> list[str]:
        """The job ids in the queue."""
        return [job_id.decode() for job_id in await self.queue.server.execute("ZRANGE", keys.QUEUE, 0, -1)]


@pytest.fixture
async def product() -> AsyncIterator[Product]:
    async with (
        stack(workers=0, frontends=1, lease_s="1", max_jobs=str(MAX_JOBS), drain_s="0") as running,
        aiohttp.ClientSession() as http,
    ):
        product = Product(running, http)
        yield product
        await product.log.server.close()
        await product.queue.server.close()


async def test_quarantined_generations_leave_new_ones_their_latency(product: Product) -> None:
    quarantined = await product.quarantine(MAX_JOBS + 1)
    worker = await product.stack.add_worker()

    async def one_runs() -> bool:
        statuses = await product.statuses(quarantined)
        waiting = await product.waiting()  # a job leaves the queue after its generation has begun
        return statuses == ["queued"] * MAX_JOBS + ["running"] and len(waiting) == MAX_JOBS

    await worker.wait_for_log("runs up to")
    await eventually(one_runs)
    before = sorted(await product.waiting())
    began = time.monotonic()
    new = await product.api.create_scripted({"delta": {"content": "new"}}, *ENDS)
    assert (await product.api.wait_for_result(new))["status"] == "completed"
    assert time.monotonic() - began < 1
    await asyncio.sleep(2.5)  # two leases: the sweeper requeues none of them, since each of them waits
    assert sorted(await product.waiting()) == before
    assert await one_runs()


async def test_quarantine_outlives_a_handover(product: Product) -> None:
    (generation_id,) = await product.quarantine(1)
    worker = await product.stack.add_worker()

    async def has_text() -> bool:
        return any([entry.event.kind == "text" async for entry in product.log.read_all(generation_id)])

    await eventually(has_text)
    await worker.stop()
    assert await product.statuses([generation_id]) == ["queued"]
    (job_id,) = await product.waiting()
    assert job_id.startswith(QUARANTINE)
    assert (await product.log.state(generation_id)).job_id == job_id
