"""Requests that callers may send, so that no caller takes the time of the others.

Each frontend counts the requests of each caller, before it reads their bodies, by GCRA (the generic cell rate
algorithm, ITU-T I.371). A request costs one unit, and one more for each `UNIT_BYTES` of its body. Measured, on a
machine with other work: a POST takes 0.9 ms of a frontend's CPU, one of 8 MiB takes 82 ms and as much of Redis', in one
piece. So the largest body is worth 20 s of requests, and delays less than one in a hundred requests of others. Opening
an event stream is counted apart: there a burst may be as large as the number of readers that the caller may have,
because after a restart all of them reconnect at once. The streams of such a burst are opened one every
`STREAM_INTERVAL_S`. Creations are counted once more over all frontends (`load.lua`).

A request beyond the rate is refused after a delay: a client that repeats at once is slowed down, instead of costing a
frontend as much as if it were served.

Requests within the rate that come at once are served a few at a time (`turn`), so that another caller's request waits
for a few of them, and not for a burst.

What a request reads is known once it has been read. It is charged then, one unit for each `UNIT_READ_BYTES`, and a
caller reads one generation at a time: 24 clients that read one of 8 MiB made another caller's POST take 250 ms instead
of 5.

Open mode has one caller, which needs no protection from itself: nothing is counted.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import NamedTuple

from tailrace.errors import RateLimited
from tailrace.queue import FREE, Charge, LimitsOf, limits_of_settings
from tailrace.settings import KIB, MIB, Settings
from tailrace_frontend.per_owner import PerOwner, Turns

UNIT_BYTES = 4 * KIB
UNIT_READ_BYTES = 64 * KIB
UNIT_ITEMS = 20
BURST_S = 2.0
"""A caller may be so far ahead of the rate: so many seconds' worth of requests may come at once."""

DELAY_S = 1.0
DISCARDED_BYTES_S = 4 * MIB
"""A refusal is late by `DELAY_S`, and by the time that its body takes at this speed. The body is read and discarded
after the answer: 32 clients that sent 8 MiB each at once held up all others by 2.2 s. (Closed instead, the connection
is reset while its client writes, and the client does not see why.) A client that leaves meanwhile keeps its connection
until then, 4.5 s at most with the default `TAILRACE_MAX_BODY_BYTES`."""

STREAM_INTERVAL_S = 0.002
"""Between two event streams of one caller, so that 2,500 are open after 5 s. While a caller opens and leaves as many as
it may, the p99 of another's GET is 7 to 9 ms, 12 to 14 with an interval of 1 ms, and 4 without (8 s, twice)."""

TURNS = 4
"""Requests of one caller that a frontend works on at the same time, once their bodies are there."""

BODY_PAUSE_S = 60.0
"""A body whose next part comes later is another one."""


def units(body_bytes: int, items: int = 0) -> int:
    """The cost of a request with such a body, or for a list of so many items (100 of them: 3.8 ms of CPU)."""
    return 1 + body_bytes // UNIT_BYTES + items // UNIT_ITEMS


class Allowance(NamedTuple):
    """The requests that a caller may send: in a minute, at once, and the seconds until as many as ever."""

    limit: int
    remaining: int
    reset_s: float


class Pace(NamedTuple):
    """One unit every `interval_s`, and up to `burst_s` ahead of that."""

    interval_s: float
    burst_s: float


class PartOfBody(NamedTuple):
    """A mark of the body of which a part was counted last, and when."""

    body: object
    at: float


class Debt(NamedTuple):
    """What a caller had not paid for when it was last charged: in seconds, at this interval between two units."""

    at: float
    ahead_s: float
    interval_s: float

    def paid_at(self, interval_s: float) -> float:
        """When all is paid for. A shorter interval than that of the charge holds at once, a longer one does not: the
        charge was within the rate of its time."""
        return self.at + self.ahead_s * min(1.0, interval_s / self.interval_s)


class Rate:
    """One kind of request of all callers. `pace_of`: of a caller, as its limits are now."""

    def __init__(self, pace_of: Callable[[str], Pace]) -> None:
        self._pace_of = pace_of
        self._debts = PerOwner[Debt](lambda debt: debt.at + debt.ahead_s <= time.monotonic())

    def __len__(self) -> int:
        """Callers of which something is kept."""
        return len(self._debts)

    def charge(self, owner: str, cost: int) -> float:
        """Count a request, unless the caller is too far ahead: the seconds until it is not; 0: counted."""
        beyond_s = self.ahead_s(owner) - self._pace_of(owner).burst_s
        if beyond_s > 0:
            return beyond_s
        self.add(owner, cost)
        return 0.0

    def ahead_s(self, owner: str) -> float:
        """How far the caller is ahead of the rate."""
        debt = self._debts.get(owner)
        return max(0.0, debt.paid_at(self._pace_of(owner).interval_s) - time.monotonic()) if debt else 0.0

    def add(self, owner: str, cost: int) -> None:
        """Count what cannot be refused any more."""
        ahead_s, interval_s = self.ahead_s(owner), self._pace_of(owner).interval_s
        self._debts.set(owner, Debt(time.monotonic(), ahead_s + cost * interval_s, interval_s))


