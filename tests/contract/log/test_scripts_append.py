"""`append.lua`."""

from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import text_opened, texts
from support.stored_log import (
    ANSWER,
    STARTED,
    Snapshot,
    apply_fate,
    create_generation,
    entries_of,
    read_all,
    stored_entries,
)
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused
from tailrace.events import Entry, Extra, Text, seq_span
from tailrace.ids import EntryId
from tailrace.log import AppendBatch, AppendResult, Log, Outcome
from tailrace.log.codec import to_row


async def test_append_adds_rows_and_leaves_the_lease_to_its_timer(log: Log, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    state = await log.state(writer.generation_id)
    assert await read_all(log, writer.generation_id) == writer.entries
    assert (state.position, state.epoch) == (EntryId(writer.epoch, writer.last_seq), writer.epoch)
    assert state.lease == writer.state.lease


async def test_append_stores_the_extra_of_an_entry(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(STARTED, text_opened())
    entry = Entry(EntryId(writer.epoch, writer.last_seq + 1), Text(0, ""), Extra(chunk_fields={"x": "ü\x00"}, before=2))
    batch = AppendBatch(writer.generation_id, writer.epoch, writer.last_seq, [to_row(entry)])
    assert (await writer.send(batch)).outcome is Outcome.OK
    assert (await entries_of(log, writer.generation_id))[-1] == entry
    assert (await stored_entries(redis, writer.generation_id))[-1][1] == {
        b"text:0": b"",
        b"extra": '{"chunk_fields":{"x":"ü\\u0000"},"before":2}'.encode(),
    }


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        ("deleted", Outcome.GONE),
        ("expired", Outcome.UNKNOWN),
        ("lost", Outcome.UNKNOWN),
        ("taken over", Outcome.FENCED),
        ("taken over and finished", Outcome.FENCED),
    ],
)
async def test_append_to_a_log_that_the_attempt_may_not_write_is_refused(
    log: Log, redis: Redis, writer: LogWriter, fate: str, outcome: Outcome
) -> None:
    await writer.write(STARTED)
    await apply_fate(fate, log, redis, writer)
    before = await stored_entries(redis, writer.generation_id)
    assert await writer.send(writer.batch(text_opened())) == AppendResult(outcome)
    assert await stored_entries(redis, writer.generation_id) == before


async def test_append_to_a_finished_log_returns_its_done(log: Log, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    done = to_row(Entry(EntryId(writer.epoch, writer.last_seq + seq_span(writer.done())), writer.done()))
    await writer.finish()
    assert await writer.send(writer.batch(Text(0, "more"))) == AppendResult(Outcome.DONE, done=done)


@pytest.mark.parametrize("missing", [1, 2])
async def test_append_behind_the_log_is_repaired_by_sending_again(
    log: Log, redis: Redis, writer: LogWriter, missing: int
) -> None:
    """The server restarts with its data of before the last appends."""
    await writer.write(STARTED, text_opened())
    older, last_seq = await Snapshot.take(redis, writer.generation_id), writer.last_seq
    await writer.write(*texts("Once| upon"))
    expected = await stored_entries(redis, writer.generation_id)
    await older.bring_back()
    writer.batch(Text(0, " a"))
    assert await writer.send(writer.batch_after(last_seq + missing)) == AppendResult(Outcome.BEHIND, last_seq)
    assert await writer.send(writer.batch_after(last_seq)) == AppendResult(Outcome.OK, writer.last_seq)
    assert (await stored_entries(redis, writer.generation_id))[:-1] == expected
    assert await read_all(log, writer.generation_id) == writer.entries


async def test_append_finish_and_renew_under_an_epoch_that_the_server_has_lost_are_refused(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    """The server restarts with its data of before this attempt; another may have used its sequence numbers since."""
    await writer.write(*ANSWER)
    older = await Snapshot.take(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    await later.write(text_opened(1))
    await older.bring_back()
    for last_seq in (writer.last_seq, writer.last_seq + 1):
        assert await later.send(later.batch_after(last_seq - 1)) == AppendResult(Outcome.UNKNOWN)
        assert await later.finish() == AppendResult(Outcome.UNKNOWN)
        assert await log.renew([(writer.generation_id, later.epoch, False)]) == [Outcome.UNKNOWN]
        await writer.write(Text(0, "!"))
    assert await read_all(log, writer.generation_id) == writer.entries


async def test_append_out_of_memory_is_refused_and_every_call_that_ends_a_generation_is_not(
    log: Log, writer: LogWriter, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await writer.write(*ANSWER)
    other = await LogWriter.acquire(log, await create_generation(log), "one", worker="first")
    await fill_memory()
    (refused,) = await log.append([writer.batch(Text(0, "more"))])
    assert isinstance(refused, RedisFull)
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.OK]
    await log.touch_presence([writer.generation_id])
    assert await log.release(other.generation_id, other.epoch, "another job") is Outcome.OK
    finisher = await LogWriter.acquire(log, writer.generation_id, "end", terminating="failed")
    assert (await finisher.finish("failed")).outcome is Outcome.OK
    assert (await log.state(writer.generation_id)).status == "failed"
    assert await log.delete(writer.generation_id) is Outcome.OK


async def test_append_to_many_logs_fails_only_for_a_broken_one(log: Log, redis: Redis) -> None:
    writers = [await LogWriter.acquire(log, await create_generation(log), "one") for _ in range(3)]
    await redis.set(keys.log(writers[1].generation_id), "no stream")
    first, broken, last = await log.append([writer.batch(STARTED) for writer in writers])
    assert isinstance(broken, RedisRefused)
    assert first == last == AppendResult(Outcome.OK, 1)


async def test_append_of_nothing_sends_nothing(log: Log) -> None:
    assert await log.append([]) == []
    assert await log.renew([]) == []
