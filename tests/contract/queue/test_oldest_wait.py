"""For how long the oldest waiting generation has waited, by the scripts on a real server."""

import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace import keys
from tailrace.queue import DELIVER_WEBHOOKS, Queue, Right, Taken, arq_jobs, job_id_of
from tailrace.queue.arq_jobs import OLDEST

MINUTE_MS = 60_000


@pytest.fixture
def queue(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(arq_jobs, "HOLD_S", 0)  # the test's server may have just started
    return queue_on(redis, right_of=lambda owner: Right(1.0, 1 if owner == "bob" else 0))


async def enqueued(redis: Redis, queue: Queue, minutes_ago: int, owner: str = "anna") -> str:
    """A job that was enqueued so long ago."""
    job_id = job_id_of(owner)
    await queue.jobs.enqueue("gen", job_id, 60)
    await redis.zincrby(keys.WAITING, -minutes_ago * MINUTE_MS, job_id)
    return job_id


async def minutes(queue: Queue) -> int:
    return round(await queue.jobs.oldest_wait_s() / 60)


async def test_oldest_wait_is_that_of_the_job_enqueued_first_whatever_the_order(redis: Redis, queue: Queue) -> None:
    assert await queue.jobs.oldest_wait_s() == 0
    young, old = await enqueued(redis, queue, 3), await enqueued(redis, queue, 7)
    assert await redis.zrange(keys.QUEUE, 0, 0) == [young.encode()]
    assert await minutes(queue) == 7
    await queue.jobs.remove(old)
    assert await minutes(queue) == 3
    assert isinstance(await queue.jobs.take(young, "w", MINUTE_MS), Taken)
    assert await queue.jobs.oldest_wait_s() == 0


async def test_parked_job_goes_on_waiting(redis: Redis, queue: Queue) -> None:
    first, parked = await enqueued(redis, queue, 9, "bob"), await enqueued(redis, queue, 5, "bob")
    assert isinstance(await queue.jobs.take(first, "w", MINUTE_MS), Taken)
    await queue.jobs.mark_started(first)
    assert not isinstance(await queue.jobs.take(parked, "w", MINUTE_MS), Taken)
    assert await redis.zcard(keys.QUEUE) == 0
    assert await minutes(queue) == 5
    await queue.jobs.remove(first)
    assert await minutes(queue) == 5, "it is back in the queue"
    await queue.jobs.remove(parked)
    assert await redis.keys("*") == []


async def test_enqueueing_again_begins_no_new_wait(redis: Redis, queue: Queue) -> None:
    job_id = await enqueued(redis, queue, 4)
    await queue.jobs.enqueue("gen", job_id, 60)
    assert await minutes(queue) == 4


async def test_webhooks_are_no_generations_that_wait(queue: Queue) -> None:
    await queue.jobs.enqueue("endpoint", "webhooks", 60, job=DELIVER_WEBHOOKS)
    assert await queue.jobs.oldest_wait_s() == 0


async def test_jobs_that_workers_of_an_earlier_version_took_do_not_count(redis: Redis, queue: Queue) -> None:
    """Such a worker removes a job from the queue alone."""
    for _ in range(2 * OLDEST + 3):
        await redis.zrem(keys.QUEUE, await enqueued(redis, queue, 30))
    await enqueued(redis, queue, 2)
    assert await minutes(queue) == 2
    assert await redis.zcard(keys.WAITING) < OLDEST
