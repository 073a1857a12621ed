"""Reads the history: what all processes have counted, by the minute for an hour and by ten minutes for three days."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tailrace import keys
from tailrace.redis.server import RedisServer, checked
from tailrace.stats.slots import (
    BUCKET_BITS,
    BUCKETS,
    COUNTERS,
    FAILED,
    FIRST_BUCKET,
    GAUGE_SECONDS,
    HISTOGRAMS,
    MAX_BUCKET,
    WAITING_MAX,
    Width,
)  # fmt: skip

A_TURN = 20
"""Slots that are decoded in one turn of the event loop: three days of them take some 60 ms."""

NO_BUCKETS = [0] * BUCKETS


@dataclass(frozen=True)
class Histogram:
    """Durations of one slot. `counts`: of each bucket, the last of what is beyond all `bounds`. `seconds`: the sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    seconds: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        return self.seconds / self.count if self.count else None

    def quantile(self, part: float) -> float | None:
        """The duration below which this part lies, on a straight line through its bucket; None where there is none.
        What is beyond all bounds counts as the last bound."""
        if not (count := self.count):
            return None
        rank, totals = part * count, list(accumulate(self.counts))
        bucket = min(bisect_left(totals, rank), len(totals) - 1)
        if bucket == len(self.bounds):
            return self.bounds[-1]
        low = self.bounds[bucket - 1] if bucket else 0.0
        before = totals[bucket - 1] if bucket else 0
        within = (rank - before) / self.counts[bucket] if self.counts[bucket] else 0.0
        return low + (self.bounds[bucket] - low) * within

    def __add__(self, other: "Histogram") -> "Histogram":
        counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.bounds, counts, self.seconds + other.seconds)


@dataclass(frozen=True)
class Slot:
    """What was counted in `seconds` from `start` (epoch seconds); of the last slot, in those that have passed.

    A slot in which nothing was counted has zeros.

    `counts`: `created`, `ended:<status>`, `failed:<code>`, `input`, `output` and the other `history` names of
    `stats.table`. `histograms`: `ttft`, `queue`, `upstream_ttft`, `added`, `itl`, `e2e`, `lag`. `means`: of `readers`
    and `running`, over all processes. `waiting_max`: the greatest number of waiting generations.
    """

    start: int
    seconds: int
    counts: Mapping[str, int]
    histograms: Mapping[str, Histogram]
    means: Mapping[str, float]
    waiting_max: int

    def per_second(self, name: str) -> float:
        """The rate of a count."""
        return self.counts.get(name, 0) / self.seconds


class HistoryReader:
    """Reads slots in one round trip, the oldest first; the last one is not over."""

    def __init__(self, server: RedisServer, *, clock: Callable[[], float] = time.time) -> None:
        self._server = server
        self._clock = clock

    async def last(self, width: Width, count: int | None = None) -> list[Slot]:
        """The newest slots of this width, all that are kept or so many.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        now = int(self._clock())
        newest = now // width.seconds
        numbers = range(newest - (width.kept if count is None else count) + 1, newest + 1)
        commands = [
            command
            for number in numbers
            for command in (
                ("HGETALL", keys.stats(width.seconds, number)), ("GET", keys.stats_durations(width.seconds, number))
            )
        ]  # fmt: skip
        replies = checked(await self._server.execute_many(commands))
        pairs = zip(numbers, replies[::2], replies[1::2], strict=True)
        slots = []
        for number, fields, buckets in pairs:
            seconds = min(width.seconds, max(1, now - number * width.seconds))
            slots.append(_slot(number * width.seconds, seconds, fields, buckets or b""))
            if len(slots) % A_TURN == 0:
                await asyncio.sleep(0)
        return slots


def _shown(name: str) -> str:
    return f"failed:{name.removeprefix(FAILED)}" if name.startswith(FAILED) else name


def _numbers(stored: bytes) -> list[int]:
    """The buckets of all histograms; those behind the end of the string are 0."""
    if not stored:
        return NO_BUCKETS
    size = (BUCKETS * BUCKET_BITS + 7) // 8
    whole, bits = int.from_bytes(stored[:size].ljust(size, b"\0")), 8 * size
    return [(whole >> (bits - BUCKET_BITS * (place + 1))) & MAX_BUCKET for place in range(BUCKETS)]


def _slot(start: int, seconds: int, fields: Sequence[bytes], stored: bytes) -> Slot:
    names = (_shown(name.decode()) for name in fields[::2])
    counts = {name: int(value) for name, value in zip(names, fields[1::2], strict=True)}
    buckets = _numbers(stored)
    histograms = {
        metric.history: Histogram(
            metric.bounds,
            buckets[(first := FIRST_BUCKET[metric.history]) : first + len(metric.bounds) + 1],
            counts.pop(metric.history, 0) / 1e6,
        )
        for metric in HISTOGRAMS
    }
    means = {name: counts.pop(name, 0) / 1000 / seconds for name in GAUGE_SECONDS}
    waiting = counts.pop(WAITING_MAX, 0)
    summed = {metric.history: 0 for metric in COUNTERS if metric.history_by < 0}
    return Slot(start, seconds, summed | counts, histograms, means, waiting)
