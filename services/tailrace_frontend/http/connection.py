"""What the server knows about a client's connection and ASGI does not say.

uvicorn's `send` is silent after a disconnect, and returning from an application leaves a full socket and its buffer
for ever. So the protocol puts this into the scope: whether the client is gone, whether its socket is full, a way to cut
it, and one to write to it that needs no task.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest

SCOPE = "tailrace.redis.connection"


class ClientConnection:
    """One client's connection. `on_lost` is called once when it is gone."""

    __slots__ = ("_flow", "_transport", "lost", "on_lost")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        """A piece of an answer that has begun without a length (never to HEAD): what uvicorn's `send` makes of it.

        It returns at once and needs no task, so that whoever hears of an event can tell it in the same callback.
        """
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    @property
    def is_full(self) -> bool:
        """Whether the socket has not taken all that was handed over."""
        return self._flow.write_paused

    async def drained(self) -> None:
        """Wait until the socket takes more, or is gone."""
        await self._flow.drain()

    async def flushed(self) -> None:
        """Wait until the socket has taken everything, or is gone."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
            await self._flow.drain()
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()

    def abort(self) -> None:
        """Cut it, with whatever it still held."""
        self._transport.abort()


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with the connection in the scope of each of its requests."""

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
        """What is no HTTP is told so in the one error shape; an answer under way is not talked into."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            return self.transport.abort()
        body = jsoncodec.dumps(InvalidRequest(msg).as_json())
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
        )
        self.transport.write(head % len(body) + b"\r\n" + body)
        return self.transport.close()
