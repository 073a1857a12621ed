import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace import keys
from tailrace.queue import Queue
from tailrace.queue.presence import UNKNOWN, WorkerStatus


async def test_presence_counts_workers_by_name(queue: Queue) -> None:
    assert await queue.presence.count() == 0
    for worker in ("one", "two", "one"):
        await queue.presence.heartbeat(worker)
    assert await queue.presence.count() == 2
    await queue.presence.deregister("one")
    await queue.presence.deregister("never there")
    assert await queue.presence.count() == 1


@pytest.mark.parametrize(("lease_ms", "silent_s", "counts"), [(5000, 14, 1), (5000, 17, 0), (300_000, 890, 1)])
async def test_presence_ends_three_leases_after_the_last_heartbeat(
    redis: Redis, lease_ms: int, silent_s: int, counts: int
) -> None:
    queue = queue_on(redis, lease_ms=lease_ms)
    await redis.zadd(keys.WORKERS, {"silent": await queue.server.now() // 1000 - silent_s})
    assert await queue.presence.count() == counts
    await queue.presence.heartbeat("another")
    assert await queue.presence.count() == counts + 1
    assert await redis.zcard(keys.WORKERS) == counts + 1


async def test_heartbeats_carry_the_status_of_workers(queue: Queue, redis: Redis) -> None:
    status = WorkerStatus(host="one.example", running=3, slots=100, draining=True, tokens_per_second=12.5)
    await queue.presence.heartbeat("two")
    await queue.presence.heartbeat("one", status)
    one, two = await queue.presence.workers()
    assert (one.name, one.status, two.name, two.status) == ("one", status, "two", UNKNOWN)
    assert 0 <= one.silent_ms < 60_000
    await redis.set(keys.worker_status("two"), b'{"running": "of a later version"}')
    assert (await queue.presence.workers())[1].status == UNKNOWN
    await queue.presence.deregister("one")
    assert [worker.name for worker in await queue.presence.workers()] == ["two"]
    assert not await redis.exists(keys.worker_status("one"))


async def test_no_worker_is_an_empty_fleet(queue: Queue) -> None:
    assert await queue.presence.workers() == []
