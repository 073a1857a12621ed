"""One hub a process: the event streams that it serves, and the logs that they follow.

One subscriber connection receives what is appended to every followed log. Appends are published with their ids, so a
live reader needs nothing else from Redis. Messages may be lost; entries are not, because a live tail holds only entries
that follow each other without a gap, and a reader whose position they do not continue reads the log itself.

The hub queues nothing. A live tail is bounded in bytes, and a reader that falls behind it pages through the log again.

Work that is due for thousands of readers at a time is spread over that time: done all at once, it delayed every event
(p99 of 10,000 readers: 146 ms).
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from tailrace import keys
from tailrace.errors import ConcurrencyLimited, RateLimited, RedisUnavailable, TailraceError
from tailrace.events import GenerationRecord
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import CallerLimits, LimitsOf
from tailrace.settings import Settings
from tailrace.stats import Stats
from tailrace.wire import Encode, WireFormat
from tailrace_frontend.streaming.delivery_counts import DeliveryCounts
from tailrace_frontend.streaming.live_tail import Follower, LiveTail
from tailrace_frontend.streaming.presence import Presence
from tailrace_frontend.streaming.recent_pages import RecentPages
from tailrace_frontend.turnstile import STAGES, Turnstile

TICK_S = 0.5
AT_ONCE = 50
CHECKED_AT_ONCE = 500
ARRIVALS_A_TURN = 6
"""Steps of readers that arrive, or that read a page, in a turn of the event loop: 2 ms at most."""

READ_INTERVAL_S = 0.002
"""Between two reads of many events: 26 µs of CPU each instead of 42, 1.2 ms later (4,000/s to 200 readers, 3 runs)."""

DRAIN_SHARE = 0.8
"""Of the grace period, for sending clients elsewhere; the rest is for the last of them to leave."""

ACTIVITIES = ("live", "catching_up", "blocked", "waiting")

logger = logging.getLogger(__name__)


class Connection(Protocol):
    """A client that is being served: an event stream, or a request that waits for an end."""

    @property
    def owner(self) -> str:
        """The caller's name; limits are counted by it."""

    def drain(self) -> None:
        """End soon, and have the client reconnect: this process is stopping."""

    def abort(self) -> None:
        """End now."""

    @property
    def activity(self) -> str:
        """What it does now: a value of the label `state` of `tailrace_readers`."""

    def check_access(self) -> None:
        """End, if the caller may no longer be served."""

    def tick(self, now: float) -> None:
        """The hub's clock, every `TICK_S`; `now` of `time.monotonic()`."""


