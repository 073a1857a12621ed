"""The appender: one round trip for all writers, failures that stay with one writer, logs that are restored."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from support.logs import REQUEST
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable, TailraceError
from tailrace.events import Created, Event, GenerationRecord, ItemOpened, Options, Started, Text
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, AppendResult, Log, Outcome
from tailrace.log.codec import from_row
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.redirects import SlotUnavailable
from tailrace_worker.appender import Appender
from tailrace_worker.writer import Writer


class Harness:
    """An appender on the real server, and writers on new generations."""

    running: asyncio.Task[None]

    def __init__(self, log: Log) -> None:
        self.log = log
        self.restored: list[str] = []
        self.appender = Appender(log, self._restored)

    async def _restored(self, record: GenerationRecord) -> None:
        self.restored.append(record.id)

    async def writer(self) -> Writer:
        record = GenerationRecord(new_generation_id(), "me", "m", Options(60, 60))
        await self.log.create(record, REQUEST, "job")
        grant = await self.log.acquire(record.id, "token", worker="w")
        return Writer(grant, self.appender.wake)

    async def events(self, writer: Writer) -> list[Event]:
        return [entry.event async for entry in self.log.read_all(writer.generation_id)]


@pytest.fixture
async def harness(log: Log) -> AsyncIterator[Harness]:
    harness = Harness(log)
    harness.running = asyncio.create_task(harness.appender.run())
    yield harness
    await cancel_and_wait(harness.running)


async def test_batches_of_several_writers_share_one_append(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = harness.log.append

    async def counted(batches: list[AppendBatch]) -> object:
        sizes.append(len(batches))
        return await append(batches)

    monkeypatch.setattr(harness.log, "append", counted)
    writers = [await harness.writer() for _ in range(5)]
    for writer in writers:
        writer.add(Started(1, 1.0))
    await asyncio.gather(*(writer.flush() for writer in writers))
    assert sizes == [5]


async def test_fenced_writer_does_not_delay_the_others(harness: Harness) -> None:
    fenced, fine = await harness.writer(), await harness.writer()
    await harness.log.acquire(fenced.generation_id, "canceller", terminating="cancelled")
    fenced.add(Started(1, 1.0))
    fine.add(Started(1, 1.0))
    await fine.flush()
    assert (await fenced.stopped).outcome is Outcome.FENCED


@pytest.mark.parametrize("others", [1, 0], ids=["beside another", "alone"])
async def test_slot_that_moves_delays_only_its_own_logs(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    """Its batches go with the next pipeline. Pipelines pause only where no log takes anything."""
    moving, rest = await harness.writer(), [await harness.writer() for _ in range(others)]
    append, refused = harness.log.append, 0

    async def append_or_refuse(batches: Sequence[AppendBatch]) -> list[AppendResult | TailraceError]:
        nonlocal refused
        results = await append(batches)
        for index, batch in enumerate(batches):
            if batch.generation_id == moving.generation_id and refused < 3:
                refused += 1
                results[index] = SlotUnavailable()
        for writer in rest:
            writer.add(Text(0, "x"))
        return results

    monkeypatch.setattr(harness.log, "append", append_or_refuse)
    for writer in (*rest, moving):
        writer.add(Started(1, 1.0))
        writer.add(ItemOpened(0, "text", choices=[0]))
    await moving.flush()
    assert refused == 3
    assert [event for event in await harness.events(moving) if isinstance(event, Started)] == [Started(1, 1.0)]
    assert sum("transient error" in message for message in caplog.messages) == (0 if others else 1)


async def test_writer_whose_event_cannot_be_encoded_does_not_delay_the_others(harness: Harness) -> None:
    broken, fine = await harness.writer(), await harness.writer()
    broken.add(Text(7, "of an item that was never opened"))
    fine.add(Started(1, 1.0))
    await fine.flush()
    assert (await broken.stopped).outcome == "internal_error"


async def test_lost_log_is_restored_with_every_row(harness: Harness, redis: Redis) -> None:
    writer = await harness.writer()
    for event in (Started(1, 1.0), ItemOpened(0, "text", choices=[0]), Text(0, "before")):
        writer.add(event)
    await writer.flush()
    before = await harness.events(writer)
    await redis.flushall()
    writer.add(Text(0, " after"))
    await writer.flush()
    assert await harness.events(writer) == [*before, Text(0, " after")]
    assert [from_row(row).event for row in writer.rows] == await harness.events(writer)
    assert harness.restored == [writer.generation_id]
    state = await harness.log.state(writer.generation_id, "me")
    assert (state.status, state.epoch) == ("running", writer.epoch)


async def rolled_back(harness: Harness, redis: Redis) -> tuple[Writer, Writer]:
    """Two attempts of one generation, on a server that came back without the later one's lease."""
    fenced = await harness.writer()
    names = keys.of_generation(fenced.generation_id)[:3]
    fenced.add(Started(1, 1.0))
    await fenced.flush()
    dumps = [(name, await redis.dump(name)) for name in names]
    await redis.execute_command("HSET", keys.state(fenced.generation_id), "lease", 1)
    later = Writer(await harness.log.acquire(fenced.generation_id, "later", worker="v"), harness.appender.wake)
    later.add(later.output.restarted(2, "worker_lost", 2.0))
    await later.flush()
    for name, dump in dumps:
        await redis.restore(name, 60_000, dump, replace=True)
    return fenced, later


