"""Measures the upstream's stream as it is received, for `timings` and `stream` in `done`.

A *gap* is the time between two pieces of content. It belongs to the upstream: the time in which a worker does not read,
because Redis takes nothing, is none. One token costs a comparison and an addition to a list; the measures are computed
at the end, and with each renewal of the lease. Only a gap that may be one of the slowest is noted when it ends, with
the entry before it: of n gaps about 10 + 10 · ln(n / 10), which are 56 of 1,000.

A later attempt begins with the measures of those before it: counters, the slowest gaps, the histogram, the first
content and the requests that failed are the generation's. The percentiles and the rate are the attempt's own.
"""

import heapq
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import add, attrgetter

import msgspec

from tailrace.events import GAP_BOUNDS_S, Bucket, Gap, Stream, Timings, Upstream
from tailrace.ids import START, EntryId
from tailrace.log.measures import Measures, tokens_per_second
from tailrace.queue.durations import bucket_counts
from tailrace.upstreams.prices import Price
from tailrace_worker.request_history import RequestHistory

STALL_S = 3.0
"""A longer gap is a stall: 60 times the usual one of a model with 20 tokens a second, and long enough to be noticed."""

SLOWEST = 10

SILENCE_S = 0.1
"""A shorter silence that lasts is no gap yet: the next content is on its way."""

BOUNDS: tuple[float | None, ...] = (*GAP_BOUNDS_S, None)
NOTHING = Measures()


