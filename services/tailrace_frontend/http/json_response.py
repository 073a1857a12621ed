"""JSON responses, encoded once, and sent in slices where they are large."""

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace import jsoncodec
from tailrace.errors import Unavailable
from tailrace_frontend.client_connection import SCOPE, ClientConnection

SLICE_BYTES = 64 * 1024
"""A client must take so much within the write timeout. Written at once, a large body would have that time in all."""


END = b"\n"
"""After a value's JSON, so that a terminal's prompt begins on a line of its own."""


class JSONBytesResponse(Response):
    """A value as JSON and a line end: no response model copies it. Bytes are JSON already, and not copied either."""

    media_type = "application/json"

    is_repeatable = False
    """Whether the request may be sent again, so that the response may be refused."""

    def __init__(self, value: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        body, end = (value, b"") if isinstance(value, bytes) else (jsoncodec.dumps(value), END)
        self._is_large = len(body) > SLICE_BYTES
        self._end = end if self._is_large else b""  # sent with the last slice: added here, it would copy megabytes
        super().__init__(body if self._is_large else body + end, status_code, headers)
        self.headers["content-length"] = str(len(self.body) + len(self._end))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Raises:
            Unavailable: the response is large, the process already sends as much as it may, and the request may be
            repeated. (Any other response is sent all the same: it echoes a request, which was charged by its bytes.)
        """
        client: ClientConnection | None = scope.get(SCOPE)
        if not self._is_large:
            return await super().__call__(scope, receive, send)
        if client is None:
            return await self._send_slices(send)
        is_held = client.inflight.hold(self, len(self.body), client.abort)
        if not is_held and self.is_repeatable:
            raise Unavailable("This frontend sends too much at once.")
        try:
            await self._send_slices(send)
        finally:
            client.inflight.release(self)
        return None

    async def _send_slices(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_slices(self.body, send, self._end)


async def send_slices(body: bytes | memoryview, send: Send, end: bytes = b"") -> None:
    """Send the rest of a response in slices. `end`: bytes after it."""
    left = memoryview(body)
    while left:
        piece, left = left[:SLICE_BYTES], left[SLICE_BYTES:]
        data = bytes(piece) if left else bytes(piece) + end
        await send({"type": "http.response.body", "body": data, "more_body": bool(left)})
