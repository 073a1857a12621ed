"""What a worker reports of itself with each heartbeat: where it runs, how much it runs, and how fast.

The rate counts pieces of content as they come from the upstreams. It is read from what the runs count anyway, so a
token costs nothing.
"""

import os
import platform
import time
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from tailrace.queue.presence import WorkerStatus

STATM = Path("/proc/self/statm")


class Counting(Protocol):
    """A run that counts its content."""

    @property
    def contents(self) -> int:
        """Pieces of content of the attempt that runs; less than before where another attempt has begun."""


class StatusMeter:
    """Measures one worker."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._started_at = time.time()
        self._host = platform.node()
        self._version = version("tailrace")
        self._counted: WeakKeyDictionary[Counting, int] = WeakKeyDictionary()
        self._contents = 0
        self._measured_at = time.monotonic()

    def count(self, run: Counting) -> None:
        """Count what a run has received since it was counted last. Called with each heartbeat, and once it has
        ended."""
        before, now = self._counted.get(run, 0), run.contents
        self._contents += now - before if now >= before else now
        self._counted[run] = now

    def status(self, runs: Collection[Counting], running: int, *, draining: bool) -> WorkerStatus:
        """The status now. `runs`: those under way; `running`: the jobs under way."""
        for run in runs:
            self.count(run)
        now = time.monotonic()
        rate = self._contents / max(0.001, now - self._measured_at)
        self._contents, self._measured_at = 0, now
        return WorkerStatus(
            host=self._host,
            pid=os.getpid(),
            version=self._version,
            started_at=self._started_at,
            running=running,
            slots=self._slots,
            draining=draining,
            tokens_per_second=round(rate, 1),
            rss_bytes=_rss_bytes(),
        )


def _rss_bytes() -> int | None:
    """The memory of this process that is in RAM; None where the system does not report it."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
