"""What KEDA's redis trigger reads of a real queue is what waits for a worker."""

import asyncio
import random

import pytest
from redis.asyncio import Redis

from support.manifests import named
from support.queues import queue_on
from tailrace import keys
from tailrace.queue import Queue, Right, Taken, job_id_of

LENGTHS = {b"zset": "ZCARD", b"set": "SCARD", b"hash": "HLEN", b"list": "LLEN", b"none": "LLEN"}
"""What the trigger (KEDA 2.20) asks of a key of each type. Any other type is an error."""

LIMITS = {"anna": 0, "bob": 2}


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis, right_of=lambda owner: Right(1.0, LIMITS[owner]))


async def read_trigger(redis: Redis) -> int:
    trigger = named("keda", "ScaledObject", "tailrace-worker")["spec"]["triggers"][0]
    assert trigger["type"] == "redis"
    name = trigger["metadata"]["listName"]
    return int(await redis.execute_command(LENGTHS[await redis.type(name)], name))


async def wait_until_limits_hold(queue: Queue) -> None:
    """For 3 s after the start of a server no job of a caller with a limit is handed out."""
    job_id = job_id_of("bob")
    await queue.jobs.enqueue("gen", job_id, 60)
    while not await queue.jobs.take(job_id, "w", 60_000):  # noqa: ASYNC110 - the server's clock
        await asyncio.sleep(0.05)
    await queue.jobs.remove(job_id)


async def test_trigger_reads_the_jobs_that_a_worker_could_take(redis: Redis, queue: Queue) -> None:
    """Parked ones wait for another one of their caller, and not for a worker: they must not scale anything."""
    rng, enqueued, held, most_parked = random.Random(7), set[str](), list[str](), 0
    await wait_until_limits_hold(queue)
    assert await read_trigger(redis) == 0
    for _ in range(250):
        if rng.random() < 0.55:
            job_id = job_id_of(rng.choice(list(LIMITS)))
            await queue.jobs.enqueue("gen", job_id, 60)
            enqueued.add(job_id)
        elif held and rng.random() < 0.4:
            await queue.jobs.remove(held.pop(rng.randrange(len(held))))
        elif head := await redis.zrange(keys.QUEUE, 0, 0):
            taken = await queue.jobs.take(head[0].decode(), "w", 60_000)
            if isinstance(taken, Taken):
                await queue.jobs.mark_started(taken.job_id)
                held.append(taken.job_id)
                enqueued.discard(taken.job_id)
        parked = await redis.zcard(keys.parked("bob"))
        most_parked = max(most_parked, parked)
        assert await read_trigger(redis) == len(enqueued) - parked
        assert await queue.jobs.depth() == len(enqueued)
    assert len(enqueued) > most_parked > 2
    assert held
