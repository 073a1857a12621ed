"""Who may start another generation: asked before anything is stored, so that a refusal leaves nothing behind.

429 where the caller, or everybody together, has too much under way; 503 where the log's server is nearly full. What
runs is never refused: it finishes.
"""

import time

from tailrace.errors import RateLimited, Unavailable
from tailrace.log import Log
from tailrace.queue import Queue
from tailrace.settings import Settings

LOOK_S = 0.5  # how old a look at Redis' memory may be
FULL_RETRY_S = 5


class Admission:
    """The limits on new work."""

    def __init__(self, settings: Settings, log: Log, queue: Queue) -> None:
        self._settings = settings
        self._log = log
        self._queue = queue
        self._memory_percent = 0.0
        self._looked_at = float("-inf")

    async def admit(self, owner: str) -> None:
        """
        Raises:
            RateLimited: too many wait, or too many of this caller's are under way.
            Unavailable: Redis is nearly full.
        """
        settings = self._settings
        depth, own = await self._queue.load(owner)
        if depth >= settings.max_queued:
            raise RateLimited("The queue is full. Try again in a moment.")
        if own >= settings.max_unfinished_per_caller:
            raise RateLimited(f"You have {own} generations under way, as many as you may.")
        if await self._memory() >= settings.max_memory_percent:
            raise Unavailable("The log's server is nearly full.", retry_after=FULL_RETRY_S)

    async def _memory(self) -> float:
        now = time.monotonic()
        if now - self._looked_at > LOOK_S:
            self._memory_percent = await self._log.memory_percent()
            self._looked_at = now
        return self._memory_percent