async def test_lost_lease_is_restored_with_its_rows(harness: Harness, redis: Redis) -> None:
    fenced, later = await rolled_back(harness, redis)
    later.resend(later.output.last_id.seq)  # as after a refused renewal
    await later.flush()
    assert await harness.events(later) == [from_row(row).event for row in later.rows]
    fenced.add(ItemOpened(0, "text", choices=[0]))
    assert (await fenced.stopped).outcome is Outcome.FENCED


async def test_lease_that_redis_lost_is_not_restored_over_another_epochs_rows(harness: Harness, redis: Redis) -> None:
    fenced, later = await rolled_back(harness, redis)
    fenced.add(ItemOpened(0, "text", choices=[0]))  # its process was suspended meanwhile
    await fenced.flush()
    later.add(ItemOpened(0, "text", choices=[0]))
    assert (await later.stopped).outcome is Outcome.FENCED
    assert await harness.events(fenced) == [from_row(row).event for row in fenced.rows]


async def test_deleted_log_is_not_restored(harness: Harness) -> None:
    writer = await harness.writer()
    await harness.log.delete(writer.generation_id)
    writer.add(Started(1, 1.0))
    assert (await writer.stopped).outcome is Outcome.GONE
    assert not harness.restored


def failing_first(harness: Harness, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> list[int]:
    """Let the first two calls of `Log.<name>` raise. Returns a list with the number of each call."""
    calls: list[int] = []
    call = getattr(harness.log, name)

    async def fail_first(*args: Any) -> Any:
        calls.append(len(calls) + 1)
        if len(calls) <= 2:
            raise error
        return await call(*args)

    monkeypatch.setattr(harness.log, name, fail_first)
    return calls


async def test_batches_are_sent_again_until_redis_answers(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing_first(harness, monkeypatch, "append", RedisUnavailable("away"))
    writers = [await harness.writer() for _ in range(3)]
    for writer in writers:
        writer.add(Started(1, 1.0))
    async with asyncio.timeout(10):
        await asyncio.gather(*(writer.flush() for writer in writers))
    assert len(calls) == 3
    assert [message for message in caplog.messages if "transient" in message] == [
        "append: transient error, will retry: RedisUnavailable: away"
    ]
    for writer in writers:
        assert await harness.events(writer) == [Created(writer.state.record.created / 1000), Started(1, 1.0)]


async def test_restore_that_redis_did_not_answer_is_tried_again(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing_first(harness, monkeypatch, "restore", RedisUnavailable("away"))
    writer = await harness.writer()
    writer.add(Started(1, 1.0))
    await writer.flush()
    await redis.delete(*keys.of_generation(writer.generation_id))
    writer.add(Started(2, 2.0))
    async with asyncio.timeout(10):
        await writer.flush()
    assert len(calls) == 3
    assert [event for event in await harness.events(writer) if isinstance(event, Started)] == [
        Started(1, 1.0),
        Started(2, 2.0),
    ]
    assert harness.restored == [writer.generation_id]


async def test_appender_sends_nothing_for_writers_without_a_batch(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that was stopped after it had woken the appender has dropped its batch."""
    sizes: list[int] = []
    append = harness.log.append

    async def counted(batches: list[AppendBatch]) -> object:
        sizes.append(len(batches))
        return await append(batches)

    monkeypatch.setattr(harness.log, "append", counted)
    stopped, fine = await harness.writer(), await harness.writer()
    stopped.add(Started(1, 1.0))
    stopped.stop(Outcome.FENCED)
    await asyncio.sleep(0.01)
    fine.add(Started(1, 1.0))
    await fine.flush()
    assert sizes == [1]


async def lost(harness: Harness, redis: Redis) -> Writer:
    """A writer whose log Redis has lost."""
    writer = await harness.writer()
    writer.add(Started(1, 1.0))
    await writer.flush()
    await redis.delete(*keys.of_generation(writer.generation_id))
    return writer


async def test_restore_delays_no_other_writer_and_is_not_begun_twice(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on, restore = asyncio.Event(), asyncio.Event(), harness.log.restore

    async def slow(*args: Any) -> Outcome:
        assert not begun.is_set()
        begun.set()
        await may_go_on.wait()
        return await restore(*args)

    monkeypatch.setattr(harness.log, "restore", slow)
    writer, other = await lost(harness, redis), await harness.writer()
    writer.add(Started(2, 2.0))
    await begun.wait()
    writer.add(Started(3, 3.0))
    other.add(Started(1, 1.0))
    async with asyncio.timeout(5):
        await other.flush()
    may_go_on.set()
    async with asyncio.timeout(5):
        await writer.flush()
    assert [event.attempt for event in await harness.events(writer) if isinstance(event, Started)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("error", "outcome", "is_logged"),
    [
        (RedisFull(), "out_of_memory", False),
        (RedisRefused(detail="no permission"), "append_refused", False),
        (ZeroDivisionError("a defect"), "internal_error", True),
    ],
)
async def test_restore_that_fails_stops_its_writer_alone(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    error: Exception, outcome: str, is_logged: bool,
) -> None:  # fmt: skip
    failing_first(harness, monkeypatch, "restore", error)
    writer, other = await lost(harness, redis), await harness.writer()
    writer.add(Started(2, 2.0))
    assert (await writer.stopped).outcome == outcome
    other.add(Started(1, 1.0))
    await other.flush()
    assert any(record.exc_info for record in caplog.records) is is_logged


async def test_appender_without_writers_ends_once_nothing_is_left(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that the server has lost is restored also where its writer, the last one, has ended."""
    begun, may_go_on, restore = asyncio.Event(), asyncio.Event(), harness.log.restore

    async def slow(*args: Any) -> Outcome:
        begun.set()
        await may_go_on.wait()
        return await restore(*args)

    monkeypatch.setattr(harness.log, "restore", slow)
    writer = await lost(harness, redis)
    before = len(writer.rows)
    writer.add(Started(2, 2.0))
    await begun.wait()
    harness.appender.stop()
    await asyncio.sleep(0.01)
    assert not harness.running.done()
    may_go_on.set()
    await harness.running
    assert harness.restored == [writer.generation_id]
    assert len(await harness.events(writer)) == before + 1
