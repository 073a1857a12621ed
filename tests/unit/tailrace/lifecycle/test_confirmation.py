"""Ends and deletions on a real server that loses them: they are written again, and what is kept is bounded."""

import asyncio
import gc
import math
import time
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs
from redis.asyncio import Redis

from support.ends import confirmations_on, terminate
from support.log_writer import LogWriter
from support.logs import REQUEST, texts
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import Snapshot, done_of_log, lose, stored_entries, ttls_ms
from tailrace import keys
from tailrace.errors import Gone, NotFound, RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import NO_EXTRA, Failure, Finish, GenerationRecord, Options, seq_span
from tailrace.ids import new_generation_id
from tailrace.lifecycle import confirmation as module
from tailrace.lifecycle import queue_updates, termination
from tailrace.lifecycle.written_end import RECORD_BYTES, WrittenEnd
from tailrace.log import AppendResult, Log, Outcome
from tailrace.process.tasks import cancel_and_wait

CONFIRM_S = 0.15
TIMEOUT_S = 10.0
LATE = Failure("The deadline has passed.", "deadline_exceeded")


class Harness:
    """A process that ends generations. `reconnect`: its connection to Redis was lost and is back."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.redis = redis
        self.log = log
        self.queue = queue_on(redis)
        self.connected_at = -math.inf
        self.confirmations = self.make()

    def make(self, **options: Any) -> module.Confirmations:
        return confirmations_on(self.log, self.queue, connected_at=lambda: self.connected_at, **options)

    def reconnect(self) -> None:
        self.connected_at = time.monotonic()

    async def created(self, **changes: Any) -> GenerationRecord:
        record = record_of(id=new_generation_id(), **changes)
        await submit(self.log, self.queue, record)
        return record

    async def running(self, *some: str, **changes: Any) -> LogWriter:
        """A generation whose worker has written these texts."""
        record = await self.created(**changes)
        await self.queue.jobs.mark_started((await self.log.state(record.id)).job_id)
        writer = await LogWriter.start(self.log, record.id)
        await writer.write_text(*some)
        return writer

    async def confirmed(self) -> None:
        await self.confirmations.drain(TIMEOUT_S)
        assert len(self.confirmations) == 0

    async def unfinished(self) -> list[str]:
        return [each for shard in await self.log.unfinished.shards() for each in await shard.list()]


async def fail_as_away(*_: object) -> None:
    raise RedisUnavailable


@pytest.fixture
async def harness(redis: Redis, log: Log, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    monkeypatch.setattr(module, "CONFIRM_S", CONFIRM_S)
    monkeypatch.setattr(module, "TICK_S", 0.01)
    harness = Harness(redis, log)
    running = asyncio.create_task(harness.confirmations.run())
    yield harness
    await cancel_and_wait(running)


# ends


@pytest.mark.parametrize("lag", ["before the last text", "before the end", "everything"])
async def test_cancel_that_was_rolled_back_is_written_again_byte_for_byte(harness: Harness, lag: str) -> None:
    writer = await harness.running("Once", " upon")
    generation_id = writer.generation_id
    older = await Snapshot.take(harness.redis, generation_id)
    if lag == "before the last text":
        await writer.write_text(" a time")
    await harness.confirmations.terminate(generation_id, "cancelled")
    entries = await stored_entries(harness.redis, generation_id)
    await lose(harness.redis, generation_id) if lag == "everything" else await older.bring_back()
    harness.reconnect()
    await harness.confirmed()
    assert await stored_entries(harness.redis, generation_id) == entries
    assert (await harness.log.state(generation_id)).status == "cancelled"
    assert await harness.unfinished() == []
    assert (await writer.send(writer.batch(*texts("more")))).outcome is Outcome.FENCED
    assert -1 not in await ttls_ms(harness.redis, generation_id)


async def test_cancel_whose_done_alone_was_lost_is_written_again(harness: Harness) -> None:
    writer = await harness.running("Once")
    acquire, snapshots = harness.log.acquire, list[Snapshot]()

    async def acquire_and_copy(*arguments: Any, **options: Any) -> Any:
        grant = await acquire(*arguments, **options)
        snapshots.append(await Snapshot.take(harness.redis, writer.generation_id))
        return grant

    harness.log.acquire = acquire_and_copy  # type: ignore[method-assign]
    await harness.confirmations.terminate(writer.generation_id, "failed", LATE)
    entries = await stored_entries(harness.redis, writer.generation_id)
    await snapshots[0].bring_back()
    harness.reconnect()
    await harness.confirmed()
    assert await stored_entries(harness.redis, writer.generation_id) == entries


async def test_cancel_of_a_waiting_generation_that_was_rolled_back_removes_its_job_again(harness: Harness) -> None:
    record = await harness.created()
    state = await harness.log.state(record.id)
    older = await Snapshot.take(harness.redis, record.id)
    await harness.confirmations.terminate(record.id, "cancelled")
    await older.bring_back()
    await harness.queue.submit(record, record.created, state.job_id)
    assert await harness.queue.jobs.depth() == 1
    harness.reconnect()
    await harness.confirmed()
    assert await harness.queue.jobs.depth() == 0
    assert (await harness.log.acquire(record.id, "token", worker="w")).outcome is Outcome.DONE


@pytest.mark.parametrize(("status", "error"), [("cancelled", None), ("failed", LATE)])
async def test_generation_that_another_worker_runs_after_a_rollback_is_ended_again_with_the_same_status(
    harness: Harness, status: Any, error: Failure | None
) -> None:
    writer = await harness.running("Once")
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await harness.confirmations.terminate(writer.generation_id, status, error)
    await older.bring_back()
    another = await LogWriter.acquire(harness.log, writer.generation_id, "another", worker="log-writer")
    await another.write(another.restarted(2))
    harness.reconnect()
    await harness.confirmed()
    done = await done_of_log(harness.log, writer.generation_id)
    assert done is not None
    assert (done.status, done.error, done.output) == (status, error, [])
    assert (await another.send(another.batch(another.restarted(3)))).outcome is Outcome.FENCED


async def test_end_that_another_process_wrote_after_a_rollback_stays(harness: Harness) -> None:
    writer = await harness.running("Once")
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await older.bring_back()
    await writer.end()
    entries = await stored_entries(harness.redis, writer.generation_id)
    harness.reconnect()
    await harness.confirmed()
    assert await stored_entries(harness.redis, writer.generation_id) == entries


@pytest.mark.parametrize("own", [True, False])
async def test_end_whose_reply_was_lost_is_kept_and_that_of_another_process_is_not(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """Both are answered DONE."""
    writer = await harness.running("Once")
    finish = harness.log.finish

    async def finish_late(generation_id: str, *arguments: Any) -> AppendResult:
        monkeypatch.setattr(harness.log, "finish", finish)
        if own:
            await finish(generation_id, *arguments)
        else:
            await terminate(harness.log, harness.queue, generation_id, "failed", LATE)
        answer = await finish(generation_id, *arguments)
        assert answer.outcome is Outcome.DONE
        return answer

    monkeypatch.setattr(harness.log, "finish", finish_late)
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    assert len(harness.confirmations) == own
    done = await done_of_log(harness.log, writer.generation_id)
    assert (done and done.status) == ("cancelled" if own else "failed")


async def test_rows_that_only_a_later_rollback_lost_are_appended_again(harness: Harness) -> None:
    """The end's own epoch is there, and rows under it are missing: as for an end that a worker wrote."""
    writer = await harness.running("Once")
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await writer.write_text(" upon", " a time")
    await writer.end()
    entries = await stored_entries(harness.redis, writer.generation_id)
    harness.confirmations.keep(_end_of(writer))
    await older.bring_back()
    harness.reconnect()
    await harness.confirmed()
    assert await stored_entries(harness.redis, writer.generation_id) == entries


