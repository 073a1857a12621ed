"""A viewer's connection: an event stream of snapshots, one of the hub's connections.

A slow client misses snapshots: the next one has all that it needs. A frontend that stops sends a retry hint, as it does
to every reader, and the viewer's EventSource comes back to another one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from starlette.types import Send

from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.dashboard.feed import SnapshotFeed
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.stream_connection import retry_ms

RECHECK_S = 5.0
"""Between two checks that the viewer's key is still valid."""


class SnapshotStream:
    """One viewer. It is admitted when it is made, and must then be `run`.

    Raises:
        RateLimited: as `Hub.join`.
    """

    def __init__(
        self, hub: Hub, feed: SnapshotFeed, client: ClientConnection, send: Send, caller: ApiKey,
        may_look: Callable[[ApiKey], bool], headers: Sequence[tuple[bytes, bytes]],
    ) -> None:  # fmt: skip
        self.owner = caller.owner
        self._hub = hub
        self._feed = feed
        self._client = client
        self._send = send
        self._caller = caller
        self._may_look = may_look
        self._headers = headers
        self._ended = asyncio.Event()
        self._blocked_since: float | None = None
        self._checked_at = time.monotonic()
        self._is_draining = False
        hub.join(self)

    async def run(self) -> None:
        """Answer 200, then with snapshots until the client has left or this process stops."""
        client = self._client
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
            client.on_lost = self._ended.set
            if not client.lost:
                self._feed.join(self)
                await self._ended.wait()
            if not client.lost:
                if self._is_draining:
                    client.write(b"retry: %d\n\n" % retry_ms())
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            client.on_lost = None
            self._feed.leave(self)
            self._hub.leave(self)

    def show(self, event: bytes) -> None:
        if self._client.is_full:
            self._blocked_since = self._blocked_since or time.monotonic()
        else:
            self._blocked_since = None
            self._client.write(event)

    @property
    def activity(self) -> str:
        return "live" if self._blocked_since is None else "blocked"

    def check_access(self) -> None:
        if not self._may_look(self._caller):
            self.abort()

    def drain(self) -> None:
        self._is_draining = True
        self._ended.set()

    def abort(self) -> None:
        self._client.abort()

    def tick(self, now: float) -> None:
        if self._blocked_since is not None and now - self._blocked_since > self._hub.settings.client_write_timeout_s:
            self.abort()
        elif now - self._checked_at > RECHECK_S:
            self._checked_at = now
            self.check_access()
