"""`restore.lua`: an attempt brings back data that the server has lost."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from conftest import LEASE_MS
from support.log_writer import LogWriter
from support.logs import REQUEST, text_opened, texts
from support.stored_log import ANSWER, STARTED, Snapshot, expire, lose, stored_entries
from tailrace import keys
from tailrace.events import Text
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log.state import GenerationState


async def test_restore_brings_back_the_same_bytes_and_writing_continues(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    await writer.write(*ANSWER)
    expected, state = await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)
    await lose(redis, writer.generation_id)
    assert (await writer.send(writer.batch(Text(0, "!")))).outcome is Outcome.UNKNOWN
    assert await log.restore(writer.state, REQUEST, writer.rows[:-1]) is Outcome.OK
    assert await stored_entries(redis, writer.generation_id) == expected
    restored = await log.state(writer.generation_id, "anna")
    assert restored == GenerationState(**fields_of(state) | {"lease": restored.lease, "seen": restored.seen})
    assert restored.lease > state.lease - LEASE_MS
    assert await writer.send(writer.batch_after(writer.last_seq - 1)) == AppendResult(Outcome.OK, writer.last_seq)
    assert (await writer.finish()).outcome is Outcome.OK


def fields_of(state: GenerationState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in GenerationState.__struct_fields__}


async def test_restore_of_a_stored_generation_changes_nothing(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    before = await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)
    assert await log.restore(writer.state, REQUEST, writer.rows[:3]) is Outcome.OK
    assert (await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)) == before


async def test_restore_of_a_deleted_generation_is_refused(log: Log, redis: Redis, writer: LogWriter) -> None:
    await log.delete(writer.generation_id)
    assert await log.restore(writer.state, REQUEST, writer.rows) is Outcome.GONE
    assert not await redis.exists(keys.state(writer.generation_id), keys.log(writer.generation_id))


async def test_restore_of_an_expired_generation_is_refused(log: Log, redis: Redis, writer: LogWriter) -> None:
    await expire(redis, writer.generation_id)
    assert await log.restore(writer.state, REQUEST, writer.rows) is Outcome.GONE
    assert not await redis.exists(keys.state(writer.generation_id), keys.log(writer.generation_id))


async def test_restore_brings_back_an_acquisition_and_rows_of_an_earlier_attempt(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    """The server restarts with its data of before this attempt, and before the last rows of the previous one."""
    await writer.write(STARTED)
    older = await Snapshot.take(redis, writer.generation_id)
    await writer.write(text_opened(), *texts("Once"))
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    await later.write(later.restarted(2), text_opened(1))
    expected, state = await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)
    await older.bring_back()
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.OK
    assert await stored_entries(redis, writer.generation_id) == expected
    restored = await log.state(writer.generation_id)
    assert restored == GenerationState(**fields_of(state) | {"lease": restored.lease, "seen": restored.seen})
    assert await later.send(later.batch(Text(1, "Anew"))) == AppendResult(Outcome.OK, later.last_seq)
    assert (await writer.send(writer.batch(Text(0, "!")))).outcome is Outcome.FENCED


async def test_restore_of_a_log_that_has_continued_without_the_attempt_is_refused(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    """The fenced attempt writes again, to a restarted server that has lost the later attempt."""
    await writer.write(STARTED)
    older = await Snapshot.take(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    await later.write(later.restarted(2))
    await older.bring_back()
    await writer.write(STARTED)
    assert writer.last_seq == later.last_seq
    before = await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.FENCED
    assert (await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)) == before


async def test_restore_of_a_terminating_generation_is_refused(log: Log, redis: Redis, writer: LogWriter) -> None:
    older = await Snapshot.take(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    await older.bring_back()
    await redis.execute_command("HSET", keys.state(writer.generation_id), "terminating", "cancelled")
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.FENCED


async def test_restore_invalidates_an_earlier_acquisition(log: Log, redis: Redis, writer: LogWriter) -> None:
    """A retry with the token of a lost acquisition does not get the lease of another attempt."""
    older = await Snapshot.take(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    await older.bring_back()
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.OK
    assert (await log.acquire(writer.generation_id, "one", worker="another")).outcome is Outcome.HELD


async def test_generation_restored_between_two_reads_is_not_reported_as_expired(
    log: Log, redis: Redis, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read finds no state, and the second one the tombstone that was restored together with a state."""
    await writer.write(*ANSWER)
    await lose(redis, writer.generation_id)
    missing = log._missing

    async def restored_meanwhile(*args: Any) -> Any:
        await log.restore(writer.state, REQUEST, writer.rows)
        return await missing(*args)

    monkeypatch.setattr(log, "_missing", restored_meanwhile)
    assert (await log.state(writer.generation_id)).epoch == writer.epoch


async def test_announced_restore_is_seen_for_a_lease(log: Log, redis: Redis) -> None:
    assert not await log.is_restoring("gen")
    await log.announce_restore("gen")
    assert await log.is_restoring("gen")
    (name,) = [name async for name in redis.scan_iter(match="*restoring*")]
    assert 0 < await redis.pttl(name) <= log.lease_ms


async def test_full_server_lets_a_restore_be_announced_in_vain(
    log: Log, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    await log.announce_restore("gen")
    assert not await log.is_restoring("gen")
