"""A viewer's connection: an event stream of snapshots.

A slow client misses snapshots: the next one has all that it needs. The EventSource of a viewer whose frontend stops
comes back to another one.
"""

import time
from collections.abc import Callable, Sequence

from starlette.types import Send

from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.dashboard.feed import SnapshotFeed
from tailrace_frontend.dashboard.operator_stream import OperatorStream
from tailrace_frontend.streaming.hub import Hub


class SnapshotStream(OperatorStream):
    """One viewer."""

    def __init__(
        self, hub: Hub, feed: SnapshotFeed, client: ClientConnection, send: Send, caller: ApiKey,
        may_look: Callable[[ApiKey], bool], headers: Sequence[tuple[bytes, bytes]],
    ) -> None:  # fmt: skip
        super().__init__(hub, client, send, caller, may_look, headers)
        self._feed = feed

    async def _follow(self) -> None:
        if not self._is_over:
            self._feed.join(self)
        while not self._is_over:
            await self._wait()

    def _leave(self) -> None:
        self._feed.leave(self)

    def show(self, event: bytes) -> None:
        if self._client.is_full:
            self._blocked_since = self._blocked_since or time.monotonic()
        else:
            self._blocked_since = None
            self._client.write_chunk(event)
