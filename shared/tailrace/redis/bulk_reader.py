"""Reads one bulk string reply straight into a buffer of its size.

hiredis collects a reply in a buffer of its own before it makes an object of it, so a reply of 8 MB takes 16. Here the
bytes go from the socket to their place: an answer of 8 MB costs its reader 8 MB. Measured with `GET
/v1/generations/{id}` of an answer of 8.1 MiB, peak above the idle process: 16.0 MiB with the response that is sent,
24.4 through hiredis.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.redis.connection import COMMAND_TIMEOUT_S

HEADER_BYTES = 4096
END = b"\r\n"
SPARE_BYTES = 1
"""uvloop asks for a buffer once more after the last byte, and takes an empty one for an error."""


class ErrorReply(Exception):
    """Redis replied with an error, whose text this is."""


class BulkReader(asyncio.BufferedProtocol):
    """The protocol of a connection while it receives one reply. `reply` is completed with it.

    `former`: the protocol before and after; it also learns that the connection was lost.

    Raises, from `reply`:
        ConnectionResetError: the connection was lost before the reply was complete.
        ErrorReply: the reply is an error.
        ValueError: the reply has another type.
    """

    def __init__(self, former: asyncio.BaseProtocol | None = None) -> None:
        self._former = former
        self.reply: asyncio.Future[memoryview | None] = asyncio.get_running_loop().create_future()
        self._header = bytearray(HEADER_BYTES)
        self._body: bytearray | None = None
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the buffers have their sizes
        buffer = self._header if self._body is None else self._body
        return memoryview(buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._body is None:
            self._read_header()
        elif self._filled == len(self._body) - SPARE_BYTES:
            self._complete(memoryview(self._body)[: -len(END) - SPARE_BYTES])

    def _read_header(self) -> None:
        end = self._header.find(END, 0, self._filled)
        if end < 0:
            return
        kind, text = self._header[:1], bytes(self._header[1:end])
        if kind != b"$":
            self._fail(ErrorReply(text.decode()) if kind == b"-" else ValueError(f"not a bulk string: {bytes(kind)!r}"))
        elif text == b"-1":
            self._complete(None)
        else:
            start, self._body = end + len(END), bytearray(int(text) + len(END) + SPARE_BYTES)
            received = self._filled - start
            self._body[:received] = self._header[start : self._filled]
            self._filled = 0
            self.buffer_updated(received)

    def _complete(self, body: memoryview | None) -> None:
        if not self.reply.done():
            self.reply.set_result(body)

    def _fail(self, error: Exception) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._former:
            self._former.connection_lost(exc)  # redis-py waits for this call when it closes the connection
        self._fail(exc or ConnectionResetError("closed by the server"))


async def read_bulk(connection: Any, command: Sequence[Any]) -> memoryview | None:
    """The reply to a command on an idle connection of redis-py's, which afterwards is redis-py's again.

    The protocol is replaced before the command is written: redis-py's would keep the first bytes of the reply.

    Raises:
        ConnectionError: the connection was lost before the reply was complete.
        redis.exceptions.TimeoutError: no reply within `COMMAND_TIMEOUT_S`.
        redis.exceptions.ResponseError: the reply is an error.
    """
    transport = connection._writer.transport  # noqa: SLF001 - redis-py shows neither of its streams
    if transport.is_closing():
        raise ConnectionResetError("closed before the command")
    former = transport.get_protocol()
    reader = BulkReader(former)
    _replace_protocol(transport, reader)
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            transport.writelines(connection.pack_command(*command))
            return await reader.reply
    except TimeoutError as error:
        raise RedisTimeoutError("no reply in time") from error
    except ErrorReply as error:
        raise connection._parser.parse_error(str(error)) from error  # noqa: SLF001 - the class for the first word
    finally:
        if not transport.is_closing():
            _replace_protocol(transport, former)


def _replace_protocol(transport: Any, protocol: asyncio.BaseProtocol) -> None:
    """Replace it while reading is paused: uvloop chooses how to read, by the protocol's type, when reading starts."""
    transport.pause_reading()
    transport.set_protocol(protocol)
    transport.resume_reading()
