"""Limits on new work, checked before anything is stored, so that a refusal leaves nothing behind.

429 where the caller, or all callers together, have too much under way; 503 where the log's server is nearly full.
Running generations are never refused: they finish.
"""

import time

from tailrace.errors import RateLimited, Unavailable
from tailrace.log import Log
from tailrace.queue import Load, Queue
from tailrace.settings import Settings

MAX_AGE_S = 0.5
"""How old the known use of Redis' memory may be."""

FULL_RETRY_S = 5


class Admission:
    """The limits of one frontend."""

    def __init__(self, settings: Settings, log: Log, queue: Queue) -> None:
        self._settings = settings
        self._log = log
        self._queue = queue
        self._memory_percent = 0.0
        self._checked_at = float("-inf")

    async def admit(self, owner: str, load: Load) -> None:
        """
        Raises:
            RateLimited: too many generations wait, or too many of this owner's wait or run.
            Unavailable: Redis is nearly full.
        """
        settings = self._settings
        if load.depth >= settings.max_queued:
            raise RateLimited("The queue is full. Try again in a moment.")
        limit = settings.max_unfinished_per_caller
        if load.own >= limit and await self._unfinished_of(owner) >= limit:
            raise RateLimited(f"Concurrent generation limit reached ({limit}).")
        if await self._memory() >= settings.max_memory_percent:
            raise Unavailable("The log's server is nearly full.", retry_after=FULL_RETRY_S)

    async def _unfinished_of(self, owner: str) -> int:
        """The exact count: the load's may hold generations whose deadline has passed."""
        return await self._queue.index.unfinished_of(owner, await self._log.server.now())

    async def _memory(self) -> float:
        now = time.monotonic()
        if now - self._checked_at > MAX_AGE_S:
            self._memory_percent = await self._log.server.memory_percent()
            self._checked_at = now
        return self._memory_percent
