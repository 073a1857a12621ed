"""The newest entries of one live log, decoded once a process and encoded once a format.

A message of the log's channel becomes entries, the entries become frames of each format in use, and both are handed to
every follower. A follower only checks that they continue its position. What a follower could not take is kept, bounded
in bytes; beyond that it reads the log again. Once every follower has taken an entry, only the newest one is kept: a log
that is read live costs a reader next to nothing, and its objects are freed soon.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Protocol

from tailrace.errors import CorruptEntry
from tailrace.events import Done, Entry, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import Position
from tailrace.log.codec import received
from tailrace.stats import Stats
from tailrace.wire import Encode, Frame, WireFormat
from tailrace_frontend.streaming.delivery_counts import DeliveryCounts
from tailrace_frontend.streaming.recent_pages import RecentPages
from tailrace_frontend.streaming.single_flight import SingleFlightPages

TAIL_BYTES = 256 * 1024
TAIL_ENTRIES = 64

logger = logging.getLogger(__name__)
_id = attrgetter("id")


class Follower(Protocol):
    """A reader of a live log."""

    def on_entries(self, before_seq: int, frames: Sequence[Frame], entries: Sequence[Entry]) -> bool:
        """Entries were added; the first of them follows the sequence number `before_seq`.

        Returns whether the follower has taken them. If not, the tail keeps them for a while.
        """

    def on_resync(self) -> None:
        """Messages may have been missed: the log itself has to be read."""

    def on_position(self, position: Position | None) -> None:
        """The log was silent for a keep-alive interval, and its position was read. None: the log does not exist."""


class _Lane:
    """One format's followers and frames. `frames` belong to the first entries of the tail, one each."""

    __slots__ = ("_encode", "followers", "frames", "wire")

    def __init__(self, wire: WireFormat | None, encode: Encode | None) -> None:
        self.wire = wire
        self._encode = encode
        self.followers: set[Follower] = set()
        self.frames: list[Frame] = []

    def encoded(self, entries: Sequence[Entry]) -> list[Frame]:
        return list(map(self._encode, entries)) if self._encode else []

    def frames_from(self, entries: list[Entry], first: int) -> list[Frame]:
        self.frames += self.encoded(entries[len(self.frames) :])
        return self.frames[first:]