class TokenTimings:
    """Counts content events (deltas and opened items). `count`: events so far; `last`: the time of the last one.

    `received_bytes` and `malformed` are set by those who ask the upstream, as are `requests` and `asked`: when the last
    upstream was asked first. `on_first` is called with the first content. `position`: the id of the log's last entry.
    `waited`: seconds from the generation's creation to the beginning of the attempt. `earlier`: the measures of the
    attempts before it. Times are seconds of `time.monotonic()`.
    """

    __slots__ = (
        "_append", "_began", "_broke_off", "_bucketed", "_counts", "_earlier", "_events", "_noted_above", "_position",
        "_skipped", "_slowest", "_sorted", "_stalls", "_times", "_waited", "asked", "count", "last", "malformed",
        "on_first", "received_bytes", "requests",
    )  # fmt: skip

    def __init__(
        self,
        position: Callable[[], EntryId] = lambda: START,
        *,
        waited: float = 0.0,
        earlier: Measures = NOTHING,
    ) -> None:
        self.count = 0
        self.last = 0.0
        self.received_bytes = 0
        self.malformed = 0
        self.asked = 0.0
        self.requests = RequestHistory(waited, earlier.stream.failed)
        self.on_first: Callable[[], object] = lambda: None
        self._position = position
        self._waited = waited
        self._earlier = earlier
        self._began = time.monotonic()
        self._times: list[float] = []
        self._append = self._times.append
        self._events: dict[int, int] = {}  # chunks of several events: their index and those events
        self._skipped: dict[int, float] = {}  # chunks before which the upstream was not read: index and seconds
        self._slowest: list[tuple[float, float, EntryId]] = []  # a heap: seconds, beginning, the entry before
        self._noted_above = 0.0
        self._stalls = 0
        self._broke_off = False
        self._sorted: tuple[list[float], list[float]] | None = None
        self._counts = _counts_of(earlier.stream.gaps)
        self._bucketed = 1  # chunks whose gaps are counted; there is none before the first one

    def record(self, now: float, events: int) -> None:
        """Record the content events of one chunk. (It runs for each token: 0.1 µs.)"""
        if now - self.last > self._noted_above or events != 1:
            self._note(now, events)
        self._append(now)
        self.last = now
        self.count += events

    def skip(self, now: float) -> None:
        """The upstream was not read until now: that time is no gap."""
        index = len(self._times)
        self._skipped[index] = self._skipped.get(index, 0.0) + now - self.last
        self.last = now

    def break_off(self, now: float) -> None:
        """The answer broke off: the silence before is a gap, too."""
        if self.count and not self._broke_off:
            self._note(now, 1)
            self._append(now)
            self._broke_off = True

    def timings(self, created_at: float | None, started_at: float | None, now: float) -> Timings:
        """The timings in seconds. Arguments are epoch seconds by Redis' clock; None: the event did not happen."""
        created = created_at or now
        queue = max(0.0, (started_at or now) - created)
        gaps, divided = self._sorted_gaps()
        cuts = statistics.quantiles(divided, n=20) if len(gaps) > 1 else []
        first = self._first_token
        return Timings(
            queue=round(queue, 4),
            first_token=first,
            between_tokens_p50=round(cuts[9], 5) if cuts else None,
            between_tokens_p95=round(cuts[18], 5) if cuts else None,
            between_tokens_max=self._longest(gaps[-1] if gaps else None),
            total=max(round(queue, 4), first or 0.0, round(now - created, 4)),  # Redis' clock has whole ms here
        )

    @property
    def first_at(self) -> float | None:
        """The time of the attempt's first content."""
        return self._times[0] if self._times else None

    @property
    def _first_token(self) -> float | None:
        """From the creation to the first content of the generation."""
        if self._earlier.first_token is not None or not self._times:
            return self._earlier.first_token
        return round(self._waited + self._times[0] - self._began, 4)

    def _longest(self, gap: float | None) -> float | None:
        """The longest gap of the generation. `gap`: that of the attempt."""
        lengths = [each for each in (gap, self._earlier.longest_gap) if each is not None]
        return round(max(lengths), 5) if lengths else None

    @property
    def first_token_s(self) -> float | None:
        """From the first request to the upstream that answered to its first content."""
        return self._times[0] - self.asked if self._times else None

    @property
    def added_s(self) -> float | None:
        """From the creation to the generation's first content, without the part of the upstream (`first_token_s`). None
        where it was an earlier attempt's."""
        if self._earlier.first_token is not None or not self._times:
            return None
        return max(0.0, self._waited + self.asked - self._began)

    @property
    def gaps(self) -> Sequence[float]:
        """The gaps in seconds, the shortest first."""
        return self._sorted_gaps()[0]

    def stream(self, attempts: int, tokens: int | None, now: float) -> Stream:
        """The measures of the stream. `tokens`: those that were streamed, where they are known. `now`: epoch seconds
        by Redis' clock."""
        rate = tokens_per_second(tokens, self._seconds)
        counts = map(add, _counts_of(self._earlier.stream.gaps), bucket_counts(self._sorted_gaps()[0]))
        so_far = self._so_far(now - time.monotonic(), self._slowest, counts, self._stalls)
        return msgspec.structs.replace(so_far, attempts=attempts, tokens_per_second=rate)

    def measures(self, now: float, price: Price | None, upstream: Upstream) -> Measures:
        """The measures so far, without those that take longer the longer the answer is: the percentiles. The silence
        that lasts is a gap. `now`: epoch seconds by Redis' clock. `upstream`, `price`: of the one that answers; before
        any content, of the one that has answered an earlier attempt."""
        self._count_gaps()
        clock, slowest, stalls, counts = time.monotonic(), self._slowest, self._stalls, self._counts
        if self._times and not self._broke_off and clock - self.last > SILENCE_S:
            silence = clock - self.last
            slowest = [*slowest, (silence, self.last, self._position())]
            counts = list(map(add, counts, bucket_counts([silence])))
            stalls += silence > STALL_S
        earlier = self._earlier
        prices = None if price is None else (price.input, price.output, price.cached)
        if not self._times and earlier.first_token is not None:
            prices, upstream = earlier.prices, earlier.upstream
        return Measures(
            first_token=self._first_token,
            longest_gap=self._longest(max(slowest)[0] if slowest else None),
            seconds=round(self._seconds, 4),
            stream=self._so_far(now - clock, slowest, counts, stalls),
            prices=prices,
            upstream=upstream,
        )

    def _so_far(
        self, epoch_ahead_s: float, slowest: Sequence[tuple[float, float, EntryId]], counts: Iterable[int], stalls: int
    ) -> Stream:
        """What is known at any time, of all attempts. `slowest`, `stalls`: of this attempt. `counts`: of all gaps."""
        earlier = self._earlier.stream
        gaps = [*earlier.slowest, *_gaps_of(slowest, epoch_ahead_s)]
        return Stream(
            retries=(earlier.retries or 0) + self.requests.retries,
            chunks=(earlier.chunks or 0) + len(self._times) - self._broke_off,
            bytes=(earlier.bytes or 0) + self.received_bytes,
            malformed=(earlier.malformed or 0) + self.malformed,
            stalls=(earlier.stalls or 0) + stalls,
            gaps=_buckets(counts),
            slowest=heapq.nlargest(SLOWEST, gaps, key=attrgetter("seconds")),
            failed=self.requests.failed,
        )

    def _count_gaps(self) -> None:
        """Add the gaps since the last call to the counts: each is counted once, however often the lease is renewed."""
        times, skipped = self._times, self._skipped
        gaps = [times[index] - times[index - 1] for index in range(self._bucketed, len(times))]
        for index, seconds in skipped.items():
            if self._bucketed <= index < len(times):
                gaps[index - self._bucketed] -= seconds
        if gaps:
            self._counts = list(map(add, self._counts, bucket_counts(sorted(gaps))))
            self._bucketed = len(times)

    def _note(self, now: float, events: int) -> None:
        """Keep what the times do not have: several events of one chunk, and the entry before a slow gap."""
        index, gap = len(self._times), now - self.last
        if not index:
            self.on_first()
        if events > 1:
            self._events[index] = events
        if not index or gap <= self._noted_above:
            return
        self._stalls += gap > STALL_S
        noted = (gap, self.last, self._position())
        if len(self._slowest) < SLOWEST:
            heapq.heappush(self._slowest, noted)
        else:
            heapq.heappushpop(self._slowest, noted)
        if len(self._slowest) == SLOWEST:
            self._noted_above = min(self._slowest[0][0], STALL_S)

    def _sorted_gaps(self) -> tuple[list[float], list[float]]:
        """The gaps before each chunk but the first, and the same divided among the events that ended them. (Sorted
        once: 100,000 of them take 20 ms.)"""
        if self._sorted is None or len(self._sorted[0]) != len(self._times) - 1:
            gaps = [after - before for before, after in pairwise(self._times)]
            for index, seconds in self._skipped.items():
                if 0 < index <= len(gaps):
                    gaps[index - 1] -= seconds
            divided = gaps.copy()
            for index, events in self._events.items():
                if index:
                    divided[index - 1] /= events
            gaps.sort()
            self._sorted = gaps, sorted(divided) if self._events else gaps
        return self._sorted

    @property
    def _seconds(self) -> float:
        """From the first content to the last, without the times in which the upstream was not read."""
        chunks = len(self._times) - self._broke_off
        skipped = sum(seconds for index, seconds in self._skipped.items() if 0 < index < chunks)
        return self._times[chunks - 1] - self._times[0] - skipped if chunks else 0.0


def _gaps_of(noted: Sequence[tuple[float, float, EntryId]], epoch_ahead_s: float) -> list[Gap]:
    """The gaps, the longest first."""
    return [
        Gap(round(began + epoch_ahead_s, 3), round(seconds, 4), str(after))
        for seconds, began, after in sorted(noted, reverse=True)
    ]


def histogram(gaps: Sequence[float]) -> list[Bucket]:
    """The gaps by their length; `gaps` are sorted. There are no empty buckets."""
    return _buckets(bucket_counts(gaps))


def _buckets(counts: Iterable[int]) -> list[Bucket]:
    return [Bucket(count, bound) for count, bound in zip(counts, BOUNDS, strict=True) if count]


def _counts_of(buckets: Sequence[Bucket]) -> list[int]:
    """The counts of all buckets, the empty ones included."""
    counts = {bucket.up_to: bucket.count for bucket in buckets}
    return [counts.get(bound, 0) for bound in BOUNDS]
