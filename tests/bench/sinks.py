"""Where appends go: logs of the product, and what others have for a log."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from redis.asyncio import Redis

from bench.publishing import NchanSink
from tailrace import jsoncodec
from tailrace.errors import TailraceError
from tailrace.events import Done, Entry, Event, GenerationRecord, ItemOpened, Options, Started, Text, seq_span
from tailrace.ids import EntryId, new_generation_id, new_token
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.log.codec import to_row
from tailrace.log.output import Output
from tailrace.redis.server import RedisServer
from tailrace_worker.appender import Appender
from tailrace_worker.writer import Writer

LEASE_MS = 600_000
REQUEST = {"model": "bench", "messages": []}
KEPT = Options(deadline_s=3600, retention_s=3600)
AT_ONCE = 100


class Sink(Protocol):
    """Logs are known by number. `round_trips`: how many there were so far."""

    round_trips: int

    async def create(self, count: int, owner: str) -> Sequence[str]:
        """Begin so many logs; their names."""

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        """Add these texts to these logs."""

    async def end(self) -> None:
        """End them all."""


class LogSink:
    """The product's own log, through its own `Log`; each text an entry, however many are added at once."""

    def __init__(self, url: str) -> None:
        self.round_trips = 0
        self._log = Log(RedisServer.connect(url), LEASE_MS)
        self._logs: list[LeaseGrant] = []
        self._last_seqs: list[int] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:
        await self._take(count, owner)
        names = [taken.state.record.id for taken in self._logs if taken.state]
        self._last_seqs = [taken.state.seq for taken in self._logs if taken.state]
        await self._add({log: [Started(1, time.time()), ItemOpened(0, "text", choices=[0])] for log in range(count)})
        return names

    async def _take(self, count: int, owner: str) -> None:
        for start in range(0, count, AT_ONCE):
            size = min(AT_ONCE, count - start)
            self._logs += await asyncio.gather(*(self._begin(owner) for _ in range(size)))

    async def _begin(self, owner: str) -> LeaseGrant:
        record = GenerationRecord(new_generation_id(), owner, "bench", KEPT)
        await self._log.create(record, REQUEST, new_token())
        return await self._log.acquire(record.id, new_token(), worker="bench")

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        await self._add({log: [Text(0, text) for text in said] for log, said in texts.items()})

    async def _add(self, said: Mapping[int, Sequence[Event]]) -> None:
        """In one round trip, a call a log."""
        self.round_trips += 1
        answers = await self._log.append([self._call(log, events) for log, events in said.items()])
        for answer in answers:
            if isinstance(answer, Exception) or answer.outcome is not Outcome.OK:
                raise AssertionError(f"an append failed: {answer}")

    def _call(self, log: int, events: Sequence[Event]) -> AppendBatch:
        taken, after_seq = self._logs[log], self._last_seqs[log]
        assert taken.state is not None
        seq, rows = after_seq, []
        for event in events:
            seq += seq_span(event)
            rows.append(to_row(Entry(EntryId(taken.epoch, seq), event)))
        self._last_seqs[log] = seq
        return AppendBatch(taken.state.record.id, taken.epoch, after_seq, rows)

    async def end(self) -> None:
        for taken, last_seq in zip(self._logs, self._last_seqs, strict=True):
            assert taken.state is not None
            generation_id = taken.state.record.id
            output = Output([entry async for entry in self._log.read_all(generation_id)])
            done: Done = output.build_done("completed", time.time(), request={})
            answer = await self._log.finish(generation_id, taken.epoch, last_seq, done)
            assert answer.outcome is Outcome.OK, answer


class WorkerSink(LogSink):
    """As a worker appends: its writers and its appender, which gathers what comes within an interval."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._appender = Appender(self._log, self._restored)
        self._writers: list[Writer] = []
        self._running: asyncio.Task[None] | None = None
        self._append, self._log.append = self._log.append, self._counted  # type: ignore[method-assign]

    async def _counted(self, batches: Sequence[AppendBatch]) -> list[AppendResult | TailraceError]:
        self.round_trips += 1
        return await self._append(batches)

    async def _restored(self, record: GenerationRecord) -> None:
        raise AssertionError(f"{record.id} was lost")

    async def create(self, count: int, owner: str) -> Sequence[str]:
        await self._take(count, owner)
        self._running = asyncio.create_task(self._appender.run())
        self._writers = [Writer(taken, self._appender.wake) for taken in self._logs]
        for writer in self._writers:
            writer.add(Started(1, time.time()))
            writer.add(ItemOpened(0, "text", choices=[0]))
        await asyncio.gather(*(writer.flush() for writer in self._writers))
        return [writer.generation_id for writer in self._writers]

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        for log, said in texts.items():
            for text in said:
                self._writers[log].add(Text(0, text))
        await asyncio.sleep(0)  # the appender's turn


class StreamSink:
    """A Redis Stream a log and one `XADD` an event: the naive pattern's log. Pipelined here, to its favour."""

    def __init__(self, url: str) -> None:
        self.round_trips = 0
        self._redis: Redis = Redis.from_url(url)
        self._names: list[str] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:  # noqa: ARG002 - it knows no owners
        self._names = [f"stream-{secrets.token_hex(8)}" for _ in range(count)]
        return self._names

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for log, said in texts.items():
            for text in said:
                pipe.xadd(self._names[log], {"text": jsoncodec.dumps({"text": text}).decode()})
        self.round_trips += 1
        await pipe.execute()

    async def end(self) -> None:
        for name in self._names:
            await self._redis.xadd(name, {"done": '{"status":"completed"}'})


SINKS: Mapping[str, Callable[[str], Sink]] = {
    "log": LogSink, "worker": WorkerSink, "naive": StreamSink, "nchan": NchanSink,
}  # fmt: skip
