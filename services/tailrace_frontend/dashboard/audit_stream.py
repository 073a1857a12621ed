"""A follower of the audit: an event stream of its entries, from a cursor.

An entry is announced on a channel when it is added, and the followers of this frontend then read what they lack. So a
message that was lost delays entries until the next keep-alive, and loses none. While the log's server is away, the
stream stays open, and goes on where it was.

The first frame has an id and no data: a client that reconnects before the first entry still has its position.
"""

import time
from collections.abc import Callable, Sequence

from starlette.types import Send

from tailrace import jsoncodec, keys
from tailrace.audit import Audit, Entry
from tailrace.errors import TailraceError
from tailrace.events import Json
from tailrace.redis.channels import Channels
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.dashboard.operator_stream import OperatorStream
from tailrace_frontend.streaming.hub import Hub

PAGE = 200
KEEP_ALIVE = WIRE_FORMATS["native"].keep_alive


def entry_json(entry: Entry) -> Json:
    """An entry as the API has it; `at` in epoch seconds."""
    return {"id": entry.id, "at": entry.at / 1000, **entry.line._asdict(), "repeated": entry.repeated}


class AuditFeed:
    """Wakes the followers of this frontend. Without any, nothing is subscribed."""

    def __init__(self, audit: Audit, subscriber: Channels) -> None:
        self.audit = audit
        self._subscriber = subscriber
        self._followers: set[AuditStream] = set()

    def join(self, follower: "AuditStream") -> None:
        """Wake this one as well, from now on, and once the server has confirmed the subscription."""
        if not self._followers:
            self._subscriber.add(keys.AUDIT_ADDED, self._on_message)
        self._followers.add(follower)

    def leave(self, follower: "AuditStream") -> None:
        """Undo `join`."""
        self._followers.discard(follower)
        if not self._followers:
            self._subscriber.remove(keys.AUDIT_ADDED)

    def _on_message(self, _: bytes | None) -> None:
        for follower in self._followers:
            follower.wake()


class AuditStream(OperatorStream):
    """One follower. `position`: the id of the last entry that it is not sent."""

    def __init__(
        self, hub: Hub, feed: AuditFeed, position: str, client: ClientConnection, send: Send, caller: ApiKey,
        may_look: Callable[[ApiKey], bool], headers: Sequence[tuple[bytes, bytes]],
    ) -> None:  # fmt: skip
        super().__init__(hub, client, send, caller, may_look, headers)
        self._feed = feed
        self._position = position
        self._has_failed = False
        self._written_at = time.monotonic()

    async def _follow(self) -> None:
        self._write(b"id: %b\n\n" % self._position.encode())
        self._feed.join(self)
        while not self._is_over:
            if self._client.is_full:
                await self._while_blocked()
            elif not await self._send_page():
                await self._wait()

    def _leave(self) -> None:
        self._feed.leave(self)

    async def _send_page(self) -> bool:
        """Send what follows the position; whether more may follow at once."""
        try:
            entries = await self._feed.audit.following(PAGE, self._position)
        except TailraceError:  # an outage is logged by the server; the tick tries again
            self._has_failed = True
            return False
        self._has_failed = False
        if entries:
            self._write(b"".join(_frame(entry) for entry in entries))
            self._position = entries[-1].id
        return len(entries) == PAGE

    async def _while_blocked(self) -> None:
        self._blocked_since = time.monotonic()
        try:
            await self._client.drained()
        finally:
            self._blocked_since = None

    def _write(self, data: bytes) -> None:
        self._written_at = time.monotonic()
        self._client.write_chunk(data)

    def _on_tick(self, now: float) -> None:
        if now - self._written_at >= self._hub.settings.keepalive_s:
            self._write(KEEP_ALIVE)
            self.wake()
        elif self._has_failed:
            self.wake()


def _frame(entry: Entry) -> bytes:
    return b"id: %b\nevent: entry\ndata: %b\n\n" % (entry.id.encode(), jsoncodec.dumps(entry_json(entry)))