class RateLimits:
    """The rates of one frontend's callers. `limits_of`: of a caller, now; by default those of the settings."""

    def __init__(self, settings: Settings, limits_of: LimitsOf | None = None) -> None:
        self._settings = settings
        self._limits_of = limits_of or limits_of_settings(settings)
        self._requests = Rate(self._pace_of_requests)
        self._turns = Turns(TURNS)
        self._reading = Turns(1)
        self._last_body = PerOwner[PartOfBody](lambda part: part.at + BODY_PAUSE_S < time.monotonic())
        self._streams = Rate(self._pace_of_streams)
        self._opens_at = PerOwner[float](lambda at: at + STREAM_INTERVAL_S < time.monotonic())

    def _pace_of_requests(self, owner: str) -> Pace:
        return Pace(60 / self._limits_of(owner).requests_per_minute, BURST_S)

    def _pace_of_streams(self, owner: str) -> Pace:
        limits = self._limits_of(owner)
        interval_s = 60 / limits.requests_per_minute
        return Pace(interval_s, BURST_S + limits.max_readers * interval_s)

    async def charge_request(
        self, owner: str, body_bytes: int = 0, items: int = 0, *, most_bytes: int | None = None
    ) -> None:
        """Count a request with such a body, or one for a list of so many items. `most_bytes`: what its client may send,
        where that is not announced.

        Raises:
            RateLimited: the caller sends too many requests.
        """
        await self._charge(self._requests, owner, units(body_bytes, items), most_bytes or body_bytes)

    async def charge_body(self, owner: str, body: object, received: int, more: int) -> None:
        """Count `more` bytes of a body whose length was not announced, of which `received` were counted before.

        As an announced one, a body may cost more than the rate allows. Then the caller's other bodies are refused.

        Raises:
            RateLimited: the caller sends too much.
        """
        if not self._settings.has_callers:
            return
        cost = units(received + more) - units(received)
        last = self._last_body.get(owner)
        if wait_s := self._requests.charge(owner, cost):
            if last is None or last.body is not body:
                raise await self._late_refusal(owner, wait_s, self._settings.max_body_bytes)
            self._requests.add(owner, cost)
        self._last_body.set(owner, PartOfBody(body, time.monotonic()))

    @asynccontextmanager
    async def reading(self, owner: str) -> AsyncIterator[None]:
        """Waits until the caller reads no other generation.

        Raises:
            RateLimited: the caller has read too much meanwhile.
        """
        if not self._settings.has_callers:
            yield
            return
        async with self._reading.of(owner):
            wait_s = self._requests.charge(owner, 0)
            if not wait_s:
                yield
        if wait_s:
            raise await self._late_refusal(owner, wait_s)

    def charge_answer(self, owner: str, answer_bytes: int) -> None:
        """Count what a request has read."""
        if self._settings.has_callers:
            self._requests.add(owner, answer_bytes // UNIT_READ_BYTES)

    async def charge_stream(self, owner: str) -> None:
        """Count an event stream, and wait for its turn to be opened.

        Raises:
            RateLimited: the caller opens too many event streams.
        """
        await self._charge(self._streams, owner, 1, 0)
        if self._settings.has_callers:
            now = time.monotonic()
            opens_at = max(now, (self._opens_at.get(owner) or 0.0) + STREAM_INTERVAL_S)
            self._opens_at.set(owner, opens_at)
            await asyncio.sleep(opens_at - now)

    def allowance(self, owner: str) -> Allowance:
        """The requests that the caller may send to this frontend now."""
        limit, ahead_s = self._limits_of(owner).requests_per_minute, self._requests.ahead_s(owner)
        remaining = 0 if ahead_s > BURST_S else 1 + int((BURST_S - ahead_s) * limit / 60)
        return Allowance(limit, remaining, ahead_s)

    def turn(self, owner: str) -> AbstractAsyncContextManager[None]:
        """Waits until fewer than `TURNS` requests of the caller are being worked on, in the order of the calls."""
        if not self._settings.has_callers:
            return nullcontext()
        return self._turns.of(owner)

    def creation(self, owner: str, body_bytes: int) -> Charge:
        """The cost of the creation of a generation, in the rate over all frontends."""
        if not self._settings.has_callers:
            return FREE
        return Charge(units(body_bytes), 1000 * self._pace_of_requests(owner).interval_s, 1000 * BURST_S)

    async def _charge(self, rate: Rate, owner: str, cost: int, body_bytes: int) -> None:
        if not self._settings.has_callers:
            return
        if wait_s := rate.charge(owner, cost):
            raise await self._late_refusal(owner, wait_s, body_bytes)

    async def _late_refusal(self, owner: str, wait_s: float, body_bytes: int = 0) -> RateLimited:
        delay_s = (DELAY_S + body_bytes / DISCARDED_BYTES_S) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
        await asyncio.sleep(delay_s)
        return self.refusal(owner, wait_s - delay_s)

    def refusal(self, owner: str, wait_s: float) -> RateLimited:
        """The answer to a request that would be within the rate after `wait_s`."""
        limit = self._limits_of(owner).requests_per_minute
        retry_after = max(1, math.ceil(wait_s))
        return RateLimited(f"Request limit of the caller reached ({limit} a minute).", retry_after=retry_after)
