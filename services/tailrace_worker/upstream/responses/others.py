"""Items without a part of text: of tools that run at the upstream, encrypted reasoning, and kinds to come.

All of such an item is kept, and its events are shown in Responses as they came.
"""

from tailrace.events import Extra, Item, ItemClosed, ItemOpened, Json, Place, Text
from tailrace.ids import new_token
from tailrace_worker.upstream.fields import NOTHING
from tailrace_worker.upstream.responses.state import AnswerState, frames


class OtherItem:
    """An item without a part of text, whole. It needs its upstream's id: a reference to it is of use there alone."""

    def __init__(self, state: AnswerState, kind: str, item_id: str) -> None:
        self.kind = kind
        self.id = item_id
        self.is_done = False
        self._state = state
        self._ref = item_id or f"item_{new_token()}"

    def begin(self, item: Json, frame: Json) -> None:
        state = self._state
        self._number, index = state.next_item(), state.next_index()
        self._place: Place | None = None if index == self._number else (index, 0)
        self._fields = state.reader.verbatim(item)
        opened = ItemOpened(
            self._number, "other", choices=state.introduce(), place=self._place, ref=self._ref, fields=self._fields
        )
        state.emit(opened, frames([frame]))

    def add_event(self, event: Json) -> None:
        """An event of its own kind."""
        sent = {name: value for name, value in event.items() if name not in ("sequence_number", "obfuscation")}
        extra = Extra(events=[self._state.reader.verbatim(sent)])
        self._state.emit(Text(self._number, "", place=self._place), extra)

    def finish(self, item: Json, frame: Json = NOTHING) -> None:
        if self.is_done:
            return
        self.is_done = True
        whole = Item(
            self._number, "other", place=self._place, ref=self._ref,
            fields=self._state.reader.verbatim(item) or self._fields,
        )  # fmt: skip
        self._state.emit(ItemClosed(whole), frames([frame]))

    def close(self) -> None:
        """Nothing of it waits."""
