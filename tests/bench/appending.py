"""Appends as a process of their own: `python -m bench.appending <sink> <address>`, orders in `Appending`.

So a web process under test does nothing but deliver. One append is under way at a time and everything that has come
due meanwhile rides in the next, as in the worker's appender; each log has a phase of its own, so events are scattered
evenly in time. The sinks differ in how they append and in nothing else.
"""

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from bench.children import take_orders
from bench.publishing import NchanSink
from bench.stamps import stamped
from tailrace import connection, json
from tailrace.codec import to_row
from tailrace.events import Done, Entry, Event, Head, Opened, Options, Started, Text, width
from tailrace.ids import EntryId, new_generation_id, new_token
from tailrace.log import Append, Log, Outcome
from tailrace.output import Output
from tailrace.tasks import end_tasks

LEASE_MS = 600_000
KEPT = Options(deadline_s=3600, retention_s=3600)
AT_ONCE = 100
ROWS_AT_ONCE = 500
COARSE_S = 0.002


class Sink(Protocol):
    """Where appends go. Logs are known by number."""

    async def create(self, count: int, owner: str) -> Sequence[str]:
        """Begin so many logs; their names."""

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        """Add these texts to these logs."""

    async def end(self) -> None:
        """End them all."""


class TailraceSink:
    """The product's own log, through its own `Log`."""

    def __init__(self, url: str) -> None:
        self._log = Log(connection.connect(url), LEASE_MS)
        self._logs: list[tuple[str, int, int]] = []
        self._tops: list[int] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:
        for start in range(0, count, AT_ONCE):
            size = min(AT_ONCE, count - start)
            self._logs += await asyncio.gather(*(self._begin(owner) for _ in range(size)))
        self._tops = [top for _, _, top in self._logs]
        await self._add({log: [Started(1, time.time()), Opened(0, "text", choices=[0])] for log in range(count)})
        return [generation for generation, _, _ in self._logs]

    async def _begin(self, owner: str) -> tuple[str, int, int]:
        head = Head(new_generation_id(), owner, "bench", {"model": "bench", "messages": []}, KEPT)
        await self._log.create(head, new_token())
        taken = await self._log.take_over(head.id, new_token(), worker="bench")
        assert taken.state is not None
        return head.id, taken.attempt, taken.state.n

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        await self._add({log: [Text(0, text) for text in said] for log, said in texts.items()})

    async def _add(self, said: Mapping[int, Sequence[Event]]) -> None:
        """In one round trip, a call a log, as the worker does."""
        answers = await self._log.append([self._call(log, events) for log, events in said.items()])
        for answer in answers:
            if isinstance(answer, Exception) or answer.outcome is not Outcome.OK:
                raise AssertionError(f"an append failed: {answer}")

    def _call(self, log: int, events: Sequence[Event]) -> Append:
        generation, attempt, _ = self._logs[log]
        after_n = n = self._tops[log]
        rows = []
        for event in events:
            n += width(event)
            rows.append(to_row(Entry(EntryId(attempt, n), event)))
        self._tops[log] = n
        return Append(generation, attempt, after_n, rows)

    async def end(self) -> None:
        for (generation, attempt, _), top in zip(self._logs, self._tops, strict=True):
            output = Output([entry async for entry in self._log.read_all(generation)])
            done: Done = output.ended("completed", time.time(), request={})
            answer = await self._log.finish(generation, attempt, top, done)
            assert answer.outcome is Outcome.OK, answer


class StreamSink:
    """A Redis Stream a log and one `XADD` an event: the naive pattern's log. Pipelined here, to its favour."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(url)
        self._names: list[str] = []

    async def create(self, count: int, owner: str) -> Sequence[str]:  # noqa: ARG002 - it knows no owners
        self._names = [f"stream-{secrets.token_hex(8)}" for _ in range(count)]
        return self._names

    async def append(self, texts: Mapping[int, Sequence[str]]) -> None:
        pipe = self._redis.pipeline(transaction=False)
        for log, said in texts.items():
            for text in said:
                pipe.xadd(self._names[log], {"text": json.dumps({"text": text}).decode()})
        await pipe.execute()

    async def end(self) -> None:
        for name in self._names:
            await self._redis.xadd(name, {"done": '{"status":"completed"}'})


SINKS: Mapping[str, Callable[[str], Sink]] = {"tailrace": TailraceSink, "naive": StreamSink, "nchan": NchanSink}


class Appending:
    """What an appending process can do."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._logs = 0
        self._task: asyncio.Task[None] | None = None
        self._appended = 0
        self._round_trips = 0
        self._behind_s = 0.0

    async def create(self, logs: int, owner: str = "open") -> Sequence[str]:
        self._logs = logs
        return await self._sink.create(logs, owner)

    async def fill(self, logs: Sequence[int], tokens: int, words: Sequence[str], end: bool = True) -> None:
        """Append so many tokens to each of these logs, one an entry, as fast as it goes; then `end` all logs."""
        endless = itertools.cycle(words)
        for start in range(0, tokens, ROWS_AT_ONCE):
            said = list(itertools.islice(endless, min(ROWS_AT_ONCE, tokens - start)))
            for log in logs:
                await self._sink.append({log: said})
        if end:
            await self._sink.end()

    async def start(self, rate: float) -> None:
        """From now on append `rate` stamped events a second to each log."""
        self._task = asyncio.create_task(self._keep_appending(self._logs * rate))

    async def begin(self) -> None:
        """Forget what was appended so far."""
        self._appended = self._round_trips = 0
        self._behind_s = 0.0

    async def report(self) -> dict[str, Any]:
        """Events appended since `begin`, in how many round trips, and how late at worst, seconds."""
        if self._task is not None and self._task.done():
            self._task.result()
        return {"appended": self._appended, "round_trips": self._round_trips, "behind_s": self._behind_s}

    async def stop(self) -> None:
        await end_tasks(self._task)

    async def _wait(self, seconds: float) -> None:
        """The loop's timers count in ms, which would make bursts of what is meant to be scattered."""
        if seconds < COARSE_S:
            time.sleep(seconds)  # noqa: ASYNC251 - nothing else goes on here
        else:
            await asyncio.sleep(seconds - COARSE_S)

    async def _keep_appending(self, rate: float) -> None:
        """Event k goes to log k mod `logs` at k / `rate` seconds."""
        began, k = time.monotonic(), 0
        while True:
            now = time.monotonic() - began
            due = int(now * rate) + 1 - k
            if due <= 0:
                await self._wait(k / rate - now)
                continue
            self._behind_s = max(self._behind_s, now - k / rate)
            texts: dict[int, list[str]] = {}
            for event in range(k, k + due):
                texts.setdefault(event % self._logs, []).append(stamped())
            await self._sink.append(texts)
            k += due
            self._appended += due
            self._round_trips += 1


if __name__ == "__main__":
    take_orders(Appending(SINKS[sys.argv[1]](sys.argv[2])))
