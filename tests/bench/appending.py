"""Appends in a process of their own: `python -m bench.appending <sink> <address>`, commands in `Appending`.

So a frontend under test does nothing but deliver. Each log has its own phase, so events are spread evenly over time.
The sinks (`bench.sinks`) differ only in how they append: the product's as its worker does, in batches; the others one
append at a time, which contains every event that has come due since the last one.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.children import serve_commands
from bench.sinks import SINKS, Sink
from bench.timestamps import timestamped_text
from tailrace.process.tasks import cancel_and_wait

ROWS_AT_ONCE = 500
COARSE_S = 0.002


class Appending:
    """Commands of an appending process."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._logs = 0
        self._task: asyncio.Task[None] | None = None
        self._appended = 0
        self._trips_before = 0
        self._behind_s = 0.0

    async def create(self, logs: int, owner: str = "open") -> Sequence[str]:
        self._logs = logs
        return await self._sink.create(logs, owner)

    async def fill(self, logs: Sequence[int], tokens: int, texts: Sequence[str], end: bool = True) -> None:
        """Append so many tokens to each of these logs, one an entry, as fast as possible; then `end` all logs."""
        endless = itertools.cycle(texts)
        for start in range(0, tokens, ROWS_AT_ONCE):
            batch = list(itertools.islice(endless, min(ROWS_AT_ONCE, tokens - start)))
            for log in logs:
                await self._sink.append({log: batch})
        if end:
            await self._sink.end()

    async def start(self, rate: float) -> None:
        """Append `rate` timestamped events a second to each log from now on."""
        self._task = asyncio.create_task(self._keep_appending(self._logs * rate))

    async def begin(self) -> None:
        """Start a window: reset all counters."""
        self._appended, self._trips_before = 0, self._sink.round_trips
        self._behind_s = 0.0

    async def report(self) -> dict[str, Any]:
        """Since `begin`: events appended, round trips, and the greatest delay of an append, seconds."""
        if self._task is not None and self._task.done():
            self._task.result()
        trips = self._sink.round_trips - self._trips_before
        return {"appended": self._appended, "round_trips": trips, "behind_s": self._behind_s}

    async def stop(self) -> None:
        await cancel_and_wait(self._task)

    async def _wait(self, seconds: float) -> None:
        """The loop's timers have a resolution of 1 ms, which would turn scattered events into bursts."""
        if seconds < COARSE_S:
            time.sleep(seconds)  # noqa: ASYNC251 - nothing else runs on this loop
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
                texts.setdefault(event % self._logs, []).append(timestamped_text())
            await self._sink.append(texts)
            k += due
            self._appended += due


if __name__ == "__main__":
    serve_commands(Appending(SINKS[sys.argv[1]](sys.argv[2])))
