"""The transport of a client's connection, which uvicorn knows and ASGI does not expose.

A write that fails closes the transport, and uvicorn receives `connection_lost` one turn of the event loop later. Until
then its `send` writes on: asyncio discards these bytes, and logs a warning for each write after the fifth. The protocol
therefore puts the transport into the scope, and `while_connected` asks it before each message.
"""

import asyncio
from typing import Any

from starlette.types import Message, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TRANSPORT = "tailrace_demo.transport"
"""Key of the transport in an ASGI scope."""


class TransportProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with the connection's transport in the scope of each request."""

    def on_headers_complete(self) -> None:
        scope: Any = self.scope
        scope[TRANSPORT] = self.transport
        super().on_headers_complete()


def while_connected(send: Send, transport: asyncio.BaseTransport) -> Send:
    """A `send` that writes nothing once the connection is lost: it then waits until its task is cancelled.

    (It waits because uvicorn logs an error for a response that returns without an end before `connection_lost`.)
    """

    async def send_or_wait(message: Message) -> None:
        if transport.is_closing():
            await asyncio.Event().wait()
        await send(message)

    return send_or_wait
