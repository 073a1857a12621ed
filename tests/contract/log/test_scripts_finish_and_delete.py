"""`finish.lua` and `delete.lua`."""

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.stored_log import ANSWER, apply_fate, done_of_log, expire, read_all
from tailrace import keys
from tailrace.errors import Gone
from tailrace.events import Entry, Extra, seq_span
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log.codec import from_row


async def test_finish_writes_done_and_releases_the_lease(log: Log, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    assert await done_of_log(log, writer.generation_id) is None
    assert await writer.finish("incomplete") == AppendResult(Outcome.OK)
    state = await log.state(writer.generation_id)
    assert (state.status, state.lease, state.is_final) == ("incomplete", 0, True)
    assert state.position == EntryId(writer.epoch, writer.last_seq + seq_span(writer.done()))
    assert (await read_all(log, writer.generation_id))[-1] == Entry(state.position, writer.done("incomplete"))
    assert await done_of_log(log, writer.generation_id) == writer.done("incomplete")


async def test_finish_stores_the_extra_of_done(log: Log, writer: LogWriter) -> None:
    extra = Extra(chunk_fields={"system_fingerprint": "fp"})
    await log.finish(writer.generation_id, writer.epoch, writer.last_seq, writer.done(), extra)
    assert (await read_all(log, writer.generation_id))[-1].extra == extra


@pytest.mark.parametrize(
    ("count", "tokens"),
    [(383, 383), (0, 0), (None, None), (-1, None), (1.5, None), (True, None), ("7", None), (2**53, None)],
)
async def test_finish_stores_the_output_tokens_of_the_usage(
    log: Log, writer: LogWriter, count: object, tokens: int | None
) -> None:
    await writer.finish(usage={"completion_tokens": count})
    assert (await log.state(writer.generation_id)).tokens == tokens


async def test_finish_without_usage_stores_no_tokens(log: Log, writer: LogWriter) -> None:
    await writer.finish()
    assert (await log.state(writer.generation_id)).tokens is None


async def test_state_expires_with_its_retention_after_the_end(log: Log, writer: LogWriter) -> None:
    await writer.finish()
    retention_ms = 1000 * (await log.state(writer.generation_id)).record.options.retention_s
    expires_at, now = await log.expires_at(writer.generation_id), await log.server.now()
    assert expires_at is not None
    assert now + retention_ms - 5000 < expires_at <= now + retention_ms
    assert await log.expires_at("gen_" + "a" * 26) is None


@pytest.mark.parametrize("off", [-1, 1])
async def test_finish_at_another_position_than_the_folded_one_is_refused(log: Log, writer: LogWriter, off: int) -> None:
    await writer.write(*ANSWER)
    result = await log.finish(writer.generation_id, writer.epoch, writer.last_seq + off, writer.done())
    assert result == AppendResult(Outcome.CHANGED, writer.last_seq)
    assert await done_of_log(log, writer.generation_id) is None


async def test_finish_again_returns_the_stored_done(log: Log, writer: LogWriter) -> None:
    await writer.finish("completed")
    result = await writer.finish("failed")
    assert result.outcome is Outcome.DONE
    assert result.done is not None
    assert from_row(result.done).event == writer.done("completed")


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        ("taken over", Outcome.FENCED),
        ("deleted", Outcome.GONE),
        ("expired", Outcome.UNKNOWN),
        ("lost", Outcome.UNKNOWN),
    ],
)
async def test_finish_of_a_log_that_the_attempt_may_not_write_is_refused(
    log: Log, redis: Redis, writer: LogWriter, fate: str, outcome: Outcome
) -> None:
    await apply_fate(fate, log, redis, writer)
    assert await writer.finish() == AppendResult(outcome)
    assert await done_of_log(log, writer.generation_id) is None


async def test_delete_removes_every_key_but_the_tombstone(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.finish()
    await log.unfinished.remove(writer.generation_id)
    assert await log.delete(writer.generation_id) is Outcome.OK
    assert [name async for name in redis.scan_iter()] == [keys.tombstone(writer.generation_id).encode()]
    assert await log.delete(writer.generation_id) is Outcome.GONE


async def test_delete_of_an_unknown_generation_leaves_nothing(log: Log, redis: Redis) -> None:
    assert await log.delete(new_generation_id()) is Outcome.UNKNOWN
    assert await redis.dbsize() == 0


async def test_delete_of_an_expired_generation_makes_it_deleted(log: Log, redis: Redis, generation_id: str) -> None:
    await expire(redis, generation_id)
    assert await log.delete(generation_id) is Outcome.OK
    with pytest.raises(Gone) as gone:
        await log.state(generation_id, "anna")
    assert gone.value.code == "deleted"
