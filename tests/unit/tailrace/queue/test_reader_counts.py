from redis.asyncio import Redis

from tailrace import keys
from tailrace.queue.reader_counts import REPORT_LIFE_MS, ReaderCounts
from tailrace.redis.server import RedisServer


async def test_readers_of_all_frontends_are_summed_by_caller(redis: Redis) -> None:
    one, two = (ReaderCounts(RedisServer(redis)) for _ in range(2))
    assert await one.read() == {}
    await one.report({"anna": 2, "berta": 1, "cora": 0})
    await two.report({"anna": 3})
    assert await one.read() == {"anna": 5, "berta": 1}
    await one.report({"anna": 1})
    await two.report({})
    assert await two.read() == {"anna": 1}
    assert 0 < await redis.pttl(keys.READERS) <= 2 * REPORT_LIFE_MS


async def test_report_of_a_frontend_that_has_died_counts_no_longer(redis: Redis) -> None:
    counts = ReaderCounts(RedisServer(redis))
    await redis.hset(keys.READERS, "dead", '{"at":1,"readers":{"anna":9}}')  # type: ignore[misc]
    await counts.report({"anna": 1})
    assert await counts.read() == {"anna": 1}
    assert await redis.hlen(keys.READERS) == 1  # type: ignore[misc]


async def test_frontend_without_readers_writes_nothing(redis: Redis) -> None:
    counts = ReaderCounts(RedisServer(redis))
    for _ in range(3):
        await counts.report({"anna": 0})
    assert not await redis.exists(keys.READERS)
