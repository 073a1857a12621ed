"""The seven promises of `tailrace.log`, on a real server. The name of each test begins with its promise."""

import asyncio
from itertools import pairwise

import pytest
from msgspec import structs
from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from support.stored_log import ANSWER, STARTED, done_of_log, entries_of, expire, expire_lease, read_all, stored_entries
from tailrace.errors import Gone, NotFound
from tailrace.events import Created, Done, Entry, FinalStatus, Text
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log import reading as reading_module
from tailrace.log.codec import to_row
from tailrace.log.state import GenerationState


async def test_ordered_ids_grow_and_sequence_numbers_are_dense_across_attempts(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    await writer.write(*ANSWER)
    await expire_lease(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="second")
    await later.write(later.restarted(2), text_opened(1), *texts("Anew|.", 1))
    assert (await later.finish()).outcome is Outcome.OK
    entries = await read_all(log, writer.generation_id)
    assert len(entries) == 12
    assert entries[0].id.seq == entries[0].seq_span - 1
    assert all(after.is_contiguous_after(before.id) and after.id > before.id for before, after in pairwise(entries))


async def test_immutable_no_call_changes_an_entry(log: Log, redis: Redis, writer: LogWriter) -> None:
    batch = await writer.write(*ANSWER)
    before = await stored_entries(redis, writer.generation_id)
    forged = [structs.replace(row, value="other", extra='{"chunk_fields":{}}') for row in batch.rows]
    assert (await writer.send(structs.replace(batch, rows=forged))).outcome is Outcome.OK
    await log.renew([(writer.generation_id, writer.epoch, False)])
    await log.touch_presence([writer.generation_id])
    await log.release(writer.generation_id, writer.epoch, "another job")
    await log.create(record_of(id=writer.generation_id, model="other"), REQUEST, "third job")
    await log.restore(writer.state, REQUEST, writer.rows[:2])
    finisher = await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
    await finisher.finish("cancelled")
    assert (await stored_entries(redis, writer.generation_id))[:-1] == before


@pytest.mark.parametrize("finishers", [2, 8, 40])
@pytest.mark.parametrize("by", ["one attempt", "attempts of their own"])
async def test_finite_concurrent_finishers_write_one_done(log: Log, writer: LogWriter, finishers: int, by: str) -> None:
    await writer.write(*ANSWER)
    statuses: list[FinalStatus] = ["completed", "cancelled", "failed", "incomplete"]

    async def finish(number: int) -> Outcome:
        status = statuses[number % 4]
        if by == "one attempt":
            return (await writer.finish(status)).outcome
        grant = await log.acquire(writer.generation_id, f"finisher {number}", terminating=status)
        return (await LogWriter(log, grant).finish(status)).outcome if grant.state else grant.outcome

    outcomes = await asyncio.gather(*map(finish, range(finishers)))
    assert outcomes.count(Outcome.OK) == 1
    assert set(outcomes) <= {Outcome.OK, Outcome.DONE, Outcome.FENCED}
    entries = await read_all(log, writer.generation_id)
    assert [isinstance(entry.event, Done) for entry in entries] == [False] * 7 + [True]
    state = await log.state(writer.generation_id)
    assert isinstance(done := entries[-1].event, Done)
    assert (state.status, state.position, state.is_final) == (done.status, entries[-1].id, True)
    assert done.status == statuses[outcomes.index(Outcome.OK) % 4]


async def test_finite_nothing_follows_the_done(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    await writer.finish()
    before = await stored_entries(redis, writer.generation_id)
    await writer.send(writer.batch(Text(0, "more")))
    await writer.finish("failed")
    await log.acquire(writer.generation_id, "two")
    await log.acquire(writer.generation_id, "three", terminating="cancelled")
    assert await stored_entries(redis, writer.generation_id) == before


@pytest.mark.parametrize("terminating", [None, "cancelled"])
async def test_one_writer_every_call_of_a_fenced_attempt_is_refused(
    log: Log, redis: Redis, writer: LogWriter, terminating: FinalStatus | None
) -> None:
    await writer.write(STARTED)
    await expire_lease(redis, writer.generation_id)
    await log.acquire(writer.generation_id, "two", worker="second", terminating=terminating)
    before = await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)
    assert (await writer.finish()).outcome is Outcome.FENCED
    assert (await writer.send(writer.batch(text_opened()))).outcome is Outcome.FENCED
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.FENCED]
    assert await log.release(writer.generation_id, writer.epoch, "another job") is Outcome.FENCED
    assert await log.requeue_expired(writer.generation_id, writer.epoch, "another job") is Outcome.FENCED
    assert (await stored_entries(redis, writer.generation_id), await log.state(writer.generation_id)) == before


async def test_exactly_once_every_call_may_be_sent_twice(log: Log) -> None:
    """Every call of a generation's life, sent once or three times each, leads to the same log."""

    async def run(times: int) -> list[tuple[int, str, str]]:
        record = record_of(id=new_generation_id())
        for _ in range(times):
            await log.create(record, REQUEST, "first job")
        for _ in range(times):
            writer = await LogWriter.acquire(log, record.id, "one", worker="first")
        batch = writer.batch(*ANSWER)
        for _ in range(times):
            assert await writer.send(batch) == AppendResult(Outcome.OK, writer.last_seq)
        for _ in range(times):
            assert await log.release(record.id, writer.epoch, "another job") is Outcome.OK
        for _ in range(times):
            later = await LogWriter.acquire(log, record.id, "two", worker="second")
        batch = later.batch(later.restarted(2))
        for _ in range(times):
            await later.send(batch)
        for _ in range(times):
            await later.finish()
        state = await log.state(record.id)
        assert (state.attempt, state.handovers) == (2, 1)
        return [
            (entry.id.seq, to_row(entry).field, type(entry.event).__name__) for entry in await read_all(log, record.id)
        ]

    assert await run(3) == await run(1)


