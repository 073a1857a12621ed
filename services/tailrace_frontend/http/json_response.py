"""JSON responses, encoded once, and sent in slices where they are large."""

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace import jsoncodec
from tailrace.errors import Unavailable
from tailrace_frontend.client_connection import SCOPE, ClientConnection

SLICE_BYTES = 64 * 1024
"""A client must take so much within the write timeout. Written at once, a large body would have that time in all."""


class JSONBytesResponse(Response):
    """A value as JSON: no response model copies it. Bytes are JSON already, and are not copied either."""

    media_type = "application/json"

    is_repeatable = False
    """Whether the request may be sent again, so that the response may be refused."""

    def __init__(self, value: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(value if isinstance(value, bytes) else jsoncodec.dumps(value), status_code, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Raises:
            Unavailable: the response is large, the process already sends as much as it may, and the request may be
            repeated. (Any other response is sent all the same: it echoes a request, which was charged by its bytes.)
        """
        client: ClientConnection | None = scope.get(SCOPE)
        if client is None or len(self.body) <= SLICE_BYTES:
            return await super().__call__(scope, receive, send)
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
        await send_slices(self.body, send)


async def send_slices(body: bytes | memoryview, send: Send) -> None:
    """Send the rest of a response in slices, and its end."""
    left = memoryview(body)
    while left:
        piece, left = left[:SLICE_BYTES], left[SLICE_BYTES:]
        await send({"type": "http.response.body", "body": bytes(piece), "more_body": bool(left)})
