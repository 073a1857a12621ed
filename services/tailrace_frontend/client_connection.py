"""The state of a client's connection that uvicorn knows and ASGI does not expose.

uvicorn's `send` reports no error after a disconnect, and an application that returns while the socket is full leaves
the socket and its buffer open indefinitely. The protocol therefore puts a `ClientConnection` into the scope. It reports
whether the connection is lost and whether the socket is full, aborts the connection, and writes without a task.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest

UNCOPIED_BYTES = 16 * 1024
"""A chunk of this size is not copied into its frame, but written in three parts."""

SCOPE = "tailrace.connection"
"""Key of the `ClientConnection` in an ASGI scope."""


class ClientConnection:
    """One client's connection. `on_lost` is called once, when the connection is lost."""

    __slots__ = ("_flow", "_transport", "lost", "on_lost")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        """Write a chunk of a response body, framed as uvicorn's `send` would frame it.

        The response must have started without a content length, and the request must not be HEAD. The call returns at
        once and needs no task, so a callback that receives an entry can write it directly.
        """
        if self._transport.is_closing():
            return
        if len(data) < UNCOPIED_BYTES:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))

    @property
    def is_full(self) -> bool:
        """Whether the write buffer is above its limit because the client reads too slowly."""
        return self._flow.write_paused

    async def drained(self) -> None:
        """Wait until the write buffer is below its limit again, or the connection is lost."""
        await self._flow.drain()

    async def flushed(self) -> None:
        """Wait until the write buffer is empty, or the connection is lost."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
            await self._flow.drain()
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()

    def abort(self) -> None:
        """Close the connection at once and discard its write buffer."""
        self._transport.abort()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with a `ClientConnection` in the scope of each request."""

    _client_connection: ClientConnection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._client_connection = ClientConnection(transport, self.flow)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        connection = self._client_connection
        connection.lost = True
        if connection.on_lost:
            connection.on_lost()

    def on_headers_complete(self) -> None:
        scope: Any = self.scope
        scope[SCOPE] = self._client_connection
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP in the JSON shape of all errors; abort if a response has already started."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            return self.transport.abort()
        body = jsoncodec.dumps(InvalidRequest(msg).as_json())
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
        )
        self.transport.write(head % len(body) + b"\r\n" + body)
        return self.transport.close()
