"""One connection that receives the messages of many channels.

Channels are sharded (`SSUBSCRIBE`): that works on a single node and on a cluster alike, and redis-py's asyncio client
lacks it. A listener is called from the callback that received the bytes (`protocol`), so it can write to its clients'
sockets at once.

Messages that are published while the connection is down are lost. After every (re)connection each listener is called
with `None`: it has to read the current state itself.

The connection's state changes in two places only, `_on_connected` and `_on_disconnected`, at the moment of the change.
Whether Redis is away, and since when, derives from there. (Sampling the state instead took two short outages between
two samples for one long outage.)
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tailrace.process.tasks import cancel_and_wait
from tailrace.process.throttle import Throttle
from tailrace.redis.channels import Channels, Listener
from tailrace.redis.connection import CONNECT_TIMEOUT_S, TRANSIENT_ERRORS
from tailrace.redis.hash_slots import slot_of
from tailrace.redis.outage import OutageLog
from tailrace.redis.protocol import RedisProtocol

OnRedirect = Callable[[int | bytes], None]
"""Called where a server of a cluster no longer has a channel: with the channel, or with its slot."""

logger = logging.getLogger(__name__)

BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)
CONNECTION_ERRORS = (RedisError, hiredis.HiredisError, OSError, EOFError)
"""Expected while a server is away. Any other error is a defect, and is logged with its traceback."""

AT_ONCE = 250
PAUSE_S = 0.005
"""A new connection subscribes to so many channels at a time, with a pause in between: to 10,000 within 0.2 s."""

PING_S = 2.0
"""Interval of pings. A connection whose packets vanish is closed after two intervals."""


class Subscriber(Channels):
    """Receives until closed; reconnects by itself.

    `throttle`: messages that arrive faster are read together. `disconnected_since`: when the connection was lost, or
    when the subscriber was made if there was none yet; None while connected. `connected_at`: when the newest connection
    was made. Both are of `time.monotonic()`. A connection counts from its first reply: a server may accept connections
    and refuse subscriptions. `on_connected` is called then.

    A server of a cluster ends the subscriptions of slots that it gives away, and refuses those of slots that it does
    not have. Both are reported to `on_redirect`.
    """

    def __init__(
        self,
        redis: Redis,
        throttle: Throttle | None = None,
        outages: OutageLog | None = None,
        on_connected: Callable[[], None] | None = None,
        on_redirect: OnRedirect | None = None,
    ) -> None:
        self._on_connected_call = on_connected
        self._on_redirect = on_redirect
        self._pool = redis.connection_pool
        self._throttle = throttle
        self._outages = outages or OutageLog()
        self._connection: Any = None
        self._protocol: RedisProtocol | None = None
        self._unsent: list[bytes] = []
        self._listeners: dict[bytes, Listener] = {}
        self._task: asyncio.Task[None] | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._is_reported = False
        self._disconnected_since: float | None = time.monotonic()
        self._connected_at = float("-inf")

    @property
    def disconnected_since(self) -> float | None:
        return self._disconnected_since

    @property
    def connected_at(self) -> float:
        return self._connected_at

    def start(self) -> None:
        """Connect in the background."""
        self._task = asyncio.create_task(self._run(), name="subscriber")

    async def close(self) -> None:
        """Disconnect for good."""
        await cancel_and_wait(self._task)
        await self._disconnect()

    def reconnect_from_before(self, moment: float) -> None:
        """Connect again, unless the connection was made after that moment (`time.monotonic()`)."""
        if self._protocol is not None and self.connected_at <= moment:
            self._protocol.cut(ConnectionResetError("the address leads to another server"))

    def add(self, channel: str, listener: Listener) -> None:
        """Subscribe to a channel. The listener is called with None once the server has confirmed."""
        self._listeners[channel.encode()] = listener
        self._send("SSUBSCRIBE", channel)

    def remove(self, channel: str) -> None:
        """Unsubscribe; without effect on a channel that has no listener."""
        if self._listeners.pop(channel.encode(), None):
            self._send("SUNSUBSCRIBE", channel)

    def _send(self, command: str, *channels: str | bytes) -> None:
        """Send a command with the others of this turn of the event loop: of the readers that arrive in it, each
        follows a log of its own, and a write takes 25 µs."""
        if self._protocol is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent += self._connection.pack_command(command, *channels)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._protocol is not None:
            self._protocol.write(unsent)

    async def _run(self) -> None:
        while True:
            try:
                await self._disconnect()  # here, because closing a connection may raise as well
                closed = await self._connect()
                await closed
            except Exception as error:  # noqa: BLE001 - every listener depends on this task, and nothing awaits it
                self._report(error)
                self._on_disconnected()
                await asyncio.sleep(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
                self._failures += 1

    def _report(self, error: Exception) -> None:
        """Log why there is no connection: an outage as such, anything else once."""
        if isinstance(error, TRANSIENT_ERRORS):
            self._outages.report_failure("subscriber", error)
        elif not self._is_reported:
            self._is_reported = True
            expected = isinstance(error, CONNECTION_ERRORS)
            logger.warning("subscriber: %s: %s", type(error).__name__, error, exc_info=not expected)

    async def _connect(self) -> "asyncio.Future[None]":
        """A future that raises, once awaited, why the connection was closed."""
        self._connection = self._pool.make_connection()
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            await self._connection.connect()
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_close(why: Exception) -> None:
            if self._protocol is protocol:
                self._on_disconnected()
            if not closed.done():
                closed.set_exception(why)

        protocol = RedisProtocol(self._connection, self._on_reply, on_close, self._throttle)
        self._protocol = protocol
        self._resubscribe(protocol, _by_slot(self._listeners))
        self._ping(protocol)
        return closed

    def _resubscribe(self, protocol: RedisProtocol, commands: Iterator[Sequence[bytes]]) -> None:
        """Subscribe to all channels anew, some at a time: each confirmation has the readers of a log read it."""
        count = 0
        while count < AT_ONCE and (channels := next(commands, None)) is not None:
            if kept := [each for each in channels if each in self._listeners]:
                self._send("SSUBSCRIBE", *kept)
                count += len(kept)
        if count >= AT_ONCE:
            asyncio.get_running_loop().call_later(PAUSE_S, self._resubscribe_on, protocol, commands)

    def _resubscribe_on(self, protocol: RedisProtocol, commands: Iterator[Sequence[bytes]]) -> None:
        if self._protocol is protocol:
            self._resubscribe(protocol, commands)

    def _on_connected(self) -> None:
        self._failures, self._is_reported = 0, False
        self._outages.report_success("subscriber")
        self._connected_at = time.monotonic()
        self._disconnected_since = None
        if self._on_connected_call:
            self._on_connected_call()

    def _on_disconnected(self) -> None:
        self._protocol = None
        self._unsent.clear()
        if self._disconnected_since is None:
            self._disconnected_since = time.monotonic()

    def _on_reply(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            if self._on_redirect is None or not str(reply).startswith("MOVED "):
                raise reply
            self._on_redirect(int(str(reply).split(" ")[1]))
        if self._disconnected_since is not None:
            self._on_connected()
        match reply:
            case [b"smessage", channel, payload]:
                self._notify(channel, payload)
            case [b"ssubscribe", channel, _]:
                self._notify(channel, None)
            case [b"sunsubscribe", channel, _] if self._on_redirect and channel in self._listeners:
                self._on_redirect(channel)  # by the server, or before the channel was added again

    def _notify(self, channel: bytes, message: bytes | None) -> None:
        """Call the channel's listener. An error concerns this listener alone: the connection serves all others."""
        try:
            if listener := self._listeners.get(channel):
                listener(message)
        except Exception:
            logger.exception("subscriber: the listener of %s failed", channel.decode())

    def _ping(self, protocol: RedisProtocol) -> None:
        """Send a ping every `PING_S`, and close a connection that has received nothing since the last one."""
        if not protocol.active:
            return protocol.cut(TimeoutError("no reply to a ping"))
        protocol.active = False
        self._send("PING")
        self._ping_timer = asyncio.get_running_loop().call_later(PING_S, self._ping, protocol)
        return None

    async def _disconnect(self) -> None:
        self._on_disconnected()
        if self._ping_timer:
            self._ping_timer.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)


def _by_slot(channels: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    """The channels by their hash slot: a server of a cluster refuses a command with channels of several."""
    of_slot: dict[int, list[bytes]] = {}
    for channel in channels:
        of_slot.setdefault(slot_of(channel.decode()), []).append(channel)
    return iter(of_slot.values())
