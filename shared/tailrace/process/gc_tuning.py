"""Tuning of Python's cyclic garbage collector for a process that streams.

By default the collector scans the young generation after every 700 new containers, and the whole heap about every
hundredth time. With some hundreds of streams, collection took a quarter of the CPU and its longest pauses set the p99
latency (109 ms instead of 2 ms). Decoding a page of a log, which creates thousands of short-lived lists, took three
times as long. Objects that exist after start-up live as long as the process, and objects of a stream are freed by
reference counting, so frequent collections find almost nothing.
"""

import gc

YOUNG = 5_000
"""New containers before a collection of the youngest generation. While 8,000 readers arrive, all that is new survives:
a collection took up to 31 ms at 20,000, and takes up to 12 to 22 ms at 5,000 (two runs)."""

TIMES = 0
"""Collections of the youngest generation before the middle one is collected too: in turns, so that one has twice as
many containers at most. (At 20 times 20,000, a collection of the middle generation took 300 ms.)"""

OLD_TIMES = 800
"""Collections of the middle generation before everything is collected, if a quarter of it is new. That takes 0.6 s with
8,000 readers. No reader needs it: what a reader leaves is freed by reference counting (`LogCursor.close`)."""


def tune_gc() -> None:
    """Freeze the existing objects and make collections rare. Called once, at the end of start-up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, TIMES, OLD_TIMES)
