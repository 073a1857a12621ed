"""Batch pacing: a minimum average interval between batches, with a small burst allowance.

A wake-up, a read, a write and cold caches cost the same for one item as for ten. Under load, items are therefore
handled together, a few milliseconds apart. When idle, each item is handled at once. A delay of 2 ms is invisible in
text that a model takes seconds to produce.

The algorithm is GCRA (the generic cell rate algorithm, ITU-T I.371).
"""

import time

SHARED_BY = 5


def shared_interval(interval_s: float, connections: int) -> float:
    """The interval of each of several connections by which a process does the same: with more of them, each wakes the
    process less often, so that all together wake it as often as one would. Up to five; a delay of 10 ms is invisible
    too, and beyond it wake-ups grow with the connections."""
    return interval_s * max(1, min(connections, SHARED_BY))


class Throttle:
    """Keeps batches `interval_s` apart on average; `burst` batches may follow each other at once.

    With `each_s`, the interval grows to `each_s` times the size of the last batch, and to `longest_s` at most: the more
    items arrive, the more of them share a batch. All times are in seconds.
    """

    __slots__ = ("_due", "_each_s", "_interval_s", "_longest_s", "_slack_s")

    def __init__(self, interval_s: float, burst: int = 4, each_s: float = 0.0, longest_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._slack_s = burst * interval_s
        self._each_s = each_s
        self._longest_s = max(interval_s, longest_s)
        self._due = 0.0

    def charge(self, count: int = 1) -> float:
        """Account for a batch of `count` items. Returns the seconds to wait before the next batch; 0 or less: none."""
        now = time.monotonic()
        self._due = max(self._due, now) + min(max(self._interval_s, count * self._each_s), self._longest_s)
        return self._due - now - self._slack_s
