"""Assigns fragments of `tool_calls` to the calls of one choice.

index known         that call; a new id together with a name, or another name alone, begins a new call at that index
index new           a new call; without a name, the call that already has the fragment's id
index missing       by id; a name with an unknown id begins a new call; of several fragments in one chunk, each belongs
                    to the call at its place among the calls that were last named together; else the last call
"""

from collections.abc import Callable

from tailrace import jsoncodec
from tailrace.events import Json
from tailrace.ids import new_token
from tailrace_worker.upstream.fields import NOTHING


class ToolCall:
    """One call. Until its name arrives it is not `opened`; `held` and `held_fields` are what arrived before.

    `tool` is its ordinal in the choice, once it has one. `custom`: it is of a custom tool. `chunk`: the number of the
    chunk in which its name arrived. `arguments`: what was emitted of them. `pending_surrogate`: see
    `fields.join_surrogates`.
    """

    __slots__ = (
        "arguments", "chunk", "custom", "held", "held_characters", "held_fields", "id", "item", "name", "opened",
        "pending_surrogate", "position", "tool",
    )  # fmt: skip

    def __init__(self, position: int) -> None:
        self.position = position
        self.opened = False
        self.custom = False
        self.id = ""
        self.name = ""
        self.item = 0
        self.tool = 0
        self.arguments: list[str] = []
        self.held: list[str] = []
        self.held_characters = 0
        self.held_fields: Json = NOTHING
        self.pending_surrogate = ""
        self.chunk = 0

    @property
    def is_whole(self) -> bool:
        """Whether its arguments could end here: a custom tool's are any text, others JSON, or nothing."""
        text = "".join(self.arguments)
        if self.custom or not text.strip():
            return self.opened
        try:
            jsoncodec.loads(text)
        except ValueError:
            return False
        return True

    def ensure_id(self) -> str:
        """The upstream's id, or a generated one: without an id a client could not answer the call."""
        self.id = self.id or f"call_{new_token()}"
        return self.id


class ToolCalls:
    """The calls of one choice. `chunk` counts the chunks that had fragments of calls. `may_begin`: whether there may be
    one more. The work for a fragment does not grow with the number of calls."""

    def __init__(self, may_begin: Callable[[], bool] = lambda: True) -> None:
        self.all: list[ToolCall] = []
        self.chunk = 0
        self._may_begin = may_begin
        self._by_id: dict[str, ToolCall] = {}
        self._named_in: dict[int, list[ToolCall]] = {0: []}  # calls by their `chunk`; 0: those without a name
        self._at: dict[int, ToolCall] = {}
        self._last: ToolCall | None = None
        self._count = 0

    def number(self, call: ToolCall) -> None:
        """Give the call the next ordinal."""
        call.tool = self._count
        self._count += 1

    def find(self, index: int | None, id: str, name: str, place: int | None = None) -> ToolCall | None:  # noqa: A002
        """The call that a fragment belongs to, or a new one; its id and name are set as far as they have arrived.
        `place`: the fragment's among those of its chunk, where that has several. None: there may be no new one."""
        call = self._without_index(id, name, place) if index is None else self._at_index(index, id, name)
        if call is None:
            if not self._may_begin():
                return None
            call = ToolCall(len(self.all))
            self.all.append(call)
            self._named_in[0].append(call)
        if index is not None:
            self._at[index] = call
        self._last = call
        if id and not (call.opened or call.id):
            call.id = id
            self._by_id[id] = max(call, self._by_id.get(id, call), key=lambda each: each.position)
        if name and not call.name:
            call.name, call.chunk = name, self.chunk
            self._named_in[0].remove(call)
            self._named_in.setdefault(call.chunk, []).append(call)
        return call

    def _at_index(self, index: int, id: str, name: str) -> ToolCall | None:  # noqa: A002
        call = self._at.get(index)
        if call is None:
            return None if name else self._with_id(id)
        differs = id != call.id if id and call.id else name != call.name != ""
        return self._with_id(id) if name and differs else call

    def _without_index(self, id: str, name: str, place: int | None) -> ToolCall | None:  # noqa: A002
        if call := self._with_id(id):
            return call
        last = self._last
        if last is None or (id and name):
            return None
        if place is not None and not (id or name):
            together = self._named_in[last.chunk]
            return together[place] if place < len(together) else last
        # Neither index nor id: a new call if its name differs, or if the last call was named in the same chunk.
        if name and last.name and (name != last.name or last.chunk == self.chunk):
            return None
        return last

    def _with_id(self, id: str) -> ToolCall | None:  # noqa: A002
        return self._by_id.get(id)
