"""Reports to the log which generations are being read, for those that run only while a client reads them.

A generation with `on_disconnect: cancel` is cancelled when no reader was reported for a grace of 20 s
(`TAILRACE_DISCONNECT_GRACE_S`). A report is sent when the first reader of this process comes, when the last one goes,
and every `PRESENCE_S` in between, or every quarter of a shorter grace. (Reported by interval alone, a reader that came
16 s after the creation could find the generation cancelled 4 s later.)

The grace counts from the last report, or from the time at which the process that judges was connected to Redis, if that
is later: while Redis was away, no reader could be reported. (Without that, 8 of 8 generations with readers were
cancelled after a freeze of 24 s, measured.) A freeze that no connection notices is shorter than two pings of the
subscriber (4 s); interval and freeze together are shorter than the smallest grace, 6 s.
"""

import asyncio
import contextlib
import logging
import time

from tailrace.errors import RedisRefused, RedisUnavailable, Unavailable
from tailrace.events import GenerationRecord
from tailrace.log import Log

PRESENCE_S = 5.0

logger = logging.getLogger(__name__)


class Presence:
    """The generations that this process reports as read."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._interval_s = min(PRESENCE_S, log.abandoned_ms / 4000)
        self._read: set[str] = set()
        self._changed: set[str] = set()
        self._wakeup = asyncio.Event()

    def add(self, record: GenerationRecord) -> None:
        """The generation has its first reader."""
        if record.options.on_disconnect == "cancel":
            self._read.add(record.id)
            self._record(record.id)

    def remove(self, record: GenerationRecord) -> None:
        """The generation's last reader has gone: it was read until now."""
        if record.id in self._read:
            self._read.discard(record.id)
            self._record(record.id)

    def _record(self, generation_id: str) -> None:
        self._changed.add(generation_id)
        self._wakeup.set()

    async def run(self) -> None:
        """Report until cancelled. A report that Redis does not take is repeated with the next one, after an interval at
        the latest, also for a reader that has gone meanwhile."""
        due = 0.0
        while True:
            self._wakeup.clear()
            now = time.monotonic()
            ids, self._changed = self._changed, set()
            if now >= due:
                ids |= self._read
                due = now + self._interval_s
            if ids:
                await self._report(ids)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._wakeup.wait()

    async def _report(self, ids: set[str]) -> None:
        try:
            await self._log.touch_presence(sorted(ids))
        except (Unavailable, RedisRefused) as error:
            if not isinstance(error, RedisUnavailable):  # the subscriber logs when Redis is away
                logger.warning("presence: a report is repeated: %s: %s", type(error).__name__, error)
            self._changed |= ids
