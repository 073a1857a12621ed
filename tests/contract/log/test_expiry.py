"""The time to live of a generation's keys."""

from redis.asyncio import Redis

from conftest import LEASE_MS
from support.log_writer import LogWriter
from support.logs import REQUEST
from support.logs import record as record_of
from support.stored_log import ANSWER, HOUR_MS, create_generation, lose, ttls_ms
from tailrace import keys
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.log import Log

DEADLINE_MS = RETENTION_MS = HOUR_MS
DAY_MS = 24 * HOUR_MS
SLACK_MS = 30_000  # a slow machine may take this long between a call and the check of its result


async def test_every_key_of_a_generation_has_a_ttl_at_all_times(log: Log, redis: Redis) -> None:
    record = record_of(id=new_generation_id())

    async def assert_ttls(*limits: int) -> None:
        """Of state, log and tombstone, which are the only keys beside the index."""
        names = [name.decode() async for name in redis.scan_iter()]
        _, index, _ = log.unfinished.add_command(record.id)
        assert sorted(names) == sorted([*keys.of_generation(record.id)[:3], index])
        for ttl, limit in zip(await ttls_ms(redis, record.id), limits, strict=True):
            assert limit - SLACK_MS < ttl <= limit

    stored = DEADLINE_MS + LEASE_MS + RETENTION_MS
    tombstone = DEADLINE_MS + 2 * RETENTION_MS + DAY_MS
    await log.create(record, REQUEST, "first job")
    await assert_ttls(stored, stored, tombstone)
    writer = await LogWriter.acquire(log, record.id, "one", worker="first")
    await assert_ttls(stored, stored, tombstone)
    await writer.write(*ANSWER)
    await log.renew([(record.id, writer.epoch, False)])
    await log.touch_presence([record.id])
    await assert_ttls(stored, stored, tombstone)
    await lose(redis, record.id)
    await log.restore(writer.state, REQUEST, writer.rows)
    await assert_ttls(stored, stored, tombstone + LEASE_MS)
    await log.release(record.id, writer.epoch, "another job")
    await assert_ttls(stored, stored, tombstone + LEASE_MS)
    finisher = await LogWriter.acquire(log, record.id, "end", terminating="cancelled")
    await finisher.finish("cancelled")
    await assert_ttls(RETENTION_MS, RETENTION_MS, tombstone + LEASE_MS)
    await finisher.finish("cancelled")
    await assert_ttls(RETENTION_MS, RETENTION_MS, tombstone + LEASE_MS)


async def test_retention_is_set_by_each_generation(log: Log, redis: Redis) -> None:
    writer = await LogWriter.acquire(
        log, await create_generation(log, options=Options(deadline_s=100, retention_s=7)), "one"
    )
    assert all(100_000 < ttl <= 100_000 + LEASE_MS + 7000 for ttl in (await ttls_ms(redis, writer.generation_id))[:2])
    await writer.finish()
    assert all(0 < ttl <= 7000 for ttl in (await ttls_ms(redis, writer.generation_id))[:2])


async def test_state_and_log_expire_together(log: Log, redis: Redis, writer: LogWriter) -> None:
    for _ in range(2):
        state, stream = [
            await redis.execute_command("PEXPIRETIME", name) for name in keys.of_generation(writer.generation_id)[:2]
        ]
        assert state == stream
        await writer.finish()


async def test_tombstone_of_a_deleted_generation_outlives_its_retention(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    await writer.finish()
    await log.delete(writer.generation_id)
    assert (await ttls_ms(redis, writer.generation_id))[2] > DEADLINE_MS + RETENTION_MS
