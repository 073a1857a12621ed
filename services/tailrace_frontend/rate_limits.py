"""Requests that callers may send, so that no caller takes the time of the others.

Each frontend counts the requests of each caller, before it reads their bodies, by GCRA (the generic cell rate
algorithm, ITU-T I.371). A request costs one unit, and one more for each `UNIT_BYTES` of its body, because a body of
megabytes takes as long as hundreds of small requests. Opening an event stream is counted apart: there a burst may be as
large as the number of readers that the caller may have, because after a restart all of them reconnect at once.
Creations are counted once more over all frontends (`load.lua`).

A request beyond the rate is refused after a delay: a client that repeats at once is slowed down, instead of costing a
frontend as much as if it were served. (A caller with 32 connections that repeated at once was refused 1,900 times a
second without the delay.)

Open mode has one caller, which needs no protection from itself: nothing is counted.
"""

import asyncio
import math
import time

from tailrace.errors import RateLimited
from tailrace.queue import FREE, Charge
from tailrace.settings import Settings

UNIT_BYTES = 16 * 1024
BURST_S = 2.0
"""A caller may be so far ahead of the rate: so many seconds' worth of requests may come at once."""

MAX_DELAY_S = 1.0
"""Longest delay of a refusal."""


def units(body_bytes: int) -> int:
    """What a request with such a body costs."""
    return 1 + body_bytes // UNIT_BYTES


class Rate:
    """One kind of request of all callers, one unit every `interval_s` each, and up to `burst_s` ahead of that."""

    def __init__(self, interval_s: float, burst_s: float) -> None:
        self._interval_s = interval_s
        self._burst_s = burst_s
        self._paid_at: dict[str, float] = {}

    def charge(self, owner: str, cost: int) -> float:
        """Count a request, unless the caller is too far ahead: the seconds until it is not; 0: counted."""
        now = time.monotonic()
        paid_at = max(self._paid_at.get(owner, 0.0), now)
        if paid_at - now > self._burst_s:
            return paid_at - now - self._burst_s
        self._paid_at[owner] = paid_at + cost * self._interval_s
        return 0.0


class RateLimits:
    """The rates of one frontend's callers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        interval_s = 60 / settings.max_requests_per_minute_per_caller
        self._requests = Rate(interval_s, BURST_S)
        self._streams = Rate(interval_s, BURST_S + settings.max_readers_per_caller * interval_s)

    async def charge_request(self, owner: str, cost: int) -> None:
        """
        Raises:
            RateLimited: the caller sends too many requests.
        """
        await self._charge(self._requests, owner, cost)

    async def charge_stream(self, owner: str) -> None:
        """
        Raises:
            RateLimited: the caller opens too many event streams.
        """
        await self._charge(self._streams, owner, 1)

    def creation(self, body_bytes: int) -> Charge:
        """What the creation of a generation costs of the rate over all frontends."""
        if not self._settings.has_callers:
            return FREE
        interval_ms = 60_000 / self._settings.max_requests_per_minute_per_caller
        return Charge(units(body_bytes) * interval_ms, BURST_S * 1000)

    async def _charge(self, rate: Rate, owner: str, cost: int) -> None:
        if not self._settings.has_callers:
            return
        if wait_s := rate.charge(owner, cost):
            await asyncio.sleep(min(wait_s, MAX_DELAY_S))
            raise self.refusal(wait_s)

    def refusal(self, wait_s: float) -> RateLimited:
        """The answer to a request that would be within the rate after `wait_s`."""
        limit = self._settings.max_requests_per_minute_per_caller
        return RateLimited(f"Request limit of the caller reached ({limit} a minute).", retry_after=math.ceil(wait_s))
