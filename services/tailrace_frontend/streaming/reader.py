"""One client, reading one log at its own pace.

    page through the log ──▶ meet the tail ──▶ follow it ──▶ done
            ▲                                     │
            └──── fell behind, or in doubt ───────┘

The rule that makes it exact: ids at or below the cursor are ignored; the first entry above it must begin right after
it. If it does not, and does not on a second look, the reader is told to forget what it has (`restarted`, without an
id) and gets the log from its beginning. Resume, live reading and a server that came back with older data are one case.

There is no queue: the next page is read when the socket has drained. One task a reader, no timer: the hub's tick says
that we live, cuts it when its socket stays full, and ends it when Redis stays away.

The hot path is `hear`. While the task sleeps and the socket has room, what simply follows is written from the very
callback that received it, and nobody is woken: about 30 µs of CPU an event where waking the task cost 50; half of what
is left is the kernel's. Whatever else there is to do is the task's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from tailrace.errors import Gone, NotFound, RedisUnavailable
from tailrace.events import Done, Entry, GenerationRecord, Restarted
from tailrace.ids import START, EntryId
from tailrace.log.reading import FIRST_PAGE, PAGE_BYTES, Position
from tailrace.log.state import GenerationState
from tailrace.wire import WIRES, Wire, native
from tailrace_frontend.http.connection import ClientConnection
from tailrace_frontend.streaming.event_stream import HEADERS, come_again
from tailrace_frontend.streaming.hub import Hub

Send = Callable[[Any], Awaitable[None]]


class Cut(Exception):
    """The client must not take this end for the end of the answer: the connection is cut."""


class Ended(Exception):
    """Nothing more is told on this connection."""


class Reader:
    """Tells a log to one connection until its end, or until the connection's."""

    def __init__(
        self, hub: Hub, wire: Wire, state: GenerationState, cursor: EntryId | None, connection: ClientConnection, send:
        Send, may_read: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self.hub = hub
        self.wire = wire
        self.record: GenerationRecord = state.record
        self._cursor = cursor or START
        self._encode = wire.bind(state.record, {})
        self._connection = connection
        self._send_message = send
        self._may_read = may_read
        self._limit = FIRST_PAGE
        self._said = cursor is not None
        self._begins_late = state.attempt > 1 and cursor is None and not wire.restarts
        self._is_live = not state.is_final
        self._seen_resync_count = -1
        self._waiter: asyncio.Future[None] | None = None
        self._leaving = False
        self._told_at = time.monotonic()
        self._admitted_until = self._told_at + hub.settings.keepalive_s
        self._blocked_since: float | None = None
        self._missing_since: float | None = None
        self._failing_since: float | None = None

    async def run(self, extra_headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer 200 and tell the log."""
        media = f"{self.wire.media_type}; charset=utf-8".encode()
        headers = [(b"content-type", media), *HEADERS, *extra_headers]
        await self._send_message({"type": "http.response.start", "status": 200, "headers": headers})
        self._connection.on_lost = self.wake
        self._tail = self.hub.join(self, live=self._is_live)
        try:
            while not self._connection.lost:
                await self._step()
        except Cut:
            self._connection.abort()
            await asyncio.sleep(0)  # the server learns of it before it sees an answer without an end
        except Ended:
            await self._until(self._connection.flushed())  # nobody would cut a socket that stays full afterwards
            await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._connection.on_lost = None
            self.hub.leave(self)

    def hear(self) -> bool:
        """The tail has something new. (A task that is awake looks at it before it sleeps.)"""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        try:
            if not (self._leaving or self._connection.is_full) and self._follow() and not self._connection.is_full:
                return True
            waiter.set_result(None)
        except Exception as error:  # noqa: BLE001 - whatever it is: it is this reader's, and the next one must hear too
            waiter.set_exception(error)
        return False

    def look(self, position: Position | None) -> None:
        """What the head says of a log that was silent. Where this reader stands elsewhere, it looks into the log."""
        if position is None or position.ended or position.id != self._cursor:
            self._seen_resync_count = -1
            self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def leave(self) -> None:
        """End soon, with a hint to come again: this process is stopping."""
        self._leaving = True
        self.wake()

    def cut(self) -> None:
        """End now, without a word."""
        self._connection.abort()

    def tick(self, now: float) -> None:
        """The hub's clock. Cuts a socket that stayed full, and who may no longer read; says that we live; wakes whoever
        has something to look at."""
        if now >= self._admitted_until:
            self._admitted_until = now + self.hub.settings.keepalive_s
            if not self._may_read(self.record.owner):
                return self.cut()
        if self._blocked_since is not None:
            if now - self._blocked_since > self.hub.settings.client_write_timeout_s:
                self.cut()
        elif self._missing_since or self._failing_since or self.hub.is_away:
            self.wake()
        elif now - self._told_at >= self.hub.settings.keepalive_s:
            self._keep_alive()
        return None

    def _keep_alive(self) -> None:
        if self.wire.keep_alive and self._waiter and not self._waiter.done():
            self._send(self.wire.keep_alive)
            if self._connection.is_full:
                self.wake()

    async def _step(self) -> None:
        """Tell what there is, or wait until there may be more.

        Raises:
            Ended, Cut: this was the last.
        """
        if self._connection.is_full:
            return await self._until(self._connection.drained())
        if self._leaving:
            self._come_again("this server is stopping")
        try:
            if self._begins_late:
                await self._begin()
            elif not self._follow():
                await self._catch_up()
            elif not self._connection.is_full:
                await self._sleep()
        except RedisUnavailable:
            await self._server_away()

    def _follow(self) -> bool:
        """Tell what the tail has for this reader. False if it is not for the tail to say.

        Raises:
            Ended, Cut: this was the last.
        """
        if self._seen_resync_count != self._tail.resync_count:
            return False
        ready = self._tail.after(self._cursor, self.wire)
        if ready is None:
            return False
        frames, entries = ready
        if entries:
            self._tell(frames, entries)
        return True

    async def _catch_up(self) -> None:
        """Page through the log up to its top; from there on the tail continues."""
        resync_count = self._tail.resync_count
        coalesce = self.wire.merges
        page = await self._tail.pages.read(
            self.hub.log, self._cursor, self._limit, coalesce=coalesce, resync_count=resync_count
        )
        if page.before != self._cursor.seq:
            page = await self.hub.log.page(self.record.id, self._cursor, self._limit, coalesce=coalesce)
            if page.before != self._cursor.seq:
                return self._forget()
        self._failing_since = None
        self._limit = page.limit
        if page.entries:
            self._missing_since = None
            if not self._tell_page(page.entries):
                return None
        if page.is_last:
            self._seen_resync_count = resync_count
            if not page.entries:
                await self._look()
        return None

    def _tell_page(self, entries: list[Entry]) -> bool:
        """About 64 KiB at a time, whatever the page weighs. False if the socket is full before its end: the rest is
        read again when it has drained."""
        start, frames, size = 0, list[bytes](), 0
        for end, entry in enumerate(entries, 1):
            frame = self._encode(entry)
            frames.append(frame)
            size += len(frame)
            if size >= PAGE_BYTES or end == len(entries):
                self._tell(frames, entries[start:end])
                if self._connection.is_full and end < len(entries):
                    return False
                start, frames, size = end, [], 0
        return True

    def _tell(self, frames: list[bytes], entries: list[Entry]) -> None:
        """Hand over bytes; they move the cursor to the last of the entries."""
        ends = False
        if not self.wire.restarts:
            frames, ends = self._up_to_restart(frames, entries)
        if data := b"".join(frames):
            self._send(data)
            self._said = True
        self._cursor = entries[-1].id
        last = entries[-1].event
        if ends or (isinstance(last, Done) and self.wire.cuts and (last.error or last.status == "cancelled")):
            raise Cut if self.wire.cuts else Ended
        if isinstance(last, Done):
            raise Ended

    def _up_to_restart(self, frames: list[bytes], entries: list[Entry]) -> tuple[list[bytes], bool]:
        """A wire without a word for `restarted` cannot take back what it has said. Who was told nothing yet begins
        behind the last one; to everybody else it is the end, in the wire's own words."""
        restarts = [i for i, each in enumerate(entries) if isinstance(each.event, Restarted)]
        if not restarts:
            return frames, False
        if self._said:
            return frames[: restarts[0] + 1], True
        return frames[restarts[-1] + 1 :], False

    async def _begin(self) -> None:
        """Where a wire without a word for `restarted` begins: behind the last one."""
        async for entry in self.hub.log.read_all(self.record.id):
            if isinstance(entry.event, Restarted):
                self._cursor = entry.id
        self._begins_late = False

    def _send(self, data: bytes) -> None:
        self._told_at = time.monotonic()
        self._connection.write(data)

    async def _until(self, written: Awaitable[None]) -> None:
        """Wait for the socket; the hub's clock cuts one that takes nothing for too long."""
        self._blocked_since = time.monotonic()
        try:
            await written
        finally:
            self._blocked_since = None

    def _sleep(self) -> asyncio.Future[None]:
        """Nothing to tell."""
        if self.hub.is_away:
            self._come_again("the log's server is away")
        if self._missing_since:
            self._seen_resync_count = -1
        self.hub.listen(self._tail)  # where it counted as finished, and is not: its server came back with older data
        return self._woken()

    def _woken(self) -> asyncio.Future[None]:
        """(No coroutine: each one on the way to where a reader sleeps costs every reader a quarter of a kilobyte.)"""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter

    async def _look(self) -> None:
        """Nothing follows the cursor: is that because it is the top, or because the log is not what it was?"""
        try:
            state = await self.hub.log.state(self.record.id, self.record.owner)
        except (NotFound, Gone) as error:
            return self._missing("lost" if isinstance(error, NotFound) else str(error.code))
        if is_ahead(self._cursor, state):
            return self._missing(None)
        if state.is_final and self._cursor.seq == state.seq:
            raise Ended
        self._missing_since = None
        return None

    def _missing(self, reason: str | None) -> None:
        """The log has vanished, or ends before the cursor: its worker may restore it within a lease."""
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if reason != "deleted" and now - self._missing_since <= self.hub.settings.lease_s:
            return None
        if reason is None:
            self._missing_since = None
            return self._forget()
        self._synthetic("gone", {"reason": reason})
        raise Ended if self.wire.restarts else Cut

    def _forget(self) -> None:
        """The log no longer continues what this client has."""
        if not self.wire.restarts:
            raise Cut
        self._synthetic("restarted", native.data(native.FORGET))
        self._cursor = START
        self._seen_resync_count = -1

    def _synthetic(self, event: str, data: dict[str, Any]) -> None:
        """Tell what is not in the log: without an id it moves no cursor."""
        if self.wire is WIRES["native"]:
            self._send(native.frame(event, data))
        elif self.wire is WIRES["ndjson"]:
            self._send(native.line(None, event, data))

    async def _server_away(self) -> None:
        """Redis did not answer: wait for it, but not for ever."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if self.hub.is_away or now - self._failing_since > self.hub.settings.restart_grace_s:
            self._come_again("the log's server is away")
        self._seen_resync_count = -1
        await self._woken()

    def _come_again(self, why: str) -> None:
        if not self.wire.reconnects:
            raise Cut
        self._send(come_again(why))
        raise Ended


def is_ahead(cursor: EntryId, state: GenerationState) -> bool:
    """Whether the log ends before the cursor: its server came back with older data, or the cursor is not of it."""
    return cursor.seq > state.seq or cursor.epoch > state.epoch
