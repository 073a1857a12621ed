"""The state of a client's connection that uvicorn knows and ASGI does not expose.

uvicorn's `send` reports no error after a disconnect, and an application that returns while the socket is full leaves
the socket and its buffer open indefinitely. The protocol (`http_protocol`) therefore puts a `ClientConnection` into the
scope. It reports whether the connection is lost and whether the socket is full, aborts the connection, and writes
without a task. uvicorn writes its responses to it, so that a response's head can leave with its first chunk.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl

from tailrace_frontend.inflight import Inflight

UNCOPIED_BYTES = 16 * 1024
"""A chunk of this size is not copied into its frame, but written in three parts."""

SCOPE = "tailrace.connection"
"""Key of the `ClientConnection` in an ASGI scope."""

REQUEST_ID = "tailrace.request_id"
"""Key of the request's id in an ASGI scope; each response has it as `x-request-id`."""


class ClientConnection:
    """One client's connection. `on_lost` is called once, when the connection is lost.

    `inflight`: the budget for what the process holds; the connection's request is counted there.
    """

    __slots__ = ("_flow", "_head", "_transport", "inflight", "lost", "on_lost")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl, inflight: Inflight) -> None:
        self._transport = transport
        self._flow = flow
        self._head: bytes | None = None
        self.inflight = inflight
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    # ── what uvicorn needs of a transport ────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if self._head == b"":
            self._head = data
        else:
            self._release_head()
            self._transport.write(data)

    def close(self) -> None:
        self._release_head()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    # ── what a stream needs ──────────────────────────────────────────────────────────────────────────────────────────

    def release_parser(self) -> None:
        """Free what the server needs of a request that was received, until the next one."""
        protocol: Any = self._transport.get_protocol()
        if protocol is not None:  # uvloop: the connection is lost
            protocol.release_parser()

    def hold_head(self) -> None:
        """Keep the head of a response, which uvicorn writes next, for a chunk of the same turn of the event loop: a
        write to a socket takes 30 µs."""
        self._head = b""
        asyncio.get_running_loop().call_soon(self._release_head)

    def _release_head(self) -> None:
        head, self._head = self._head, None
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def write_chunk(self, data: bytes) -> bool:
        """Write a chunk of a response body, framed as uvicorn's `send` would frame it. Returns whether the client takes
        more: the connection is not full.

        The response must have started without a content length, and the request must not be HEAD. The call returns at
        once and needs no task, so a callback that receives an entry can write it directly.
        """
        if self._transport.is_closing():
            return True
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, b"%x\r\n" % len(data), data, b"\r\n"))
        elif len(data) < UNCOPIED_BYTES:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        return not self._flow.write_paused

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
        """Close the connection at once and discard its write buffer. A head that is held is sent: a proxy repeats a
        request that had no answer."""
        self._release_head()
        self._transport.abort()
