import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace import keys
from tailrace.queue import Queue


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