class LiveTail:
    """Consecutive entries: where an entry does not continue the one before it, the tail starts again with it.

    `resync_count` rises whenever messages may have been missed. `verified_at`: when the log last sent a message or had
    its position read, of `time.monotonic()`. `subscribed`: whether its channel is. `watchers`: followers that are
    operators, and no readers.
    """

    __slots__ = (
        "_bytes", "_counts", "_entries", "_lanes", "pages", "record", "resync_count", "subscribed", "verified_at",
        "watchers",
    )  # fmt: skip

    def __init__(
        self, record: GenerationRecord, counts: DeliveryCounts | None = None, recent: RecentPages | None = None
    ) -> None:
        self.record = record
        self._counts = counts or DeliveryCounts(Stats("frontend"))
        self.resync_count = 0
        self.pages = SingleFlightPages(record.id, RecentPages() if recent is None else recent)
        self.subscribed = False
        self.watchers = 0
        self.verified_at = time.monotonic()
        self._entries: list[Entry] = []
        self._lanes: list[_Lane] = []  # a dict would take 170 bytes more, and most logs are read in one format
        self._bytes = 0

    def attach(self, follower: Follower, wire: WireFormat | None, encode: Encode | None) -> None:
        """Hand entries to a follower from now on, with frames if it has a format."""
        lane = self._lane(wire)
        if lane is None:
            lane = _Lane(wire, encode)
            self._lanes.append(lane)
        lane.followers.add(follower)

    def detach(self, follower: Follower, wire: WireFormat | None) -> None:
        """Undo `attach`."""
        lane = self._lane(wire)
        if lane is not None:
            lane.followers.discard(follower)
            if not lane.followers:
                self._lanes.remove(lane)

    @property
    def is_followed(self) -> bool:
        return bool(self._lanes)

    def is_shared(self) -> bool:
        """Whether it has more than one follower."""
        return len(self._lanes) > 1 or any(len(lane.followers) > 1 for lane in self._lanes)

    @property
    def readers(self) -> int:
        """Followers with a format, without operators."""
        return sum(len(lane.followers) for lane in self._lanes if lane.wire is not None) - self.watchers

    @property
    def is_read(self) -> bool:
        """Whether somebody follows it who is no operator."""
        return sum(len(lane.followers) for lane in self._lanes) > self.watchers

    @property
    def has_ended(self) -> bool:
        """Whether the newest entry is the end; False: the log may have ended all the same, unseen by this tail."""
        return bool(self._entries) and isinstance(self._entries[-1].event, Done)

    def on_message(self, message: bytes | None) -> None:
        """A message of the log's channel: entries. None or an empty one: the log itself has to be read."""
        self.verified_at = time.monotonic()
        if not message:
            return self._request_resync()
        try:
            entries, sent_at = received(message)
        except CorruptEntry:
            logger.warning("%s: unreadable message", self.record.id)
            return self._request_resync()
        if not self._is_continued_by(entries) and not (entries := self._new_among(entries)):
            return None
        if self._hand_over(entries):
            self._keep_newest(entries[-1:], len(message))
            if sent_at is not None and self._lanes:
                self._counts.lag.observe(max(0.0, time.time() - sent_at))
        else:
            self._entries += entries
            self._bytes += len(message)
            self._bound()
        return None

    def on_position(self, position: Position | None) -> None:
        """The log's position, read after a keep-alive interval without a message."""
        self.verified_at = time.monotonic()
        if position is not None and self._entries and position.id > self._entries[-1].id:
            self._counts.gaps.value += 1
        for follower in self._followers():
            follower.on_position(position)

    def after(self, position: EntryId, wire: WireFormat) -> tuple[list[Frame], list[Entry]] | None:
        """The frames and entries that follow a position, both empty if there are none; None if the tail does not reach
        back to it."""
        entries = self._entries
        first = bisect_right(entries, position, key=_id)
        if first == len(entries):
            return [], []
        if not entries[first].is_contiguous_after(position):
            return None
        lane = self._lane(wire)
        assert lane is not None, "only attached followers read a tail"
        return lane.frames_from(entries, first), entries[first:]

    def _lane(self, wire: WireFormat | None) -> _Lane | None:
        return next((lane for lane in self._lanes if lane.wire is wire), None)

    def _followers(self) -> list[Follower]:
        return [follower for lane in self._lanes for follower in lane.followers]

    def _request_resync(self) -> None:
        self.resync_count += 1
        for follower in self._followers():
            follower.on_resync()

    def _is_continued_by(self, entries: Sequence[Entry]) -> bool:
        """Whether each entry follows the one before it, and the first of them the tail's newest. (Nearly always.)"""
        if not (entries and self._entries):
            return False
        last = self._entries[-1].id
        for entry in entries:
            if not entry.is_contiguous_after(last):
                return False
            last = entry.id
        return True

    def _new_among(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that the tail does not have. It starts again behind a gap, and where the server came back with older
        data, which may contradict the tail."""
        new: list[Entry] = []
        is_older = False
        for entry in entries:
            newest = new[-1].id if new else self._entries[-1].id if self._entries else None
            if newest is None or entry.is_contiguous_after(newest):
                new.append(entry)
            elif entry.id.epoch < newest.epoch or entry.id > newest:
                is_older = is_older or entry.id.epoch < newest.epoch
                self._counts.gaps.value += 1
                self._keep_newest([], 0)
                new = [entry]
        if is_older:
            self._entries = new
            self._bound()
            self._request_resync()
            return []
        return new

    def _hand_over(self, entries: list[Entry]) -> bool:
        """Hand new entries to every follower; whether all of them have taken them.

        Where a format's encoder fails, the followers of that format read the log instead. The same error then occurs in
        the task of each of these followers and aborts its connection; followers of other formats are not affected.
        """
        before_seq = self._entries[-1].id.seq if self._entries else entries[0].id.seq - entries[0].seq_span
        taken = True
        for lane in self._lanes:
            try:
                frames = lane.encoded(entries)
            except Exception:
                logger.exception("%s: an entry could not be encoded", self.record.id)
                taken = False
                for follower in lane.followers:
                    follower.on_resync()
                continue
            for follower in lane.followers:
                if not follower.on_entries(before_seq, frames, entries):
                    taken = False
            if not taken and len(lane.frames) == len(self._entries):
                lane.frames += frames
        return taken

    def _keep_newest(self, newest: list[Entry], size: int) -> None:
        """Keep nothing else. The newest entry is kept at any size: an end of megabytes is decoded once, and not once a
        reader."""
        self._entries = newest
        self._bytes = size
        for lane in self._lanes:
            lane.frames.clear()

    def _bound(self) -> None:
        """Drop older entries where there are too many; a follower that has not taken them reads the log."""
        count = len(self._entries)
        if self._bytes > TAIL_BYTES or count > TAIL_ENTRIES:
            older = count - max(1, min(count // 2, TAIL_ENTRIES))
            del self._entries[:older]
            for lane in self._lanes:
                del lane.frames[:older]
            self._bytes //= 2
