"""Limits on new work, checked before anything is stored, so that a refusal leaves nothing behind.

404 where the caller may not use the model; 429 where the caller, or all callers together, have too much under way,
where too much is stored for the caller, or where it has used too much; 503 where the log's server is nearly full.
Running generations are never refused: they finish.

`load.lua` checks all limits but the first, and charges none of them unless all allow the creation.
"""

import time
from math import ceil

from tailrace import keys
from tailrace.errors import ConcurrencyLimited, QuotaExceeded, RateLimited, StorageLimited, TailraceError, Unavailable
from tailrace.events import Api, Json, Options
from tailrace.log import Log
from tailrace.queue import Charge, LimitsOf, Load, Queue, Terms, limits_of_settings
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace.sizes import size_text
from tailrace.upstreams import CurrentUpstreams
from tailrace_frontend.models import AllowedModels
from tailrace_frontend.rate_limits import RateLimits
from tailrace_frontend.reservations import reservation_of
from tailrace_frontend.token_allowances import TokenAllowances

MAX_AGE_S = 0.5
"""How old the known use of Redis' memory may be."""

FULL_RETRY_S = 5


class Admission:
    """The limits of one frontend. `upstreams`: None where this process knows none. `limits_of`: of a caller, now; by
    default those of the settings."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        queue: Queue,
        upstreams: CurrentUpstreams | None = None,
        limits_of: LimitsOf | None = None,
    ) -> None:
        self._settings = settings
        self._limits_of = limits_of or limits_of_settings(settings)
        self._upstreams = upstreams
        self.models = AllowedModels(
            settings.models, settings.models_per_caller, settings.model, self._is_served,
            lambda caller: self._limits_of(caller).models,
        )  # fmt: skip
        self.tokens = TokenAllowances(self._limits_of)
        self._rates = RateLimits(settings, self._limits_of)
        self._log = log
        self._queue = queue
        self._memory: dict[RedisServer, tuple[float, float]] = {}

    def _is_served(self, model: str) -> bool:
        """Whether an upstream serves the model, as far as this process knows the upstreams."""
        return self._upstreams is None or bool(self._upstreams.targets(model))

    def charge(self, owner: str, body_bytes: int) -> Charge:
        """The cost of the creation, in the owner's rate over all frontends."""
        return self._rates.creation(owner, body_bytes)

    async def terms(
        self, owner: str, generation_id: str, api: Api, request: Json, options: Options, body_bytes: int
    ) -> Terms:
        """What the creation is checked against, and what it may use.

        Raises:
            RedisUnavailable: the log's server cannot be reached.
        """
        limits = self._limits_of(owner)
        return Terms(
            self._settings.max_queued,
            limits.max_unfinished,
            limits.max_stored_bytes,
            body_bytes,
            await self._memory_percent(generation_id) >= self._settings.max_memory_percent,
            reservation_of(generation_id, api, request, options, limits, self._upstreams),
        )

    async def is_beyond_unfinished(self, owner: str) -> bool:
        """Whether as many of the owner's generations wait or run as may: the exact count. The load's may hold some
        whose deadline has passed."""
        count = await self._queue.index.unfinished_of(owner, await self._log.server.now())
        return count >= self._limits_of(owner).max_unfinished

    def check(self, owner: str, load: Load) -> None:
        """
        Raises:
            RateLimited: too many generations wait, or the owner creates too many in a minute, or uses too many tokens.
            ConcurrencyLimited: too many of this owner's wait or run.
            StorageLimited: too much is stored for this owner. (Generations that are being created are not counted
                yet, so that concurrent requests may exceed the limit by their own bodies.)
            QuotaExceeded: a budget of the owner is spent.
            Unavailable: Redis is nearly full.
        """
        self.tokens.note(owner, load.quota)
        if load.quota.refused:
            raise self._refusal(owner, load.quota.refused, load.quota.wait_ms / 1000)

    def _refusal(self, owner: str, limit: str, wait_s: float) -> TailraceError:
        """The answer to a creation that this limit refuses."""
        limits = self._limits_of(owner)
        retry_after = max(1, ceil(wait_s))
        match limit:
            case "requests":
                return self._rates.refusal(owner, wait_s)
            case "queue":
                return RateLimited("The queue is full. Try again in a moment.")
            case "unfinished":
                return ConcurrencyLimited(f"Concurrent generation limit reached ({limits.max_unfinished}).")
            case "stored":
                return StorageLimited(f"Storage limit of the caller reached ({size_text(limits.max_stored_bytes)}).")
            case "memory":
                return Unavailable("The log's server is nearly full.", retry_after=FULL_RETRY_S)
            case "tokens":
                message = f"Token limit of the caller reached ({limits.tokens_per_minute} a minute)."
                return RateLimited(message, retry_after=retry_after)
        period, _, unit = limit.partition("_")
        budget = getattr(limits, f"budget_{period}_{'usd' if unit == 'cost' else 'tokens'}")
        shown = f"{budget:g} US dollars" if unit == "cost" else f"{budget} tokens"
        return QuotaExceeded(
            f"The caller's budget of this {period} is spent ({shown}; days and months are UTC's).",
            retry_after=retry_after,
        )

    async def _memory_percent(self, generation_id: str) -> float:
        """Of the server that would have the log. (In a cluster others may have room: a repeated request has another id,
        and may come to one of them.)"""
        now, server = time.monotonic(), await self._log.server.find_primary(keys.state(generation_id))
        checked_at, percent = self._memory.get(server, (float("-inf"), 0.0))
        if now - checked_at > MAX_AGE_S:
            percent = await server.memory_percent()
            self._memory[server] = now, percent
        return percent
