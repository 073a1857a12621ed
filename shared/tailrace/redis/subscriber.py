"""One connection that listens to many channels.

Sharded pub/sub (`SSUBSCRIBE`) works on a single node and on a cluster alike, and redis-py's asyncio client does not
have it. Listeners are called from the very callback that received the bytes (`protocol`): a listener may write at once
to the sockets of those who wait for it.

A message may be lost while the connection is down; nobody here pretends otherwise. After every (re)connect each
listener is told `None`: look for yourself.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tailrace.process.tasks import cancel_and_wait
from tailrace.process.throttle import Throttle
from tailrace.redis.connection import CONNECT_TIMEOUT_S
from tailrace.redis.protocol import RedisProtocol

Listener = Callable[[bytes | None], None]
"""Called with each message, and with None when some may have been missed."""

logger = logging.getLogger(__name__)

BACKOFF_S = (0.05, 0.1, 0.2, 0.4, 0.8)
PING_S = 2.0  # a black-holed connection is noticed after two of these


class Subscriber:
    """Listens until closed; reconnects by itself. `connected` tells whether it hears anything right now.

    `throttle`: what comes too fast for it is read together.
    """

    def __init__(self, redis: Redis, throttle: Throttle | None = None) -> None:
        self._pool = redis.connection_pool
        self._throttle = throttle
        self._connection: Any = None
        self._protocol: RedisProtocol | None = None
        self._listeners: dict[bytes, Listener] = {}
        self._task: asyncio.Task[None] | None = None
        self._pinging: asyncio.TimerHandle | None = None
        self.connected = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="subscriber")

    async def close(self) -> None:
        await cancel_and_wait(self._task)
        await self._disconnect()

    def add(self, channel: str, listener: Listener) -> None:
        """Listen to a channel. The listener is told None once the server has confirmed it."""
        self._listeners[channel.encode()] = listener
        self._send("SSUBSCRIBE", channel)

    def remove(self, channel: str) -> None:
        if self._listeners.pop(channel.encode(), None):
            self._send("SUNSUBSCRIBE", channel)

    def _send(self, command: str, *channels: str | bytes) -> None:
        if self._protocol is not None:
            self._protocol.write(self._connection.pack_command(command, *channels))

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                ended = await self._connect()
                failures = 0
                await ended
            except (RedisError, hiredis.HiredisError, OSError, EOFError, TimeoutError) as error:
                if failures == 0:
                    logger.warning("subscriber: %s: %s", type(error).__name__, error)
                await self._disconnect()
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1

    async def _connect(self) -> "asyncio.Future[None]":
        """Raises, once awaited, what ended the line."""
        self._connection = self._pool.make_connection()
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            await self._connection.connect()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_close(why: Exception) -> None:
            if not ended.done():
                ended.set_exception(why)

        protocol = self._protocol = RedisProtocol(self._connection, self._on_reply, on_close, self._throttle)
        self.connected = True
        for channel in list(self._listeners):
            self._send("SSUBSCRIBE", channel)
        self._ping(protocol)
        return ended

    def _on_reply(self, reply: Any) -> None:
        match reply:
            case [b"smessage", channel, payload]:
                if listener := self._listeners.get(channel):
                    listener(payload)
            case [b"ssubscribe", channel, _]:
                if listener := self._listeners.get(channel):
                    listener(None)
            case hiredis.ReplyError():
                raise reply

    def _ping(self, protocol: RedisProtocol) -> None:
        """Every few seconds: ask for a sign of life, and cut a line that gave none to the last asking."""
        if not protocol.active:
            return protocol.cut(TimeoutError("no sign of life"))
        protocol.active = False
        self._send("PING")
        self._pinging = asyncio.get_running_loop().call_later(PING_S, self._ping, protocol)
        return None

    async def _disconnect(self) -> None:
        self.connected = False
        self._protocol = None
        if self._pinging:
            self._pinging.cancel()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)
