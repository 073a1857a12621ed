"""Where the bench appends: logs of the product, and the logs of the naive pattern and of peers."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from redis.asyncio import Redis

from bench.publishing import NchanSink
from support.log_writer import LogWriter
from support.logs import text_opened
from tailrace import jsoncodec
from tailrace.errors import TailraceError
from tailrace.events import Event, GenerationRecord, Options, Started, Text
from tailrace.ids import new_generation_id, new_token
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.redis.cluster import connect_log_server
from tailrace.redis.server import RedisServer
from tailrace_worker.appender import Appender
from tailrace_worker.writer import Writer

LEASE_MS = 600_000
REQUEST = {"model": "bench", "messages": []}
KEPT = Options(deadline_s=3600, retention_s=3600)
AT_ONCE = 100


class Sink(Protocol):
    """Logs are known by number, from 0. `round_trips`: to Redis (or the peer) so far."""

    round_trips: int

    async def create(self, count: int, owner: str) -> Sequence[str]:
        """Create so many logs; their names."""

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        """Append texts, by the number of their log."""

    async def end(self) -> None:
        """Finish every log."""


class LogWriterSink:
    """The product's own log, written with `Log.append`: each text is an entry, whatever the size of the batch."""

    def __init__(self, url: str) -> None:
        self.round_trips = 0
        self._log = Log(connect_log_server(url, "TAILRACE_REDIS_URL"), LEASE_MS)
        self._writers: list[LogWriter] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:
        self._writers = [LogWriter(self._log, grant) for grant in await create_leased(self._log, count, owner)]
        await self._append({log: [Started(1, time.time()), text_opened()] for log in range(count)})
        return [writer.generation_id for writer in self._writers]

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        await self._append({log: [Text(0, text) for text in each] for log, each in texts.items()})

    async def _append(self, events: Mapping[int, Sequence[Event]]) -> None:
        """A batch for each log, all in one round trip."""
        self.round_trips += 1
        results = await self._log.append([self._writers[log].batch(*each) for log, each in events.items()])
        for result in results:
            if isinstance(result, Exception) or result.outcome is not Outcome.OK:
                raise AssertionError(f"an append failed: {result}")

    async def end(self) -> None:
        for writer in self._writers:
            await writer.end()


async def create_leased(log: Log, count: int, owner: str) -> list[LeaseGrant]:
    """New generations, each acquired by the bench."""

    async def create_one() -> LeaseGrant:
        record = GenerationRecord(new_generation_id(), owner, "bench", KEPT)
        await log.create(record, REQUEST, new_token())
        return await log.acquire(record.id, new_token(), worker="bench")

    grants: list[LeaseGrant] = []
    while len(grants) < count:
        grants += await asyncio.gather(*(create_one() for _ in range(min(AT_ONCE, count - len(grants)))))
    return grants


class WorkerSink:
    """As a worker appends: with its writers and its appender, which gathers the texts of an interval."""

    def __init__(self, url: str) -> None:
        self.round_trips = 0
        self._log = Log(RedisServer.connect(url), LEASE_MS)
        self._appender = Appender(self._log, self._on_lost)
        self._writers: list[Writer] = []
        self._running: asyncio.Task[None] | None = None
        self._log_append, self._log.append = self._log.append, self._count_and_append  # type: ignore[method-assign]

    async def _count_and_append(self, batches: Sequence[AppendBatch]) -> list[AppendResult | TailraceError]:
        self.round_trips += 1
        return await self._log_append(batches)

    async def _on_lost(self, record: GenerationRecord) -> None:
        raise AssertionError(f"{record.id} was lost")

    async def create(self, count: int, owner: str) -> Sequence[str]:
        grants = await create_leased(self._log, count, owner)
        self._running = asyncio.create_task(self._appender.run())
        self._writers = [Writer(grant, self._appender.wake) for grant in grants]
        for writer in self._writers:
            writer.add(Started(1, time.time()))
            writer.add(text_opened())
        await asyncio.gather(*(writer.flush() for writer in self._writers))
        return [writer.generation_id for writer in self._writers]

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        for log, each in texts.items():
            for text in each:
                self._writers[log].add(Text(0, text))
        await asyncio.sleep(0)  # lets the appender run

    async def end(self) -> None:
        raise NotImplementedError("only logs that go on are written as a worker does")


class StreamSink:
    """The naive pattern's log: a Redis Stream a log, an `XADD` an event. Pipelined here, in its favour."""

    def __init__(self, url: str) -> None:
        self.round_trips = 0
        self._redis: Redis = Redis.from_url(url)
        self._names: list[str] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:  # noqa: ARG002 - streams have no owners
        self._names = [f"stream-{secrets.token_hex(8)}" for _ in range(count)]
        return self._names

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for log, each in texts.items():
            for text in each:
                pipe.xadd(self._names[log], {"text": jsoncodec.dumps({"text": text}).decode()})
        self.round_trips += 1
        await pipe.execute()

    async def end(self) -> None:
        for name in self._names:
            await self._redis.xadd(name, {"done": '{"status":"completed"}'})


SINKS: Mapping[str, Callable[[str], Sink]] = {
    "log": LogWriterSink, "worker": WorkerSink, "naive": StreamSink, "nchan": NchanSink,
}  # fmt: skip