def _end_of(writer: LogWriter) -> WrittenEnd:
    """What a worker keeps of the end that `LogWriter.end` has written."""
    done = writer.done("completed", finish=[Finish(0, "stop")])
    last = writer.last_seq
    end_id = structs.replace(writer.entries[-1].id, seq=last + seq_span(done))
    return WrittenEnd(
        end_id, last, writer.state, REQUEST, writer.rows, done, NO_EXTRA, time.monotonic(), may_fence=False
    )


async def test_end_that_is_intact_is_checked_once_and_forgotten(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await harness.running("Once")
    checks = 0
    positions = harness.log.positions

    async def counted(generation_ids: Any) -> Any:
        nonlocal checks
        checks += len(generation_ids)
        return await positions(generation_ids)

    monkeypatch.setattr(harness.log, "positions", counted)
    began = time.monotonic()
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await harness.confirmed()
    assert checks == 1
    assert time.monotonic() - began >= CONFIRM_S


async def test_end_is_checked_once_more_confirm_s_after_a_reconnection(harness: Harness) -> None:
    """A worker may restore the log, or a replica lose the end, after the first check."""
    writer = await harness.running("Once")
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    harness.reconnect()
    await asyncio.sleep(CONFIRM_S / 2)
    await older.bring_back()
    await harness.confirmed()
    assert (await harness.log.state(writer.generation_id)).status == "cancelled"


# deletions


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("lost", ["everything", "the deletion"])
async def test_deletion_that_was_rolled_back_is_repeated(harness: Harness, has_ended: bool, lost: str) -> None:
    writer = await harness.running("Once")
    generation_id = writer.generation_id
    older = await Snapshot.take(harness.redis, generation_id)
    if has_ended:
        await writer.end()
        older = await Snapshot.take(harness.redis, generation_id)
    state = await harness.log.state(generation_id)
    await harness.confirmations.delete(state)
    await lose(harness.redis, generation_id) if lost == "everything" else await older.bring_back()
    await harness.queue.index.register(state.record)
    harness.reconnect()
    await harness.confirmed()
    with pytest.raises(Gone, match="deleted"):
        await harness.log.state(generation_id, state.record.owner)
    with pytest.raises(NotFound):
        await harness.log.state(generation_id, "a stranger")
    assert not await harness.redis.exists(keys.state(generation_id), keys.log(generation_id))
    assert (await ttls_ms(harness.redis, generation_id))[2] > 24 * 3_600_000
    assert await harness.unfinished() == []
    assert await harness.log.restore(writer.state, REQUEST, writer.rows) is Outcome.GONE
    assert [page async for page in harness.queue.index.list_owned(state.record.owner, None)] == []


async def test_deletion_replaces_the_end_that_was_kept(harness: Harness) -> None:
    writer = await harness.running("Once")
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await harness.confirmations.delete(await harness.log.state(writer.generation_id))
    assert len(harness.confirmations) == 1
    await harness.confirmed()
    with pytest.raises(Gone):
        await harness.log.state(writer.generation_id)


# errors


@pytest.mark.parametrize("error", [RedisUnavailable(), RedisFull(), RedisRefused(detail="no permission")])
@pytest.mark.parametrize("call", ["positions", "finish"])
async def test_end_is_written_again_once_redis_takes_it_and_a_refusal_is_logged_once(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    call: str,
) -> None:
    writer = await harness.running("Once")
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await older.bring_back()
    original, failures = getattr(harness.log, call), 3

    async def failing(*arguments: Any) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise error
        return await original(*arguments)

    monkeypatch.setattr(harness.log, call, failing)
    harness.reconnect()
    await harness.confirmed()
    assert failures < 0
    assert (await harness.log.state(writer.generation_id)).status == "cancelled"
    logged = [message for message in caplog.messages if type(error).__name__ in message]
    assert len(logged) == (not isinstance(error, RedisUnavailable))


async def test_defect_at_one_end_gives_up_that_end_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writers = [await harness.running("Once") for _ in range(2)]
    older = [await Snapshot.take(harness.redis, writer.generation_id) for writer in writers]
    for writer in writers:
        await harness.confirmations.terminate(writer.generation_id, "cancelled")
    for snapshot in older:
        await snapshot.bring_back()
    finish = harness.log.finish

    async def fail_first(generation_id: str, *arguments: Any) -> AppendResult:
        if generation_id == writers[0].generation_id:
            raise ValueError("a defect")
        return await finish(generation_id, *arguments)

    monkeypatch.setattr(harness.log, "finish", fail_first)
    harness.reconnect()
    await harness.confirmed()
    assert (await harness.log.state(writers[1].generation_id)).status == "cancelled"
    assert any(writers[0].generation_id in message for message in caplog.messages)


async def test_loop_goes_on_after_an_error_that_is_not_expected(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = await harness.running("Once")
    with monkeypatch.context() as patched:
        patched.setattr(harness.log, "positions", lambda _: 1 / 0)
        await harness.confirmations.terminate(writer.generation_id, "cancelled")
        while not caplog.records:  # noqa: ASYNC110 - the loop signals nothing
            await asyncio.sleep(0.01)
    await harness.confirmed()


# the queue's server


async def test_job_is_removed_again_once_the_queue_replies_and_no_end_waits_for_that(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await harness.created()
    state = await harness.log.state(record.id)
    await harness.confirmations.terminate(record.id, "cancelled")
    await harness.queue.submit(record, record.created, state.job_id)  # a replica that lagged took over
    remove, is_away = harness.queue.remove, True

    async def remove_once_back(*arguments: Any) -> None:
        if is_away:
            raise RedisUnavailable
        await remove(*arguments)

    monkeypatch.setattr(queue_updates, "RETRY_S", 0.01)
    monkeypatch.setattr(harness.queue, "remove", remove_once_back)
    async with asyncio.timeout(TIMEOUT_S):
        while len(harness.confirmations):  # noqa: ASYNC110 - the loop signals nothing
            await asyncio.sleep(0.01)
    assert await harness.queue.jobs.depth() == 1
    is_away = False
    await harness.confirmed()
    assert await harness.queue.jobs.depth() == 0
    assert (await harness.queue.load(record.owner))[:2] == (0, 0)


async def test_end_is_restored_while_the_queue_is_away(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = await harness.running("Once")
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await lose(harness.redis, writer.generation_id)
    owner, register, is_away = writer.state.record.owner, harness.queue.index.register, True
    await harness.queue.index.forget(owner, [writer.generation_id])

    async def register_once_back(record: GenerationRecord) -> None:
        if is_away:
            raise RedisUnavailable
        await register(record)

    monkeypatch.setattr(queue_updates, "RETRY_S", 0.01)
    monkeypatch.setattr(harness.queue.index, "register", register_once_back)
    harness.reconnect()
    async with asyncio.timeout(TIMEOUT_S):
        while len(harness.confirmations):  # noqa: ASYNC110 - the loop signals nothing
            await asyncio.sleep(0.01)
    assert (await harness.log.state(writer.generation_id)).status == "cancelled"
    assert await harness.log.is_restoring("gen")
    is_away = False
    await harness.confirmed()
    assert [page async for page in harness.queue.index.list_owned(owner, None)] == [[writer.generation_id]]
    assert await harness.unfinished() == []


async def test_deletion_while_the_queue_is_away_leaves_its_owners_list_and_bytes_afterwards(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await harness.created()
    await terminate(harness.log, harness.queue, record.id, "cancelled")
    state = await harness.log.state(record.id)
    with monkeypatch.context() as patched:
        patched.setattr(harness.queue.index, "forget", fail_as_away)
        with pytest.raises(RedisUnavailable):
            await harness.confirmations.delete(state)
    await harness.confirmed()
    assert (await harness.queue.load(record.owner)).usage.stored_bytes == 0
    assert [page async for page in harness.queue.index.list_owned(record.owner, None)] == []


async def test_output_of_a_cancel_while_the_queue_is_away_is_counted_afterwards(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await harness.running("x" * 10_000)
    owner = writer.state.record.owner
    before = (await harness.queue.load(owner)).usage.stored_bytes
    with monkeypatch.context() as patched:
        patched.setattr(harness.queue.index, "record_output", fail_as_away)
        with pytest.raises(RedisUnavailable):
            await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await harness.confirmed()
    assert (await harness.queue.load(owner)).usage.stored_bytes - before > 20_000
    assert (await harness.queue.load(owner))[:2] == (0, 0)


async def test_rows_of_an_end_that_was_written_again_are_released_while_the_queue_is_away(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await harness.running("x" * 10_000)
    older = await Snapshot.take(harness.redis, writer.generation_id)
    end = await termination.write_end(harness.log, writer.generation_id, "cancelled")
    assert end is not None
    rows = weakref.ref(end.rows)
    harness.confirmations.keep(end)
    del end
    await older.bring_back()
    with monkeypatch.context() as patched:
        patched.setattr(harness.queue.index, "register", fail_as_away)
        harness.reconnect()
        async with asyncio.timeout(TIMEOUT_S):
            while len(harness.confirmations):  # noqa: ASYNC110 - the loop signals nothing
                await asyncio.sleep(0.01)
        gc.collect()
        assert rows() is None
    await harness.confirmed()
    assert (await harness.queue.load(writer.state.record.owner)).usage.stored_bytes > 20_000


# limits


async def test_ends_beyond_the_limit_lose_their_rows_and_are_ended_again_with_their_status(
    harness: Harness, redis: Redis, log: Log
) -> None:
    writers = [await harness.running("x" * 10_000) for _ in range(8)]
    older = [await Snapshot.take(redis, writer.generation_id) for writer in writers]
    confirmations = harness.make(max_bytes=100_000)
    for writer in writers:
        await confirmations.terminate(writer.generation_id, "failed", LATE)
        assert confirmations.bytes <= 100_000
    assert len(confirmations) == 8
    entries = await stored_entries(redis, writers[-1].generation_id)
    for snapshot in older:
        await snapshot.bring_back()
    harness.reconnect()
    running = asyncio.create_task(confirmations.run())
    await confirmations.drain(TIMEOUT_S)
    await cancel_and_wait(running)
    assert confirmations.bytes == 0
    assert await stored_entries(redis, writers[-1].generation_id) == entries
    for writer in writers:
        done = await done_of_log(log, writer.generation_id)
        assert done is not None
        assert (done.status, done.error, done.output[0].text) == ("failed", LATE, "x" * 10_000)


@pytest.mark.parametrize("rows", [8, 200])  # one page, and several
async def test_end_of_too_many_rows_keeps_none_and_is_ended_again_with_its_status(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(termination, "MAX_ROWS_BYTES", 1000)
    writer = await harness.running(*("x" * 100 for _ in range(rows)))
    older = await Snapshot.take(harness.redis, writer.generation_id)
    end = await termination.write_end(harness.log, writer.generation_id, "failed", LATE)
    assert end is not None
    assert not end.rows
    harness.confirmations.keep(end)
    await older.bring_back()
    harness.reconnect()
    await harness.confirmed()
    done = await done_of_log(harness.log, writer.generation_id)
    assert done is not None
    assert (done.status, done.error, done.output[0].text) == ("failed", LATE, "x" * 100 * rows)


async def test_oldest_acts_are_forgotten_beyond_the_limit(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    confirmations = harness.make(max_bytes=10 * RECORD_BYTES)
    states = [await harness.log.state((await harness.created()).id) for _ in range(12)]
    for state in states:
        await confirmations.delete(state)
    assert len(confirmations) < 10
    assert confirmations.bytes <= 10 * RECORD_BYTES
    assert any(states[0].record.id in message for message in caplog.messages)


async def test_end_without_rows_of_a_generation_that_is_lost_is_given_up(harness: Harness) -> None:
    writer = await harness.running("x" * 10_000)
    confirmations = harness.make(max_bytes=1000)
    await confirmations.terminate(writer.generation_id, "cancelled")
    await lose(harness.redis, writer.generation_id)
    harness.reconnect()
    running = asyncio.create_task(confirmations.run())
    await confirmations.drain(TIMEOUT_S)
    await cancel_and_wait(running)
    with pytest.raises(NotFound):
        await harness.log.state(writer.generation_id)


async def test_short_retention_makes_the_check_earlier(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 60.0)
    writer = await harness.running("Once", options=Options(60, 1))
    older = await Snapshot.take(harness.redis, writer.generation_id)
    await harness.confirmations.terminate(writer.generation_id, "cancelled")
    await older.bring_back()
    async with asyncio.timeout(5):
        while (await harness.log.state(writer.generation_id)).status != "cancelled":  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_drain_waits_no_longer_than_it_may(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    confirmations = harness.make()
    await confirmations.drain(60)
    await confirmations.delete(await harness.log.state((await harness.created()).id))
    began = time.monotonic()
    for seconds in (-1.0, 0.1):
        await confirmations.drain(seconds)
    assert time.monotonic() - began < 5
    assert caplog.messages == ["1 ends or deletions could not be confirmed before this process stops"] * 2
