"""A position in one log, and the frames that follow it. Nothing here is about sockets. States: `cursor_state`.

Rule 1: entries at or below the position are ignored, and the first one above it must follow it without a gap. If it
does not, and does not when the log is read once more, the log no longer continues what the client has: the client is
made to discard everything (`encode_restart`), and the log follows from its beginning. Resuming, live reading, and a
server that came back with older data are thereby one case.
Rule 2: nothing is queued. A cursor whose sink has no room reads again later, from its position.
Rule 3: the hot path is `on_entries`. While the sink is idle, entries that continue the position are written in the
callback that received them, and no task is woken: about 30 µs of CPU an event where waking the task took 50; half of
the rest is the kernel's.
"""

import time
from collections.abc import Sequence

from tailrace.errors import Gone, NotFound, RedisUnavailable
from tailrace.events import Entry, GenerationRecord, Restarted
from tailrace.ids import START, EntryId
from tailrace.log.reading import FIRST_PAGE, PAGE_BYTES, Position
from tailrace.log.state import GenerationState
from tailrace.tracing.span import Span
from tailrace.wire import Encode, Frame, WireFormat
from tailrace_frontend.streaming.cursor_state import FINAL, TRANSITIONS, State
from tailrace_frontend.streaming.frame_sink import FrameSink
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.recent_pages import EncodedPage
from tailrace_frontend.turnstile import READ

FOLLOWING = State.FOLLOWING  # read for every event: an attribute of an Enum takes 40 ns


