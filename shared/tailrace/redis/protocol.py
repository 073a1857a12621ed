"""An asyncio protocol that takes over a connection of redis-py's.

redis-py connects, because it knows TLS, ACL users, databases and Sentinel. Then this protocol replaces redis-py's
stream on the socket: hiredis parses in the callback that received the bytes, and each reply is passed on from there,
without waking a task or setting a timer. With a `throttle`, the socket is left unread for a moment when many bytes
come.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import hiredis

from tailrace.process.throttle import Throttle


class RedisProtocol(asyncio.Protocol):
    """One connection, after its handshake.

    `on_reply` receives each reply, `on_close` the reason for the end, once. `active` is set by every read; the owner
    clears it.
    """

    def __init__(
        self,
        connection: Any,
        on_reply: Callable[[Any], None],
        on_close: Callable[[Exception], None],
        throttle: Throttle | None = None,
        **options: Any,
    ) -> None:
        self._on_reply = on_reply
        self._on_close: Callable[[Exception], None] | None = on_close
        self._throttle = throttle
        self._parser = hiredis.Reader(**options)
        self._transport = connection._writer.transport  # noqa: SLF001 - redis-py shows neither of its streams
        if self._transport.is_closing() or connection._reader.at_eof():  # noqa: SLF001
            # redis-py's stream has seen the end already, and this protocol would not see it.
            raise ConnectionResetError("closed before it could be used")
        self._former = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self.active = True

    def write(self, parts: Iterable[bytes]) -> None:
        """Write without waiting; nothing, once the connection is lost. The reading side reports the loss.

        (After a failed write the report comes one turn of the event loop later. Until then asyncio discards what is
        written, and logs a warning for each write after the fifth; uvloop raises once it has closed the socket.)
        """
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    def data_received(self, data: bytes) -> None:
        self.active = True
        self._parser.feed(data)
        try:
            while (reply := self._parser.gets()) is not False:
                self._on_reply(reply)
        except hiredis.HiredisError as error:
            return self.cut(error)
        if self._throttle and (pause_s := self._throttle.charge()) > 0 and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(pause_s, self._read_on)
        return None

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._former.connection_lost(exc)  # redis-py waits for this call when it closes the connection
        self._end(exc or ConnectionResetError("closed by the server"))

    def cut(self, why: Exception) -> None:
        self._end(why)
        self._transport.abort()

    def _end(self, why: Exception) -> None:
        if self._on_close:
            on_close, self._on_close = self._on_close, None
            on_close(why)
