"""arq's worker, made to outlive its server: slots, stale jobs, errors."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix
from arq.worker import func
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace.errors import RedisUnavailable
from tailrace.ids import new_token
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import JOB, dump_job, load_job
from tailrace_worker.job_runner import JobRunner


class Shop:
    """A dispatcher whose jobs wait to be let go."""

    def __init__(self, redis: Redis) -> None:
        self.queue = queue_on(redis)
        self.begun: list[str] = []
        self.go = asyncio.Event()
        self._another = asyncio.Event()
        self.job_runner = JobRunner(
            self.queue, "this worker", [func(self._job, name=JOB, timeout=60, max_tries=1)],  # type: ignore[arg-type]
            max_jobs=2, max_tries=1, retry_jobs=False,
            keep_result=0, job_serializer=dump_job, job_deserializer=load_job,
        )  # fmt: skip

    async def _job(self, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        self.begun.append(generation_id)
        self._another.set()
        await self.queue.jobs.mark_started(job_id)
        await self.go.wait()

    async def notify(self, *generation_ids: str) -> None:
        for generation_id in generation_ids:
            await self.queue.jobs.enqueue(generation_id, new_token(), 60)
        self.job_runner.wake()

    async def until(self, begun: int) -> None:
        async with asyncio.timeout(10):
            while len(self.begun) < begun:
                self._another.clear()
                await self._another.wait()


@pytest.fixture
async def shop(redis: Redis, log: Log) -> AsyncIterator[Shop]:
    shop = Shop(redis)
    running = asyncio.create_task(shop.job_runner.main())
    yield shop
    shop.go.set()
    await asyncio.gather(*shop.job_runner.tasks.values())
    await cancel_and_wait(running)


async def test_jobs_run_up_to_the_limit_and_then_in_turn(shop: Shop) -> None:
    await shop.notify("a", "b", "c")
    await shop.until(2)
    assert shop.job_runner.job_counter == 2
    assert await shop.queue.jobs.depth() == 1
    shop.go.set()
    await shop.until(3)


async def test_a_job_that_another_worker_has_is_left_to_it(shop: Shop, redis: Redis) -> None:
    shop.job_runner.stop_picking()
    job_id = new_token()
    await shop.queue.jobs.enqueue("a", job_id, 60)
    await redis.set(in_progress_key_prefix + job_id, b"another worker")
    await shop.job_runner.start_jobs([job_id.encode()])
    assert shop.job_runner.job_counter == 0
    assert not shop.begun


async def test_a_job_whose_taking_was_not_heard_of_is_taken_and_run_once(shop: Shop, redis: Redis) -> None:
    shop.job_runner.stop_picking()
    job_id = new_token()
    await shop.queue.jobs.enqueue("a", job_id, 60)
    await redis.set(in_progress_key_prefix + job_id, b"this worker")
    for _ in range(2):
        await shop.job_runner.start_jobs([job_id.encode()])
    await shop.until(1)
    assert shop.job_runner.job_counter == 1
    shop.go.set()
    await asyncio.gather(*shop.job_runner.tasks.values())
    assert shop.begun == ["a"]
    assert not await redis.exists(in_progress_key_prefix + job_id)


async def test_a_job_that_was_done_meanwhile_leaves_no_mark(shop: Shop, redis: Redis) -> None:
    await shop.job_runner.start_jobs([b"gone"])
    assert shop.job_runner.job_counter == 0
    assert not await redis.exists(in_progress_key_prefix + "gone")


async def test_an_error_costs_a_poll_and_no_slot(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [RedisUnavailable() for _ in range(5)]
    take = shop.queue.jobs.take

    async def failing(*args: Any) -> int | None:
        if errors:
            raise errors.pop()
        return await take(*args)

    monkeypatch.setattr(shop.queue.jobs, "take", failing)
    await shop.notify("a", "b")
    await shop.until(2)
    assert not errors
    assert shop.job_runner.job_counter == 2


async def test_one_who_stops_picking_takes_nothing_more(shop: Shop) -> None:
    shop.job_runner.stop_picking()
    await shop.notify("a")
    await shop.job_runner._poll_iteration()
    assert not shop.begun
    assert await shop.queue.jobs.depth() == 1
