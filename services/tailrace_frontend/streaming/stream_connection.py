"""A client's connection that receives frames: the socket's side of an event stream.

    state        the connection …                                             becomes
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    sending      its task reads from the cursor and writes                    idle, blocked, ended
    idle         its task waits for `wake`; the cursor writes what is         sending
                 appended from the callback that received it
    blocked      the socket is full; its task waits until it has drained,     sending, ended (`client_write_timeout_s`)
                 and nothing is read ahead
    draining     this process stops: the client is asked to reconnect         ended

and ends in one of three ways: the response is completed, or completed with a retry hint, or the connection is aborted,
where the format has no frame for what happened or the client takes nothing.

There is one task a connection and no timer: the hub's tick sends keep-alives, aborts a connection that is blocked for
too long or whose key was withdrawn, and wakes a cursor that waits for Redis.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.types import Scope, Send

from tailrace.ids import EntryId
from tailrace.log.state import GenerationState
from tailrace.wire import Encode, WireFormat
from tailrace.wire.json_value import JsonLines
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.folding_cursor import FoldingCursor
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.log_cursor import LogCursor

STOPPING = "this frontend is stopping"
REDIS_AWAY = "Redis is unavailable"
NEARLY = 0.9
"""A client that leaves by itself within the last tenth of the write timeout counts as slow."""


class StreamConnection:
    """One client that reads one log. It is admitted when it is made, and must then be `run`.

    Its state is in three fields: `is_idle` (its task then awaits `_waiter`), `_blocked_since`, and `_draining`.
    `is_idle` is a field, and not a property that asks the waiter, because it is read for every event.
    """

    __slots__ = (
        "_authorized_until", "_blocked_since", "_caller", "_client", "_draining", "_headers", "_hub", "_may_read",
        "_send", "_waiter", "_written_at", "cursor", "is_idle", "owner", "request_scope",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, wire: WireFormat, encode: Encode, state: GenerationState, after: EntryId | None, *,
        headers: Sequence[tuple[bytes, bytes]], client: ClientConnection, send: Send, caller: ApiKey,
        may_read: Callable[[ApiKey], bool], seen_to: int = -1, watches: bool = False,
    ) -> None:  # fmt: skip
        """`after`, `seen_to`: as for `LogCursor`. `may_read`: whether the caller's key is still valid; asked when
        something is revoked, and twice in each keep-alive interval, so that a key that was removed from its file, or
        whose revocation was missed, ends its streams within one. `watches`: the caller is an operator: no reader of the
        generation, and not counted as the owner's.

        Raises:
            RateLimited: as `Hub.join`.
        """
        self.owner = caller.owner if watches else state.record.owner
        self._hub = hub
        self._headers = headers
        self.request_scope: Scope | None = None
        """The scope of a request that nothing needs once the response has begun: 2 KB a reader."""
        self._client = client
        self._send = send
        self._caller = caller
        self._may_read = may_read
        self.is_idle = False
        self._draining = False
        self._blocked_since: float | None = None
        self._written_at = time.monotonic()
        self._authorized_until = self._written_at + hub.settings.keepalive_s / 2
        hub.join(self)
        self.cursor = (
            FoldingCursor(hub, wire, encode, state, after, self, watches=watches)
            if isinstance(encode, JsonLines)
            else LogCursor(hub, wire, encode, state, after, self, seen_to, watches=watches)
        )

    async def run(self) -> None:
        """Answer 200, then with frames until the end of the log or of the connection.

        (The loop awaits the future of an idle connection itself: each coroutine between the task and the place where it
        sleeps costs every reader a quarter of a kilobyte.)
        """
        client, cursor = self._client, self.cursor
        try:
            client.on_lost = self.wake
            while not (client.lost or cursor.is_final):
                if client.is_full:
                    await self._while_blocked(client.drained())
                elif self._draining:
                    break
                elif await cursor.advance():
                    continue
                elif not (self.has_begun or cursor.awaits_confirmation):
                    await self.begin()
                elif self._may_sleep():
                    self._waiter, self.is_idle = asyncio.get_running_loop().create_future(), True
                    await self._waiter
                    self.is_idle = False
            if not client.lost:
                if not self.has_begun:
                    await self.begin()
                await self._end()
        except Exception:
            if not (client.lost or self.has_begun):
                await self.begin()  # an `EventSource` reconnects after a response that breaks off, never after a 500
            raise
        finally:
            client.on_lost = None
            client.inflight.release(self)
            cursor.close()
            self._hub.leave(self)

    def _may_sleep(self) -> bool:
        """Whether nothing has happened while the cursor was reading that a wake-up would have announced."""
        return not (self._client.lost or self._client.is_full or self._draining or self.cursor.is_final)

    # ── the sink of the cursor ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_begun(self) -> bool:
        return not self._headers

    async def begin(self) -> None:
        """Send the headers. A cursor does so when it has its first page, so that both leave in one write."""
        headers, self._headers = self._headers, ()
        self._client.hold_head()
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self._client.release_parser()
        if self.request_scope is not None:
            scope, self.request_scope = self.request_scope, None
            method = scope["method"]  # all that uvicorn still asks for
            scope["headers"].clear()
            scope.clear()
            scope["method"] = method

    @property
    def has_room(self) -> bool:
        return not self._client.is_full

    def write(self, data: bytes) -> None:
        self._written_at = time.monotonic()
        if not self._client.write_chunk(data):
            self.wake()

    def hold(self, size: int) -> bool:
        return self._client.inflight.hold(self, size, self.abort)

    def wake(self) -> None:
        if self.is_idle:
            self.is_idle = False
            if not self._waiter.done():  # it is when the task has just been cancelled
                self._waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        if self.is_idle:
            self.is_idle = False
            if not self._waiter.done():
                self._waiter.set_exception(error)

    @property
    def activity(self) -> str:
        """As `Connection.activity`."""
        if self._blocked_since is not None:
            return "blocked"
        return "live" if self.is_idle else "catching_up"

    # ── called by the hub ────────────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> None:
        """End soon, with a hint to reconnect: this process is stopping."""
        self._draining = True
        self.wake()

    def abort(self) -> None:
        """End now: the client sees a broken connection."""
        self._cut("stopping" if self._hub.draining else "memory")
        self._client.abort()

    def _cut(self, reason: str) -> None:
        """Count why the stream ends before its log."""
        if not self._client.lost:
            self._hub.delivery.cut(reason)

    def check_access(self) -> None:
        """End now, if the key or ticket was withdrawn."""
        if not self._may_read(self._caller):
            self._cut("unauthorized")
            self._client.abort()

    def tick(self, now: float) -> None:
        """The hub's clock, `time.monotonic()`."""
        settings = self._hub.settings
        if now >= self._authorized_until:
            self._authorized_until = now + settings.keepalive_s / 2
            self.check_access()
        if self._blocked_since is not None:
            if now - self._blocked_since > settings.client_write_timeout_s:
                self._client.abort()
        elif self.cursor.needs_tick:
            self.wake()
        elif now - self._written_at >= settings.keepalive_s:
            self._keep_alive()
        return

    def _keep_alive(self) -> None:
        keep_alive = self.cursor.format.keep_alive
        if keep_alive and self.is_idle:
            self.write(keep_alive)

    # ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _end(self) -> None:
        match self.cursor.state:
            case State.COMPLETE:
                await self._complete()
            case State.ABORTED:
                self._cut("damaged")
                await self._break_off()
            case State.UNAVAILABLE:
                self._cut("redis_away")
                await self._end_with_retry(REDIS_AWAY)
            case _:
                self._cut("stopping")
                await self._end_with_retry(STOPPING)

    async def _end_with_retry(self, why: str) -> None:
        frame = self.cursor.format.encode_retry(why, retry_ms())
        if frame is None:
            return await self._break_off()
        self.write(frame)
        return await self._complete()

    async def _complete(self) -> None:
        """Wait until the socket has taken everything: a socket that stays full is aborted by the tick, and by nothing
        once the response has ended."""
        await self._while_blocked(self._client.flushed())
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _break_off(self) -> None:
        self._client.abort()
        await asyncio.sleep(0)  # uvicorn learns of the abort before it sees a response without an end

    async def _while_blocked(self, written: Awaitable[None]) -> None:
        self._blocked_since = time.monotonic()
        began, timeout_s = self._blocked_since, self._hub.settings.client_write_timeout_s
        try:
            await written
        finally:
            self._blocked_since = None
            if self._client.lost and time.monotonic() - began > NEARLY * timeout_s:
                self._hub.delivery.cut("slow")  # by the tick, or by the protocol, whose timer is the same


def retry_ms() -> int:
    """A reconnection delay of one to three seconds; random, so that clients do not come back all at once."""
    return random.randint(1000, 3000)  # noqa: S311 - spreads load
