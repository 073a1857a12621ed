"""The shape of the history: slots of a minute for an hour, and of ten minutes for three days.

    tailrace:{stats}:60:29372650             hash     created 12   ended:completed 11   ttft 4180000 (µs)   …
    tailrace:{stats}:60:29372650:durations   string   a number of 28 bits for each bucket of each histogram

Its size does not depend on how many processes add to it, but on the number of slots: a test fills every field and every
bucket of all 492, and measures below 1 MB.
"""

from itertools import accumulate
from typing import NamedTuple

from tailrace.stats.table import METRICS, Metric

GAUGE_SECONDS = ("readers", "running")
"""Gauges of processes that the history adds up, as value × seconds: divided by the seconds of a slot, it is the mean of
the sum over all processes."""

FAILED = "f:"
"""Before the code of a failure: short, because there are many of them. The reader shows `failed:`."""

WAITING_MAX = ">waiting"
"""A gauge of the deployment, which several processes report: its greatest value."""


class Width(NamedTuple):
    """Slots of so many seconds, `kept` of them."""

    seconds: int
    kept: int

    @property
    def life_ms(self) -> int:
        """Of a slot's keys, from the last flush into it. One more is kept: the newest is not over."""
        return 1000 * self.seconds * (self.kept + 1)


MINUTES = Width(60, 60)
TEN_MINUTES = Width(600, 3 * 24 * 6)
WIDTHS = (MINUTES, TEN_MINUTES)

COUNTERS: tuple[Metric, ...] = tuple(each for each in METRICS if each.history and each.kind == "counter")
HISTOGRAMS: tuple[Metric, ...] = tuple(each for each in METRICS if each.history and each.kind == "histogram")
_sizes = [len(metric.bounds) + 1 for metric in HISTOGRAMS]
FIRST_BUCKET = {
    metric.history: end - size for metric, size, end in zip(HISTOGRAMS, _sizes, accumulate(_sizes), strict=True)
}
"""The place of the first bucket of each histogram. A new histogram goes to the end of the table, or these shift: a
reader of another version would take one for another until the slots have expired."""

BUCKETS = sum(_sizes)
BUCKET_BITS = 28
"""446,000 durations a second in one bucket of a slot of ten minutes."""

MAX_BUCKET = 2**BUCKET_BITS - 1
