"""The appender: one round trip for everybody, nobody waits for another's failure, a lost log comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from support.logs import REQUEST
from tailrace import keys
from tailrace.events import Event, GenerationRecord, ItemOpened, Options, Started, Text
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, Log, Outcome
from tailrace.log.codec import from_row
from tailrace.process.tasks import cancel_and_wait
from tailrace_worker.appender import Appender
from tailrace_worker.writer import Writer

Open = Callable[[], "asyncio.Future[Writer]"]


class Bench:
    """An appender on the real server, and writers on new generations."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.restored: list[str] = []
        self.appender = Appender(log, self._restored)

    async def _restored(self, record: GenerationRecord) -> None:
        self.restored.append(record.id)

    async def writer(self) -> Writer:
        record = GenerationRecord(new_generation_id(), "me", "m", Options(60, 60))
        await self.log.create(record, REQUEST, "dispatch")
        taken = await self.log.acquire(record.id, "token", worker="w")
        return Writer(taken, self.appender.wake)

    async def events(self, writer: Writer) -> list[Event]:
        return [entry.event async for entry in self.log.read_all(writer.generation_id)]


@pytest.fixture
async def bench(log: Log) -> AsyncIterator[Bench]:
    bench = Bench(log)
    running = asyncio.create_task(bench.appender.run())
    yield bench
    await cancel_and_wait(running)


async def test_what_arrives_together_rides_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[int] = []
    append = bench.log.append

    async def counted(calls: list[AppendBatch]) -> object:
        trips.append(len(calls))
        return await append(calls)

    monkeypatch.setattr(bench.log, "append", counted)
    writers = [await bench.writer() for _ in range(5)]
    for writer in writers:
        writer.add(Started(1, 1.0))
    await asyncio.gather(*(writer.flush() for writer in writers))
    assert trips == [5]


async def test_one_that_was_fenced_does_not_keep_the_others(bench: Bench) -> None:
    fenced, fine = await bench.writer(), await bench.writer()
    await bench.log.acquire(fenced.generation_id, "canceller", terminating="cancelled")
    fenced.add(Started(1, 1.0))
    fine.add(Started(1, 1.0))
    await fine.flush()
    assert (await fenced.stopped).outcome is Outcome.FENCED


async def test_one_that_cannot_be_told_does_not_keep_the_others(bench: Bench) -> None:
    broken, fine = await bench.writer(), await bench.writer()
    broken.add(Text(7, "of an item that was never opened"))
    fine.add(Started(1, 1.0))
    await fine.flush()
    assert (await broken.stopped).outcome == "internal_error"


async def test_a_log_that_its_server_lost_comes_back_with_every_row(bench: Bench, redis: Redis) -> None:
    writer = await bench.writer()
    for event in (Started(1, 1.0), ItemOpened(0, "text", choices=[0]), Text(0, "before")):
        writer.add(event)
    await writer.flush()
    before = await bench.events(writer)
    await redis.flushall()
    writer.add(Text(0, " after"))
    await writer.flush()
    assert await bench.events(writer) == [*before, Text(0, " after")]
    assert [from_row(row).event for row in writer.rows] == await bench.events(writer)
    assert bench.restored == [writer.generation_id]
    state = await bench.log.state(writer.generation_id, "me")
    assert (state.status, state.epoch) == ("running", writer.epoch)


async def rolled_back(bench: Bench, redis: Redis) -> tuple[Writer, Writer]:
    """Two attempts of one generation, on a server that came back without the later one's take-over."""
    fenced = await bench.writer()
    names = keys.of_generation(fenced.generation_id)[:3]
    fenced.add(Started(1, 1.0))
    await fenced.flush()
    dumps = [(name, await redis.dump(name)) for name in names]
    await redis.execute_command("HSET", keys.state(fenced.generation_id), "lease", 1)
    later = Writer(await bench.log.acquire(fenced.generation_id, "later", worker="v"), bench.appender.wake)
    later.add(later.output.restarted(2, "worker_lost", 2.0))
    await later.flush()
    for name, dump in dumps:
        await redis.restore(name, 60_000, dump, replace=True)
    return fenced, later


async def test_a_acquire_that_its_server_lost_comes_back_with_its_rows(bench: Bench, redis: Redis) -> None:
    fenced, later = await rolled_back(bench, redis)
    later.resend(later.output.last_seq)  # what a refused renewal does
    await later.flush()
    assert await bench.events(later) == [from_row(row).event for row in later.rows]
    fenced.add(ItemOpened(0, "text", choices=[0]))
    assert (await fenced.stopped).outcome is Outcome.FENCED


async def test_a_acquire_that_its_server_lost_does_not_come_back_onto_others_rows(bench: Bench, redis: Redis) -> None:
    fenced, later = await rolled_back(bench, redis)
    fenced.add(ItemOpened(0, "text", choices=[0]))  # awake again
    await fenced.flush()
    later.add(ItemOpened(0, "text", choices=[0]))
    assert (await later.stopped).outcome is Outcome.FENCED
    assert await bench.events(fenced) == [from_row(row).event for row in fenced.rows]


async def test_a_deleted_log_does_not_come_back(bench: Bench) -> None:
    writer = await bench.writer()
    await bench.log.delete(writer.generation_id)
    writer.add(Started(1, 1.0))
    assert (await writer.stopped).outcome is Outcome.GONE
    assert not bench.restored
