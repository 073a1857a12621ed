"""Calls of functions and of custom tools. A call is closed when its item ends."""

import msgspec

from tailrace.events import NO_EXTRA, Item, ItemClosed, ItemOpened, Json, Place, ToolArguments
from tailrace.ids import new_token
from tailrace_worker.upstream.fields import NOTHING, join_surrogates
from tailrace_worker.upstream.responses import known
from tailrace_worker.upstream.responses.state import AnswerState, frames

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
"""Types of calls, and the field with their arguments."""


class CallItem:
    """A call of a function or of a custom tool."""

    def __init__(self, state: AnswerState, kind: str, item_id: str) -> None:
        self.kind = kind
        self.id = item_id
        self.is_done = False
        self._state = state
        self._field = CALLS[kind]
        self._custom = kind == "custom_tool_call"
        self._texts: list[str] = []
        self._pending_surrogate = ""
        self._fields: Json = NOTHING

    def begin(self, item: Json, frame: Json) -> None:
        state = self._state
        self._number, index = state.next_item(), state.next_index()
        self._place: Place | None = None if index == self._number else (index, 0)
        self._tool = state.tools
        state.tools += 1
        self.name = state.reader.string(item.get("name"))
        self._call_id = state.reader.string(item.get("call_id")) or self.id or f"call_{new_token()}"
        self._fields = state.reader.unknown_fields(item, known.CALL)
        opened = ItemOpened(
            self._number, "call", 0, state.introduce(), self._tool, self._call_id, self.name, self._custom,
            place=self._place, fields=self._fields,
        )  # fmt: skip
        extra = frames([frame])
        state.emit(opened, msgspec.structs.replace(extra, call=self._fields) if self._fields else extra)
        self.reconcile(state.reader.text(item.get(self._field)))

    @property
    def call_id(self) -> str:
        return self._call_id

    def add(self, text: str, frame: Json = NOTHING) -> None:
        text, self._pending_surrogate = join_surrogates(self._pending_surrogate, text)
        extra = frames([frame])
        if text or extra is not NO_EXTRA:
            self._texts.append(text)
            self._state.emit(self._delta(text), extra)

    def _delta(self, text: str) -> ToolArguments:
        return ToolArguments(
            self._number, text, tool=self._tool, call=self._call_id, custom=self._custom, place=self._place
        )

    def reconcile(self, whole: str) -> None:
        """Add what was not streamed of the arguments."""
        self._texts = ["".join(self._texts)]
        streamed = self._texts[0] + self._pending_surrogate
        if whole.startswith(streamed):
            self.add(whole[len(streamed) :])
        elif whole:
            whole, _ = join_surrogates("", whole)
            self._state.reader.malformed += whole != streamed

    def finish(self, item: Json, frame: Json = NOTHING) -> None:
        if self.is_done:
            return
        self.is_done = True
        given = item.get(self._field)
        self.reconcile(self._state.reader.text(given))
        self.close()
        if item.get("status") == "incomplete":
            return
        self._fields = {**self._fields, **self._state.reader.unknown_fields(item, known.CALL)}
        whole = Item(
            self._number, "call", tool=self._tool, id=self._call_id, name=self.name, arguments="".join(self._texts),
            call=self._fields or None, custom=self._custom, place=self._place,
        )  # fmt: skip
        self._state.emit(ItemClosed(whole), frames([NOTHING, frame]))

    def close(self) -> None:
        if self._pending_surrogate:
            self._pending_surrogate = ""
            self._texts.append("\ufffd")
            self._state.emit(self._delta("\ufffd"))