class LogCursor:
    """Follows a log from a position until the log's end, or until `close`."""

    __slots__ = (
        "_encode", "_failing_since", "_has_sent", "_hub", "_limit", "_missing_since", "_seen_to", "_sink", "_tail",
        "format", "position", "record", "span", "state", "watches",
    )  # fmt: skip

    def __init__(
        self, hub: Hub, wire: WireFormat, encode: Encode, state: GenerationState, after: EntryId | None,
        sink: FrameSink, seen_to: int = -1, *, watches: bool = False,
    ) -> None:  # fmt: skip
        """`encode`: of this format and generation. `after`: the position that the client has reached; None: nothing.

        `seen_to`: the client also has the frames behind that position up to this sequence number. `watches`: as for
        `Hub.subscribe`.
        """
        self.record: GenerationRecord = state.record
        self.position = after or START
        seeks = after is None and state.attempt > 1 and Restarted in wire.ends_at
        self.state = State.SEEKING if seeks else State.CATCHING_UP
        self._hub = hub
        self.format = wire
        self._encode = encode
        self._sink = sink
        self._has_sent = after is not None  # on this connection or an earlier one
        self._seen_to = seen_to
        self._limit = FIRST_PAGE
        self._missing_since: float | None = None
        self._failing_since: float | None = None
        self.watches = watches
        self.span: Span | None = None  # ends when what was written before is sent
        self._tail = hub.subscribe(self, self.record, wire, encode, live=not state.is_final, watches=watches)

    def close(self) -> None:
        """Follow no longer. (The sink has the cursor: without the cycle, all that a reader needed is freed at once, and
        not by a collection of everything, which takes 0.1 ms a reader.)"""
        self._end_span()
        self._hub.unsubscribe(self, self.record.id, self.format, watches=self.watches)
        del self._sink

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def needs_tick(self) -> bool:
        """Whether the next tick has `advance` try again: it does not follow, or Redis is away."""
        return self.state is not FOLLOWING or self._failing_since is not None or self._is_away

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the log is read once its subscription is confirmed (`Hub.awaits_confirmation`)."""
        return self.state is State.CATCHING_UP and self._hub.awaits_confirmation(self._tail)

    # ── called by the live tail ──────────────────────────────────────────────────────────────────────────────────────

    def on_entries(self, before_seq: int, frames: Sequence[Frame], entries: Sequence[Entry]) -> bool:
        sink = self._sink
        if not sink.is_idle:
            return False
        if self.state is FOLLOWING:
            if before_seq == self.position.seq and entries[0].id.epoch >= self.position.epoch:
                return self._write_through(frames, entries)
            last = entries[-1].id
            if last <= self.position and last.seq <= self.position.seq:
                return True
            self._enter(State.CATCHING_UP)
        sink.wake()
        return False

    def _write_through(self, frames: Sequence[Frame], entries: Sequence[Entry]) -> bool:
        try:
            self._send(frames, entries)
        except Exception as error:  # noqa: BLE001 - any error is this reader's alone: the other followers must go on
            self._sink.fail(error)
            return False
        if self.state is not FOLLOWING:
            self._sink.wake()
        return True

    def on_resync(self) -> None:
        if self.state is FOLLOWING:
            self._enter(State.CATCHING_UP)
        self._sink.wake()

    def on_position(self, position: Position | None) -> None:
        if position is None or position.ended or position.id != self.position:
            self.on_resync()

    # ── called by the sink's task ────────────────────────────────────────────────────────────────────────────────────

    async def advance(self) -> bool:
        """Send what there is, while the sink has room. False: nothing more can be sent until the sink is woken."""
        if self.state is FOLLOWING:
            if self._send_tail():
                return self._settle()
            self._enter(State.CATCHING_UP)
        if self.awaits_confirmation:
            return False
        try:
            if self.state is State.SEEKING:
                await self._seek_last_restart()
            else:
                await self._catch_up()
        except RedisUnavailable:
            self._on_failure()
            return False
        return self._settle() if self.state is State.MISSING else not self.is_final

    def _settle(self) -> bool:
        """There is nothing to send now."""
        if not self.is_final:
            if self._is_away:
                self._enter(State.UNAVAILABLE)
            self._hub.listen(self._tail)  # a log that had ended may have come back older and unfinished
        return False

    def _send_tail(self) -> bool:
        """Send what the tail has. False if it does not reach back to the position."""
        ready = self._tail.after(self.position, self.format)
        if ready is None:
            return False
        frames, entries = ready
        if entries:
            self._send(frames, entries)
        return True

    async def _seek_last_restart(self) -> None:
        log, generation_id = self._hub.log, self.record.id
        newest = await log.position(generation_id)
        self.position = (newest and await log.last_restart(generation_id, newest.id.epoch)) or START
        self._failing_since = None
        self._enter(State.CATCHING_UP)

    async def _catch_up(self) -> None:
        """Send one page of the log. Behind its last page the live tail continues."""
        resync_count = self._tail.resync_count
        encoded = await self._read_page(resync_count)
        page = encoded.page
        if not self._sink.has_begun:
            await self._sink.begin()
        self._failing_since = None
        if page.before != self.position.seq:
            return self._restart()
        self._limit = page.limit
        if page.entries:
            self._enter(State.CATCHING_UP)
            if not self._send_page(encoded):
                return None
        elif not await self._is_at_end_of_log():
            return None
        is_current = page.is_last and resync_count == self._tail.resync_count
        return self._enter(FOLLOWING if is_current else State.CATCHING_UP)

    async def _read_page(self, resync_count: int) -> EncodedPage:
        """The next page, shared with the readers at the same position. One that does not continue the position is read
        once more, alone."""
        log, coalesce = self._hub.log, self.format.coalesces
        await self._hub.arrivals.enter(READ)
        found = await self._tail.pages.read(
            log, self.position, self._limit, coalesce=coalesce, resync_count=resync_count, keep=self._tail.is_shared
        )
        if found.page.before != self.position.seq:
            found = EncodedPage(await log.page(self.record.id, self.position, self._limit, coalesce=coalesce))
        return found

    async def _is_at_end_of_log(self) -> bool:
        """Whether an empty page is due to the position being the log's newest, rather than to a change of the log."""
        try:
            state = await self._hub.log.state(self.record.id, self.record.owner)
        except (NotFound, Gone) as error:
            await self._on_missing("lost" if isinstance(error, NotFound) else str(error.code))
            return False
        if is_ahead(self.position, state):
            await self._on_missing(None)
            return False
        if state.is_final and self.position == state.position:
            self._enter(State.COMPLETE)
            return False
        return True

    async def _on_missing(self, reason: str | None) -> None:
        """The log has vanished (`reason`), or ends before the position. Its worker may restore it within a lease, or
        later: a worker with many logs takes longer, and shows that it restores."""
        now = time.monotonic()
        self._enter(State.MISSING)
        self._missing_since = self._missing_since or now
        if reason != "deleted" and now - self._missing_since <= self._hub.settings.lease_s:
            return None
        if reason in (None, "lost") and await self._hub.log.is_restoring(self.record.id):
            return None
        return self._restart() if reason is None else self._end_with(self.format.encode_gone(reason))

    @property
    def _is_away(self) -> bool:
        return self._hub.is_away(self.record.id)

    def _end_with(self, frame: Frame) -> None:
        if frame is None:
            return self._enter(State.ABORTED)
        self._sink.write(frame)
        return self._enter(State.COMPLETE)

    def _restart(self) -> None:
        """The log no longer continues what the client has: begin again. A log that does not even have its beginning is
        damaged; restarts would be sent for ever."""
        frame = self.format.encode_restart()
        if frame is None or self.position == START:
            return self._enter(State.ABORTED)
        self._hub.delivery.restarted.value += 1
        self._sink.write(frame)
        self.position = START
        return self._enter(State.CATCHING_UP)

    def _on_failure(self) -> None:
        """Redis did not answer. The grace period counts from the first failure, or from a later reconnection."""
        now = time.monotonic()
        self._failing_since = max(self._failing_since or now, self._hub.connected_at(self.record.id))
        if self._is_away or now - self._failing_since > self._hub.settings.restart_grace_s:
            self._enter(State.UNAVAILABLE)

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send_page(self, encoded: EncodedPage) -> bool:
        """Send a page in writes of about 64 KiB, whatever the page weighs. False if the sink filled before the last
        entry (the rest is read again later), or the response has ended."""
        entries, start, frames, size = encoded.page.entries, 0, list[Frame](), 0
        for end, frame in enumerate(encoded.frames(self.format, self._encode), 1):
            frames.append(frame)
            size += len(frame or b"")
            if size >= PAGE_BYTES or end == len(entries):
                self._send(frames, entries[start:end])
                counts = self._hub.delivery
                counts.replayed_entries.value += end - start
                counts.replayed_bytes.value += size
                if self.is_final or (end < len(entries) and not self._sink.has_room):
                    return False
                start, frames, size = end, [], 0
        return True

    def _send(self, frames: Sequence[Frame], entries: Sequence[Entry]) -> None:
        """Write frames and move to the last of their entries; up to the first entry that ends the response."""
        if self._seen_to >= 0:
            frames = self._unseen(frames, entries)
        ends_at = self.format.ends_at
        for entry in entries:
            if type(entry.event) in ends_at:
                return self._send_end(frames, entries, entries.index(entry))
        self._write(frames)
        self.position = entries[-1].id
        return None

    def _unseen(self, frames: Sequence[Frame], entries: Sequence[Entry]) -> list[Frame]:
        """The frames without those that the client has."""
        seen_to, after_number = self._seen_to, self.format.after_number
        if entries[-1].id.seq >= seen_to:
            self._seen_to = -1
        pairs = zip(frames, entries, strict=True)
        return [frame and after_number(frame, entry, seen_to) for frame, entry in pairs]

    def _send_end(self, frames: Sequence[Frame], entries: Sequence[Entry], index: int) -> None:
        """`entries[index]` ends the response; unless it is a restart and nothing has been sent that it would revoke."""
        self.position = entries[index].id
        if isinstance(entries[index].event, Restarted) and not self._has_sent:
            if index + 1 < len(entries):
                self._send(frames[index + 1 :], entries[index + 1 :])
            return
        self._write(frames[: index + 1])
        self._enter(State.ABORTED if frames[index] is None else State.COMPLETE)

    def _write(self, frames: Sequence[Frame]) -> None:
        data = frames[0] if len(frames) == 1 else b"".join(filter(None, frames))
        if data:
            self._sink.write(data)
            self._has_sent = True

    def _enter(self, state: State) -> None:
        if state is not self.state:
            assert state in TRANSITIONS[self.state], f"{self.state} → {state}"
            self.state = state
            if state is not State.MISSING:
                self._missing_since = None
            if self.span and (state is FOLLOWING or state in FINAL):
                self._end_span()

    def _end_span(self) -> None:
        if self.span:
            self.span.set(outcome=self.state.value)
            self.span.end()
            self.span = None


def is_ahead(position: EntryId, state: GenerationState) -> bool:
    """Whether the log ends before the position: its server came back with older data, or the position is another's."""
    return position.seq > state.seq or position.epoch > state.epoch
