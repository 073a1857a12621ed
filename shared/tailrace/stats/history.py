"""Folds what a process counts into the history in Redis: one script call every few seconds, each exactly once.

    counts of the process ── difference to the last fold ──▶ of this minute ── every FLUSH_S, numbered ──▶ Redis

What was folded stays here until Redis has replied. A flush whose reply was lost is sent again under its number, with
the same amounts, and the script adds it once. While Redis is away, the amounts stay apart by the minute in which they
were counted, so that the graph is right afterwards; beyond HELD minutes the oldest ones become one. A process that dies
loses what it had not flushed: at most FLUSH_S seconds, or the time for which Redis had been away.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from tailrace import keys, scripts
from tailrace.errors import RedisRefused, Unavailable
from tailrace.ids import new_token
from tailrace.redis.outage import level_of
from tailrace.redis.server import RedisServer
from tailrace.stats.process_stats import Stats
from tailrace.stats.slots import (
    COUNTERS,
    FAILED,
    FIRST_BUCKET,
    GAUGE_SECONDS,
    HISTOGRAMS,
    MAX_BUCKET,
    MINUTES,
    WAITING_MAX,
    WIDTHS,
)  # fmt: skip

FLUSH_S = 5.0
LAST_S = 2.0
"""For the last flush of a process that stops."""

HELD = 120
"""Minutes that are kept apart while Redis is away."""

FLUSHED_LIFE_MS = 86_400_000

logger = logging.getLogger(__name__)


class Batch:
    """What was counted in one minute and is not in Redis yet."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.peaks: dict[str, int] = {}
        self.buckets: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self.counts or self.peaks or self.buckets)

    def add(self, other: "Batch") -> None:
        self.counts.update(other.counts)
        self.buckets.update(other.buckets)
        self.peaks = {name: max(self.peaks.get(name, 0), peak) for name, peak in {**self.peaks, **other.peaks}.items()}


class History:
    """The history as one process writes it.

    `gauges`: the process' own (`GAUGE_SECONDS`). `waiting`: how many generations wait in the whole deployment; None:
    this process does not know. `clock`: epoch seconds.
    """

    def __init__(
        self,
        stats: Stats,
        server: RedisServer,
        gauges: Mapping[str, Callable[[], float]],
        waiting: Callable[[], Awaitable[float]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert gauges.keys() <= set(GAUGE_SECONDS)
        self._stats = stats
        self._server = server
        self._gauges = gauges
        self._waiting = waiting
        self._clock = clock
        self._process = new_token()
        self._before: dict[tuple[str, tuple[str, ...]], int] = {}
        self._buckets_before: dict[tuple[str, tuple[str, ...]], tuple[list[int], float]] = {}
        self._folded_at = clock()
        self._held: dict[int, Batch] = {}  # by minute
        self._in_flight: tuple[int, Batch] | None = None
        self._number = 0

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush_or_log()

    async def flush_or_log(self) -> None:
        """Flush; where Redis takes nothing now, the next flush has it as well."""
        try:
            await self.flush()
        except (Unavailable, RedisRefused) as error:
            logger.log(level_of(error), "history: %s: %s", type(error).__name__, error)
        except Exception:
            logger.exception("history")

    async def flush_finally(self) -> None:
        """Flush what is left, before the process stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.flush_or_log()

    async def flush(self) -> None:
        """Fold, and send everything that Redis has not confirmed.

        Raises:
            Unavailable, RedisRefused: what is left is sent again with the next flush.
        """
        self._fold(await self._read_waiting())
        while self._in_flight or self._held:
            if self._in_flight is None:
                self._number += 1
                minute = min(self._held)
                self._in_flight = minute, self._held.pop(minute)
            await self._send(*self._in_flight)
            self._in_flight = None

    async def _read_waiting(self) -> int | None:
        try:
            return int(await self._waiting()) if self._waiting else None
        except (Unavailable, RedisRefused):
            return None

    async def _send(self, minute: int, batch: Batch) -> None:
        slots = [(width, minute * MINUTES.seconds // width.seconds) for width in WIDTHS]
        names = [name for width, slot in slots for name in (
            keys.stats(width.seconds, slot), keys.stats_durations(width.seconds, slot))]  # fmt: skip
        counts = [part for name, amount in {**batch.counts, **batch.peaks}.items() for part in (name, amount)]
        buckets = [part for place, amount in batch.buckets.items() for part in (place, min(amount, MAX_BUCKET))]
        await self._server.execute(
            *scripts.FLUSH_STATS.on(
                [keys.stats_flushed(self._process), *names], self._number, FLUSHED_LIFE_MS,
                *(width.life_ms for width, _ in slots), len(counts) // 2, *counts, *buckets,
            )
        )  # fmt: skip

    # ── folding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _fold(self, waiting: int | None) -> None:
        """Move what was counted since the last fold to the minute that is now."""
        now = self._clock()
        batch = Batch()
        self._fold_counts(batch)
        self._fold_durations(batch)
        seconds, self._folded_at = max(0.0, now - self._folded_at), now
        for name, read in self._gauges.items():
            batch.counts[name] += round(1000 * read() * min(seconds, MINUTES.seconds))
        if waiting is not None:
            batch.peaks[WAITING_MAX] = waiting
        batch.counts = +batch.counts
        if batch:
            self._held.setdefault(int(now) // MINUTES.seconds, Batch()).add(batch)
        while len(self._held) > HELD:
            oldest = self._held.pop(min(self._held))
            self._held[min(self._held)].add(oldest)

    def _fold_counts(self, batch: Batch) -> None:
        for metric in COUNTERS:
            for labels, count in self._stats.counts_of(metric).items():
                value, key = count.value, (metric.name, labels)
                if added := value - self._before.get(key, 0):
                    self._before[key] = value
                    name = metric.history if metric.history_by < 0 else f"{metric.history}:{labels[metric.history_by]}"
                    batch.counts[name] += added
                    if metric.name == "generations_total" and labels[0] == "failed":
                        batch.counts[f"{FAILED}{labels[1]}"] += added

    def _fold_durations(self, batch: Batch) -> None:
        for metric in HISTOGRAMS:
            first = FIRST_BUCKET[metric.history]
            for labels, durations in self._stats.durations_of(metric).items():
                key = (metric.name, labels)
                counts, total = durations.counts.copy(), durations.total
                counts_before, total_before = self._buckets_before.get(key, ([0] * len(counts), 0.0))
                if counts == counts_before:
                    continue
                self._buckets_before[key] = counts, total
                for place, (now, before) in enumerate(zip(counts, counts_before, strict=True), first):
                    if now != before:
                        batch.buckets[place] += now - before
                batch.counts[metric.history] += round(1e6 * (total - total_before))
