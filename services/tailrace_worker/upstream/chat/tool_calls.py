"""Assigns fragments of `tool_calls` to the calls of one choice.

index known         that call; a new id together with a name, or another name alone, begins a new call at that index
index new           a new call; without a name, the call that already has the fragment's id
index missing       by id; a name with an unknown id begins a new call; else the last call
"""

from tailrace.events import Json
from tailrace.ids import new_token
from tailrace_worker.upstream.fields import NOTHING


class ToolCall:
    """One call. Until its name arrives it is not `opened`; `held` and `held_fields` are what arrived before.

    `tool` is its ordinal in the choice, once it has one. `custom`: it is of a custom tool. `chunk`: the number of the
    chunk in which its name arrived. `pending_surrogate`: see `fields.join_surrogates`.
    """

    __slots__ = ("chunk", "custom", "held", "held_fields", "id", "item", "name", "opened", "pending_surrogate", "tool")

    def __init__(self) -> None:
        self.opened = False
        self.custom = False
        self.id = ""
        self.name = ""
        self.item = 0
        self.tool = 0
        self.held: list[str] = []
        self.held_fields: Json = NOTHING
        self.pending_surrogate = ""
        self.chunk = 0

    def ensure_id(self) -> str:
        """The upstream's id, or a generated one: without an id a client could not answer the call."""
        self.id = self.id or f"call_{new_token()}"
        return self.id


class ToolCalls:
    """The calls of one choice. `chunk` counts the chunks that had fragments of calls."""

    def __init__(self) -> None:
        self.all: list[ToolCall] = []
        self.chunk = 0
        self._at: dict[int, ToolCall] = {}
        self._last: ToolCall | None = None
        self._count = 0

    def number(self, call: ToolCall) -> None:
        """Give the call the next ordinal."""
        call.tool = self._count
        self._count += 1

    def find(self, index: int | None, id: str, name: str) -> ToolCall:  # noqa: A002 - the upstream's field name
        """The call that a fragment belongs to, or a new one; its id and name are set as far as they have arrived."""
        call = self._without_index(id, name) if index is None else self._at_index(index, id, name)
        if call is None:
            call = ToolCall()
            self.all.append(call)
        if index is not None:
            self._at[index] = call
        self._last = call
        if not call.opened:
            call.id = call.id or id
        if name and not call.name:
            call.name, call.chunk = name, self.chunk
        return call

    def _at_index(self, index: int, id: str, name: str) -> ToolCall | None:  # noqa: A002
        call = self._at.get(index)
        if call is None:
            return None if name else self._with_id(id)
        differs = id != call.id if id and call.id else name != call.name != ""
        return self._with_id(id) if name and differs else call

    def _without_index(self, id: str, name: str) -> ToolCall | None:  # noqa: A002
        if call := self._with_id(id):
            return call
        last = self._last
        if last is None or (id and name):
            return None
        # Neither index nor id: a new call if its name differs, or if the last call was named in the same chunk.
        if name and last.name and (name != last.name or last.chunk == self.chunk):
            return None
        return last

    def _with_id(self, id: str) -> ToolCall | None:  # noqa: A002
        return next((call for call in reversed(self.all) if call.id == id), None) if id else None