class Hub:
    """The connections of this process, and the live tails of the logs that they follow."""

    def __init__(
        self, settings: Settings, log: Log, stats: Stats | None = None, limits_of: LimitsOf | None = None
    ) -> None:
        self.settings = settings
        self.stats = stats or Stats("frontend")
        self.delivery = DeliveryCounts(self.stats)
        self.log = log
        self.limits_of = limits_of or (lambda _: CallerLimits.of(self.settings))
        self.subscriber = log.server.subscriber(READ_INTERVAL_S)
        self.draining = False
        self._connections: set[Connection] = set()
        self._per_owner: Counter[str] = Counter()
        self._tails: dict[str, LiveTail] = {}
        self.presence = Presence(log)
        self.arrivals = Turnstile(ARRIVALS_A_TURN, STAGES)
        self.recent_pages = RecentPages()
        self._is_access_changed = asyncio.Event()
        self._last_left: asyncio.Event | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect the subscriber and begin the background loops."""
        self.subscriber.start()
        loops = {
            "tick": self._tick,
            "positions": self._check_silent,
            "access": self._check_access,
            "presence": self.presence.run,
        }
        self._tasks = [asyncio.create_task(_forever(loop), name=f"hub: {name}") for name, loop in loops.items()]

    async def close(self) -> None:
        """End the background loops. Connections are ended by `drain` before."""
        await cancel_and_wait(*self._tasks)
        await self.subscriber.close()

    @property
    def connections(self) -> list[Connection]:
        return list(self._connections)

    @property
    def count(self) -> int:
        """Connections being served."""
        return len(self._connections)

    @property
    def activities(self) -> Mapping[tuple[str, ...], float]:
        """How many connections do what."""
        counts = Counter(each.activity for each in self._connections)
        return {(state,): counts[state] for state in ACTIVITIES}

    def count_of(self, owner: str) -> int:
        """Connections of one caller."""
        return self._per_owner[owner]

    @property
    def counts(self) -> Mapping[str, int]:
        """Connections of each caller."""
        return self._per_owner

    @property
    def tails(self) -> int:
        """Logs being followed."""
        return len(self._tails)

    def connected_at(self, generation_id: str) -> float:
        """When the connection that receives what is appended to this log was made, of `time.monotonic()`."""
        return self.subscriber.of(keys.events(generation_id)).connected_at

    def is_away(self, generation_id: str) -> bool:
        """Whether the log's server has been away for longer than a restart or a failover should take."""
        return self._is_long(self.subscriber.of(keys.events(generation_id)).disconnected_since)

    @property
    def is_cut_off(self) -> bool:
        """Whether this process has not reached a server of logs for that long, which others may reach."""
        return self._is_long(self.subscriber.cut_off_since)

    def _is_long(self, since: float | None) -> bool:
        return since is not None and time.monotonic() - since > self.settings.restart_grace_s

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    def check_capacity(self, owner: str) -> None:
        """
        Raises:
            RateLimited: this process has as many connections as allowed.
            ConcurrencyLimited: the caller has.
        """
        most, limits = self.settings.max_readers, self.limits_of(owner)
        if self.count >= most:
            raise RateLimited(f"Concurrent stream limit of this frontend reached ({most}).")
        if self.count_of(owner) >= limits.max_readers:
            raise ConcurrencyLimited(f"Concurrent stream limit of the caller reached ({limits.max_readers}).")

    def join(self, connection: Connection) -> None:
        """Admit a connection and serve it until it leaves.

        Admission and joining are one synchronous step: no other connection can take the place in between.

        Raises:
            RateLimited: as `check_capacity`; the connection is not served.
        """
        self.check_capacity(connection.owner)
        self._connections.add(connection)
        self._per_owner[connection.owner] += 1
        if self.draining:
            connection.drain()

    def leave(self, connection: Connection) -> None:
        """Undo `join`."""
        self._connections.discard(connection)
        self._per_owner[connection.owner] -= 1
        if not self._per_owner[connection.owner]:
            del self._per_owner[connection.owner]
        if self._last_left and not self._connections:
            self._last_left.set()

    def check_access(self) -> None:
        """End the connections of keys, tickets and callers that are refused from now on."""
        self._is_access_changed.set()

    async def drain(self, grace_s: float) -> None:
        """Send every client elsewhere, spread over the grace period. Connections that are left then are aborted."""
        self.draining = True
        loop = asyncio.get_running_loop()
        for connection, delay_s in zip(self._connections, drain_delays(self.count, grace_s), strict=True):
            loop.call_later(delay_s, connection.drain)
        if self._connections:
            self._last_left = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._last_left.wait()
            for connection in self.connections:
                connection.abort()

    def readers_of(self, generation_id: str) -> int:
        """Event streams of this process that read one log. Requests that wait for its end, and operators, are not among
        them."""
        tail = self._tails.get(generation_id)
        return tail.readers if tail else 0

    def is_followed(self, generation_id: str) -> bool:
        """Whether anyone follows the log at this process: a reader, a request that waits for its end, an operator."""
        return generation_id in self._tails

    # ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def subscribe(
        self,
        follower: Follower,
        record: GenerationRecord,
        wire: WireFormat | None = None,
        encode: Encode | None = None,
        *,
        live: bool = True,
        watches: bool = False,
    ) -> LiveTail:
        """Follow a log until `unsubscribe`. `live`: receive what is appended, which a finished log does not need.
        `watches`: the follower is an operator, who keeps no generation alive."""
        tail = self._tails.get(record.id)
        if tail is None:
            tail = self._tails[record.id] = LiveTail(record, self.delivery, self.recent_pages)
        if live:
            self.listen(tail)
        if watches:
            tail.watchers += 1
        elif not tail.is_read:
            self.presence.add(record)
        tail.attach(follower, wire, encode)
        return tail

    def listen(self, tail: LiveTail) -> None:
        """Receive what is appended to a log from now on. Its `resync_count` rises once the server has confirmed."""
        if not tail.subscribed:
            tail.subscribed = True
            self.subscriber.add(keys.events(tail.record.id), tail.on_message)

    def awaits_confirmation(self, tail: LiveTail) -> bool:
        """Whether to read a log only once its subscription is confirmed: an earlier page is read again then. A reader
        that is alone has its page sooner that way; where many arrive, it would cost the others a read."""
        if tail.resync_count or not tail.subscribed or not self.arrivals.waiting:
            return False
        return self.subscriber.of(keys.events(tail.record.id)).connected

    def unsubscribe(
        self, follower: Follower, generation_id: str, wire: WireFormat | None = None, *, watches: bool = False
    ) -> None:
        """Undo `subscribe`."""
        tail = self._tails[generation_id]
        tail.detach(follower, wire)
        if watches:
            tail.watchers -= 1
        elif not tail.is_read:
            self.presence.remove(tail.record)
        if not tail.is_followed:
            del self._tails[generation_id]
            if tail.subscribed:
                self.subscriber.remove(keys.events(generation_id))

    # ── background loops ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _tick(self) -> None:
        """The one clock of all connections: keep-alives, write timeouts, retries, the end of a grace period."""
        while True:
            connections = self.connections
            pause_s = TICK_S / (len(connections) // AT_ONCE + 1)
            for start in range(0, len(connections) + 1, AT_ONCE):
                now = time.monotonic()
                for connection in connections[start : start + AT_ONCE]:
                    try:
                        connection.tick(now)
                    except Exception:  # it concerns this connection alone
                        logger.exception("a connection of %s failed and is aborted", connection.owner)
                        connection.abort()
                await asyncio.sleep(pause_s)
            self.recent_pages.age()

    async def _check_access(self) -> None:
        """Check all connections after each change: 10,000 take 20 ms, in steps."""
        while True:
            await self._is_access_changed.wait()
            self._is_access_changed.clear()
            connections = self.connections
            for start in range(0, len(connections), CHECKED_AT_ONCE):
                for connection in connections[start : start + CHECKED_AT_ONCE]:
                    connection.check_access()
                await asyncio.sleep(0)

    async def _check_silent(self) -> None:
        """Read the position of each log that was silent for a keep-alive interval. A lost message thereby costs an
        interval, and not the stream."""
        while True:
            await asyncio.sleep(TICK_S)
            before = time.monotonic() - self.settings.keepalive_s
            silent = [tail for tail in self._tails.values() if tail.verified_at <= before and tail.subscribed]
            for start in range(0, len(silent), AT_ONCE):
                await self._check_positions(silent[start : start + AT_ONCE])

    async def _check_positions(self, tails: list[LiveTail]) -> None:
        """A failure is ignored: the next round reads again, and `is_away` limits how long Redis may stay away."""
        with contextlib.suppress(RedisUnavailable):
            positions = await self.log.positions([tail.record.id for tail in tails])
            for tail, position in zip(tails, positions, strict=True):
                if not isinstance(position, TailraceError):
                    tail.on_position(position)


def drain_delays(count: int, grace_s: float) -> Iterator[float]:
    """When each of so many clients is sent elsewhere: in equal parts of most of the grace period, somewhere in its
    part. So no second has more than its share, and other processes that stop have other moments. (The order of a set
    has nothing to do with who has come first.)"""
    part_s = DRAIN_SHARE * grace_s / max(1, count)
    return ((number + random.random()) * part_s for number in range(count))  # noqa: S311 - spreads load


async def _forever(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a background loop; nothing awaits it, so an error is logged and the loop starts again."""
    while True:
        try:
            await loop()
        except Exception:
            logger.exception("background loop failed")
        await asyncio.sleep(TICK_S)
