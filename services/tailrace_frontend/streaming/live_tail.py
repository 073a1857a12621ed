"""The newest entries of one live log, shared by its readers as encoded bytes a wire.

A tail is kept for whoever has not read it yet, and bounded in bytes. As soon as everybody has, all but its newest entry
go: a log that is read live costs a reader next to nothing, and its own objects die as young as they were made.
"""

import logging
import time
from bisect import bisect_right
from operator import attrgetter
from typing import Protocol

from tailrace.errors import CorruptEntry
from tailrace.events import Done, Entry, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import Position
from tailrace.log.codec import from_row, unpack
from tailrace.wire import Wire
from tailrace_frontend.streaming.single_flight import SingleFlightPages

TAIL_BYTES = 256 * 1024
TAIL_ENTRIES = 64

logger = logging.getLogger(__name__)
_id = attrgetter("id")


class Follower(Protocol):
    """Somebody who follows a log live."""

    record: GenerationRecord

    def hear(self) -> bool:
        """The tail has grown, or its doubts have. False if it has not read all of it."""

    def look(self, position: Position | None) -> None:
        """The log was silent for a beat, and its head was asked where it stands. None: there is no head."""

    def leave(self) -> None:
        """End soon, with a hint to come again: this process is stopping."""

    def cut(self) -> None:
        """End now, without a word."""

    def tick(self, now: float) -> None:
        """The hub's clock, `time.monotonic()`."""


class LiveTail:
    """Dense: where an entry does not follow the one before it, the tail begins anew with it.

    `resync_count` counts how often something may have been missed: a reader that knows a lower number looks into the
    log. `verified_at`: when the log last said something, or was looked at; of `time.monotonic()`.
    """

    __slots__ = (
        "_bytes", "_entries", "_frames", "pages", "readers", "record", "resync_count", "subscribed", "verified_at",
    )  # fmt: skip

    def __init__(self, record: GenerationRecord) -> None:
        self.record = record
        self.resync_count = 0
        self.pages = SingleFlightPages(record.id)
        self.subscribed = False
        self.readers: set[Follower] = set()
        self.verified_at = time.monotonic()
        self._entries: list[Entry] = []
        self._frames: dict[Wire, list[bytes]] = {}
        self._bytes = 0

    def hear(self, message: bytes | None) -> None:
        """A message of the log's channel; None or an empty one: look for yourselves."""
        self.verified_at = time.monotonic()
        if not message:
            self.resync_count += 1
        else:
            try:
                for row in unpack(message):
                    self._add(from_row(row))
            except CorruptEntry:
                logger.warning("%s: unreadable message", self.record.id)
                self.resync_count += 1
            else:
                self._bytes += len(message)
        is_read = bool(self.readers)
        for reader in self.readers:
            is_read = reader.hear() and is_read
        if is_read:
            self._keep_newest(1)
        elif self._bytes > TAIL_BYTES or len(self._entries) > TAIL_ENTRIES:
            self._keep_newest(min(len(self._entries) // 2, TAIL_ENTRIES))

    def look(self, position: Position | None) -> None:
        """What the head says after a beat of silence."""
        self.verified_at = time.monotonic()
        for reader in self.readers:
            reader.look(position)

    @property
    def has_ended(self) -> bool:
        """Whether the end was heard; False says nothing."""
        return bool(self._entries) and isinstance(self._entries[-1].event, Done)

    def _add(self, entry: Entry) -> None:
        if self._entries:
            last = self._entries[-1].id
            if entry.id.epoch < last.epoch:  # a server came back with older data: what was heard may not be so
                self._clear()
                self.resync_count += 1
            elif entry.id <= last:
                return
            elif not entry.is_contiguous_after(last):
                self._clear()
        self._entries.append(entry)

    def _keep_newest(self, count: int) -> None:
        """Who has not read the older ones pages through the log. The newest stays, whatever its size: an end of
        megabytes is decoded once, and not once a reader."""
        older = len(self._entries) - max(1, count)
        if older > 0:
            del self._entries[:older]
            for frames in self._frames.values():
                del frames[:older]
            self._bytes //= 2

    def _clear(self) -> None:
        self._entries.clear()
        self._frames.clear()
        self._bytes = 0

    def after(self, cursor: EntryId, wire: Wire) -> "tuple[list[bytes], list[Entry]] | None":
        """What follows the cursor: frames and their entries, both empty if nothing does. None if it cannot be told
        from here."""
        entries = self._entries
        if len(entries) > 1 and entries[-2].id == cursor:  # the common case: only the newest is new
            first = len(entries) - 1
        else:
            first = bisect_right(entries, cursor, key=_id)
            if first == len(entries):
                return [], []
            if not entries[first].is_contiguous_after(cursor):
                return None
        frames = self._frames.get(wire)
        if frames is None:
            frames = self._frames[wire] = []
        if len(frames) < len(entries):
            encode = wire.bind(self.record, {})
            frames += [encode(entry) for entry in entries[len(frames) :]]
        return frames[first:], entries[first:]
