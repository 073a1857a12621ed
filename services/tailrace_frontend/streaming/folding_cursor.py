"""A cursor for a format whose frames need everything before them: it folds what it reads, and sends from time to time.

Each line has the whole value, so a line for every token would cost the square of the answer's length. Lines are paced
instead: after one of n bytes the next follows n / BYTES_PER_S later, with all that was appended meanwhile. Short values
are thereby sent with every token, one of 1 MB once a second, and a reader costs 1 MiB/s and at most 3 % of a core,
however long the answer. (A value of 1 MB that is written in 10 s is 98 lines, 10.5 MB and 0.12 s of CPU, measured; a
line for each of its 25,000 tokens would be 12 GB.) A line that is not due waits for the next entry, or for the hub's
tick, 0.5 s at most. The end is sent at once.

The text, and a line that its socket has not taken, are kept for each reader. Where they are large they count among the
bytes that the process holds for transfers (`inflight`). A reader for which there is no room is aborted; it may resume.
"""

import time
from collections.abc import Sequence

from tailrace.events import Done, Entry
from tailrace.ids import EntryId
from tailrace.log.state import GenerationState
from tailrace.wire import Frame, WireFormat
from tailrace.wire.json_value import JsonLines
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.frame_sink import FrameSink
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.log_cursor import LogCursor

BYTES_PER_S = 1024 * 1024
UNCOUNTED_BYTES = 64 * 1024
KEPT = 2
"""The text, and about as much in the socket's buffer."""


class FoldingCursor(LogCursor):
    """Follows a log as a `LogCursor` does. `lines`: has the entries up to the position, and is this cursor's alone."""

    __slots__ = ("_due_at", "_is_pending", "_lines")

    def __init__(
        self, hub: Hub, wire: WireFormat, lines: JsonLines, state: GenerationState, after: EntryId | None,
        sink: FrameSink, *, watches: bool = False,
    ) -> None:  # fmt: skip
        self._lines = lines
        self._due_at = 0.0
        self._is_pending = False
        super().__init__(hub, wire, _no_frame, state, after, sink, watches=watches)

    @property
    def needs_tick(self) -> bool:
        return self._is_pending or super().needs_tick

    async def advance(self) -> bool:
        if not self._has_room():
            self._enter(State.CATCHING_UP)
            self._enter(State.ABORTED)
            return False
        goes_on = await super().advance()
        if self._is_pending and not self.is_final and time.monotonic() >= self._due_at:
            self._send_line()
        return goes_on

    def _send(self, _: Sequence[Frame], entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._lines.add(entry)
        self.position = entries[-1].id
        if not self._has_room():
            self._enter(State.ABORTED)
        elif isinstance(entries[-1].event, Done):
            self._send_line()
            self._enter(State.COMPLETE)
        elif time.monotonic() >= self._due_at:
            self._send_line()
        else:
            self._is_pending = True

    def _has_room(self) -> bool:
        size = KEPT * self._lines.size
        return size <= UNCOUNTED_BYTES or self._sink.hold(size)

    def _send_line(self) -> None:
        self._is_pending = False
        line = self._lines.line()
        if line:
            self._write([line])
            self._due_at = time.monotonic() + len(line) / BYTES_PER_S


def _no_frame(_: Entry) -> Frame:
    """The frame of an entry alone."""
    return b""
