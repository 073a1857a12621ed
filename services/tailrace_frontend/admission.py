"""Limits on new work, checked before anything is stored, so that a refusal leaves nothing behind.

404 where the caller may not use the model; 429 where the caller, or all callers together, have too much under way, or
too much is stored for the caller; 503 where the log's server is nearly full. Running generations are never refused:
they finish.
"""

import time
from collections.abc import Callable

from tailrace.errors import ConcurrencyLimited, RateLimited, StorageLimited, Unavailable
from tailrace.log import Log
from tailrace.queue import Charge, Load, Queue
from tailrace.settings import Settings
from tailrace.sizes import size_text
from tailrace_frontend.models import AllowedModels
from tailrace_frontend.rate_limits import RateLimits

MAX_AGE_S = 0.5
"""How old the known use of Redis' memory may be."""

FULL_RETRY_S = 5


class Admission:
    """The limits of one frontend. `is_served`: whether an upstream serves a model."""

    def __init__(
        self, settings: Settings, log: Log, queue: Queue, is_served: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._settings = settings
        self.models = AllowedModels(settings.models, settings.models_per_caller, settings.model, is_served)
        self._rates = RateLimits(settings)
        self._log = log
        self._queue = queue
        self._memory_percent = 0.0
        self._checked_at = float("-inf")

    def charge(self, body_bytes: int) -> Charge:
        """The cost of the creation, in the owner's rate over all frontends."""
        return self._rates.creation(body_bytes)

    async def admit(self, owner: str, load: Load, body_bytes: int) -> None:
        """
        Raises:
            RateLimited: too many generations wait, or the owner creates too many in a minute.
            ConcurrencyLimited: too many of this owner's wait or run.
            StorageLimited: too much is stored for this owner. (Generations that are being created are not counted
                yet, so that concurrent requests may exceed the limit by their own bodies.)
            Unavailable: Redis is nearly full.
        """
        settings = self._settings
        if load.usage.wait_ms:
            raise self._rates.refusal(load.usage.wait_ms / 1000)
        if load.depth >= settings.max_queued:
            raise RateLimited("The queue is full. Try again in a moment.")
        limit = settings.max_unfinished_per_caller
        if load.own >= limit and await self._unfinished_of(owner) >= limit:
            raise ConcurrencyLimited(f"Concurrent generation limit reached ({limit}).")
        if load.usage.stored_bytes + body_bytes > settings.max_stored_bytes_per_caller:
            raise StorageLimited(
                f"Storage limit of the caller reached ({size_text(settings.max_stored_bytes_per_caller)})."
            )
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