async def test_exactly_once_append_adds_only_the_unknown_rest_of_its_rows(log: Log, writer: LogWriter) -> None:
    await writer.write(STARTED, text_opened())
    writer.batch(*texts("Once| upon"))
    assert await writer.send(writer.batch_after(0)) == AppendResult(Outcome.OK, writer.last_seq)
    assert await read_all(log, writer.generation_id) == writer.entries


async def test_exactly_once_concurrent_copies_of_an_append_add_it_once(log: Log, writer: LogWriter) -> None:
    batch = writer.batch(*ANSWER)
    results = await asyncio.gather(*(writer.send(batch) for _ in range(10)))
    assert results == [AppendResult(Outcome.OK, writer.last_seq)] * 10
    assert await read_all(log, writer.generation_id) == writer.entries


async def test_resumable_read_after_any_cursor_returns_the_rest(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    await expire_lease(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="second")
    await later.write(later.restarted(2), text_opened(1))
    await later.finish()
    entries = await read_all(log, writer.generation_id)
    epochs = sorted({entry.id.epoch for entry in entries})
    assert len(epochs) == 3
    cursors = [EntryId(epoch, seq) for epoch in [1, *epochs, epochs[-1] + 1] for seq in range(entries[-1].id.seq + 2)]
    for cursor in [START, *cursors]:
        rest = [entry for entry in entries if entry.id > cursor]
        assert await entries_of(log, writer.generation_id, cursor) == rest
        assert await read_all(log, writer.generation_id, cursor) == rest
        assert [entry async for entry in log.tail(writer.generation_id, cursor)] == rest


async def test_resumable_long_log_is_read_in_pages(log: Log, writer: LogWriter) -> None:
    await writer.write(STARTED, text_opened(), *(Text(0, f" {seq}") for seq in range(3000)), Text(0, "x" * 200_000))
    await writer.write(*(Text(0, "y" * 30_000) for _ in range(40)))
    assert await read_all(log, writer.generation_id) == writer.entries
    assert await entries_of(log, writer.generation_id, writer.entries[9].id, 5) == writer.entries[10:15]


async def test_resumable_tail_continues_until_the_end(log: Log, writer: LogWriter) -> None:
    entries: asyncio.Queue[Entry] = asyncio.Queue()

    async def follow() -> None:
        async for entry in log.tail(writer.generation_id):
            entries.put_nowait(entry)

    async with asyncio.timeout(10), asyncio.TaskGroup() as readers:
        readers.create_task(follow())
        assert isinstance((await entries.get()).event, Created)
        for event in ANSWER:
            await writer.write(event)
            assert (await entries.get()).event == event
        await writer.finish()
        assert (await entries.get()).event == writer.done()
    assert entries.empty()


async def test_resumable_tail_that_starts_at_the_end_ends_at_once(log: Log, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    await writer.finish()
    position = (await log.state(writer.generation_id)).position
    async with asyncio.timeout(reading_module.BLOCK_MS / 1000 / 2):
        assert [entry async for entry in log.tail(writer.generation_id, position)] == []
        assert (
            len([entry async for entry in log.tail(writer.generation_id, EntryId(position.epoch, position.seq - 1))])
            == 1
        )


async def test_resumable_tail_does_not_miss_a_done_written_between_read_and_state(
    log: Log, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `done` is written after a read has found nothing and before the state is read."""
    await writer.write(*ANSWER)
    read_state = log.state

    async def finish_and_read_state(generation_id: str, owner: str | None = None) -> GenerationState:
        await writer.finish()
        return await read_state(generation_id, owner)

    monkeypatch.setattr(log, "state", finish_and_read_state)
    monkeypatch.setattr(reading_module, "BLOCK_MS", 10)
    events = [entry.event async for entry in log.tail(writer.generation_id)]
    assert events[1:] == [*ANSWER, writer.done()]


async def test_resumable_tail_of_a_log_that_is_deleted_raises_gone(
    log: Log, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "BLOCK_MS", 10)
    entries = log.tail(writer.generation_id)
    assert isinstance((await anext(entries)).event, Created)
    await log.delete(writer.generation_id)
    with pytest.raises(Gone) as gone:
        await anext(entries)
    assert gone.value.code == "deleted"


async def test_honest_unknown_generation_is_not_found(log: Log) -> None:
    with pytest.raises(NotFound):
        await log.state(new_generation_id(), "anna")
    with pytest.raises(NotFound):
        await anext(log.tail(new_generation_id()))
    assert await entries_of(log, new_generation_id()) == []
    assert await done_of_log(log, new_generation_id()) is None


@pytest.mark.parametrize("fate", ["kept", "deleted", "expired"])
async def test_honest_generation_of_another_owner_is_not_found_in_every_state(
    log: Log, redis: Redis, generation_id: str, fate: str
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    elif fate == "expired":
        await expire(redis, generation_id)
    with pytest.raises(NotFound):
        await log.state(generation_id, "bob")


@pytest.mark.parametrize("owner", ["anna", None])
@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_honest_deleted_or_expired_generation_is_gone_with_the_reason(
    log: Log, redis: Redis, generation_id: str, fate: str, owner: str | None
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await expire(redis, generation_id)
    with pytest.raises(Gone) as gone:
        await log.state(generation_id, owner)
    assert gone.value.code == fate
