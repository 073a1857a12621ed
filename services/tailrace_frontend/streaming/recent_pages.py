"""Pages with their frames, and those of the last second that other readers of the same logs may want.

After a restart the readers of a log arrive over many turns of the event loop, so a page that is only shared while it is
being read would be read for most of them. An old page is as exact as a new one: a reader that has sent it asks the live
tail whether its position is still the newest, and reads on where it is not. (A page is never shared across a resync of
the tail, after which messages may be missing.)

What is kept is bounded in bytes for the whole process, and nothing is kept of a log that has one reader.
"""

from collections.abc import Iterator, Mapping

from tailrace.ids import EntryId
from tailrace.log import Page
from tailrace.log.reading import PAGE_BYTES
from tailrace.wire import Encode, Frame, WireFormat

KEPT_BYTES = 2 * 1024 * 1024
ENTRY_BYTES = 512
"""An entry, beside its text."""

Place = tuple[int, EntryId, int, bool, int]
"""The number of the live tail, the position, how many entries were asked for, whether adjacent ones were joined, and
the resync count of the live tail."""


class EncodedPage:
    """A page, and the frames of its first `PAGE_BYTES` in each format in which it was sent."""

    __slots__ = ("_frames", "page")

    def __init__(self, page: Page) -> None:
        self.page = page
        self._frames: dict[WireFormat, list[Frame]] | None = None

    def frames(self, wire: WireFormat, encode: Encode) -> Iterator[Frame]:
        """The frame of each entry, encoded when it is asked for."""
        if self._frames is None:
            self._frames = {}
        known = self._frames.setdefault(wire, [])
        size = 0
        for index, entry in enumerate(self.page.entries):
            if index < len(known):
                frame = known[index]
            else:
                frame = encode(entry)
                if size < PAGE_BYTES and index == len(known):
                    known.append(frame)
            size += len(frame or b"")
            yield frame


class RecentPages:
    """The pages that are kept, the newest last. `age` drops those that were kept before its last call but one."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._pages: dict[Place, EncodedPage] = {}
        self._older: Mapping[Place, EncodedPage] = {}
        self._bytes = 0

    @property
    def count(self) -> int:
        return len(self._pages) + len(self._older)

    def find(self, place: Place) -> EncodedPage | None:
        return self._pages.get(place) or self._older.get(place)

    def keep(self, place: Place, page: EncodedPage) -> None:
        """Keep a page for a second, unless it is empty or large, or too much is kept.

        A reader behind its tail would read an empty page again and again: it says that the log ends there.
        """
        entries = page.page.entries
        size = ENTRY_BYTES * len(entries) + page.page.size
        if entries and self._bytes + size <= self._most_bytes // 2:
            self._bytes += size
            self._pages[place] = page

    def age(self) -> None:
        """Called about twice a second."""
        self._older, self._pages, self._bytes = self._pages, {}, 0
