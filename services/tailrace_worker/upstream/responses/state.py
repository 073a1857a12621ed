"""What the items of one answer share."""

from typing import Protocol

import msgspec

from tailrace.events import NO_EXTRA, Event, Extra, Json
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.fields import MAX_ITEMS, LenientReader

MAX_HELD = 16
"""Items that wait for their first part. No upstream has more than a few at once."""


class HeldItem(Protocol):
    """An item that the upstream has added, and of which nothing is known that the log could open it as."""

    def force_open(self) -> None:
        """Open it as it is, because an item behind it is opened."""


class AnswerState:
    """What the items of one answer share: numbers, the reader of JSON, the events that were made.

    `begun`: items and parts so far. `unknown`: events of no item that wait for an entry. `tools`, `citations`: the
    numbers of calls and of cited pages so far. `introduced`: whether the choice has appeared. `held`: items that wait
    for their first part, in order.
    """

    def __init__(self, first_item: int, first_index: int, *, logprobs: bool) -> None:
        self.keep_logprobs = logprobs
        self.reader = LenientReader()
        self.translated: list[Translated] = []
        self.unknown: list[Json] = []
        self._unknown_bytes = 0
        self.tools = 0
        self.citations = 0
        self.begun = 0
        self._next_item, self._next_index = first_item, first_index
        self.introduced = False
        self.held: list[HeldItem] = []

    def next_item(self) -> int:
        self._next_item += 1
        return self._next_item - 1

    def next_index(self) -> int:
        self._next_index += 1
        return self._next_index - 1

    def may_begin(self) -> bool:
        """Whether one more item or part may begin; it is counted, else it counts as malformed."""
        if self.begun == MAX_ITEMS:
            self.reader.malformed += 1
            return False
        self.begun += 1
        return True

    def hold(self, item: HeldItem) -> None:
        """Keep an item until its first part begins. What is held counts for no limit: of too many all are opened."""
        self.held.append(item)
        if len(self.held) > MAX_HELD:
            self.open_before(None)

    def open_before(self, item: HeldItem | None) -> None:
        """Open the items that were added before this one, which is opened now. None: an item that was never held."""
        while self.held:
            first = self.held.pop(0)
            if first is item:
                return
            first.force_open()

    def introduce(self) -> list[int]:
        """The choices that appear with the next event: an answer has one."""
        new = [] if self.introduced else [0]
        self.introduced = True
        return new

    def add_unknown(self, event: Json) -> None:
        """Keep an event of no item until an entry carries it."""
        if size := self.reader.hold(event):
            self.unknown.append(event)
            self._unknown_bytes += size

    def emit(self, event: Event, extra: Extra = NO_EXTRA) -> None:
        if self.unknown:
            extra = msgspec.structs.replace(extra, unknown=self.unknown)
            self.unknown = []
            self.reader.release(self._unknown_bytes)
            self._unknown_bytes = 0
        self.translated.append(Translated(event, extra))

    def take(self) -> list[Translated]:
        translated, self.translated = self.translated, []
        return translated


def frames(further: list[Json]) -> Extra:
    """The further fields of an entry's frames, by ordinal."""
    found = {str(k): fields for k, fields in enumerate(further) if fields}
    return Extra(frames=found) if found else NO_EXTRA
