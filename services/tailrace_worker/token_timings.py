"""Records the times at which content arrived from the upstream, for the timings in `done`."""

import statistics
import time

from tailrace.events import Timings


class TokenTimings:
    """Counts content events (deltas and opened items). `count`: events so far; `last`: the time of the last one.

    Times are seconds of `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._began = time.monotonic()
        self._first: float | None = None
        self.last = 0.0
        self._gaps: list[float] = []

    def record(self, now: float, events: int) -> None:
        """Record the content events of one chunk; the interval since the last chunk is divided among them."""
        if self._first is None:
            self._first = now
        else:
            self._gaps.append((now - self.last) / events)
        self.last = now
        self.count += events

    def timings(self, created_at: float | None, started_at: float | None, now: float) -> Timings:
        """The timings in seconds. Arguments are epoch seconds by Redis' clock; None: the event did not happen."""
        created = created_at or now
        queue = max(0.0, (started_at or now) - created)
        first = None if self._first is None else round(queue + self._first - self._began, 4)
        cuts = statistics.quantiles(self._gaps, n=20) if len(self._gaps) > 1 else []
        return Timings(
            queue=round(queue, 4),
            first_token=first,
            between_tokens_p50=round(cuts[9], 5) if cuts else None,
            between_tokens_p95=round(cuts[18], 5) if cuts else None,
            total=max(round(queue, 4), first or 0.0, round(now - created, 4)),  # Redis' clock has whole ms here
        )
