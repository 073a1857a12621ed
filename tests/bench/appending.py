"""Appends as a process of their own: `python -m bench.appending <sink> <address>`, orders in `Appending`.

So a web process under test does nothing but deliver. Each log has a phase of its own, so events are scattered evenly in
time. The sinks (`bench.sinks`) differ in how they append and in nothing else: the product's as its worker does, in
batches; elsewhere one append is under way at a time and everything that has come due meanwhile rides in the next.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.children import take_orders
from bench.sinks import SINKS, Sink
from bench.timestamps import stamped
from tailrace.process.tasks import cancel_and_wait

ROWS_AT_ONCE = 500
COARSE_S = 0.002


class Appending:
    """What an appending process can do."""

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
        self._appended, self._trips_before = 0, self._sink.round_trips
        self._behind_s = 0.0

    async def report(self) -> dict[str, Any]:
        """Events appended since `begin`, in how many round trips, and how late at worst, seconds."""
        if self._task is not None and self._task.done():
            self._task.result()
        trips = self._sink.round_trips - self._trips_before
        return {"appended": self._appended, "round_trips": trips, "behind_s": self._behind_s}

    async def stop(self) -> None:
        await cancel_and_wait(self._task)

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


if __name__ == "__main__":
    take_orders(Appending(SINKS[sys.argv[1]](sys.argv[2])))
