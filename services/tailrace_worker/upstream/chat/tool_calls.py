"""Which call a fragment of `tool_calls` belongs to.

index known         that call; but a new id together with a name, or another name alone, begins a new one there
index new           a new call; without a name, the one that has its id already
index missing       by id; a name with an unknown id begins a new call; else the last
"""

from tailrace.events import Json
from tailrace.ids import new_token
from tailrace_worker.upstream.fields import NOTHING


class Call:
    """A call in the making. Until its name comes it is not `opened`: `held` is what came before, `more` too.

    `tool` is its ordinal, once it has one. `pending_surrogate`: see `fields.join_surrogates`.
    """

    __slots__ = ("custom", "held", "id", "item", "more", "name", "opened", "pending_surrogate", "round", "tool")

    def __init__(self) -> None:
        self.opened = False
        self.custom = False
        self.id = ""
        self.name = ""
        self.item = 0
        self.tool = 0
        self.held: list[str] = []
        self.more: Json = NOTHING
        self.pending_surrogate = ""
        self.round = 0

    def identify(self) -> str:
        """Its id; one of ours where the upstream gave none: a client must be able to answer the call."""
        self.id = self.id or f"call_{new_token()}"
        return self.id


class Calls:
    """The calls of one choice. `round` counts the chunks that had some."""

    def __init__(self) -> None:
        self.all: list[Call] = []
        self.round = 0
        self._at: dict[int, Call] = {}
        self._last: Call | None = None
        self._tools = 0

    def number(self, call: Call) -> None:
        """Give it the next ordinal."""
        call.tool = self._tools
        self._tools += 1

    def find(self, index: int | None, id: str, name: str) -> Call:  # noqa: A002 - the upstream's word
        """The call that a fragment belongs to, a new one if need be; it knows id and name as far as they came."""
        call = self._without_index(id, name) if index is None else self._at_index(index, id, name)
        if call is None:
            call = Call()
            self.all.append(call)
        if index is not None:
            self._at[index] = call
        self._last = call
        if not call.opened:
            call.id = call.id or id
        if name and not call.name:
            call.name, call.round = name, self.round
        return call

    def _at_index(self, index: int, id: str, name: str) -> Call | None:  # noqa: A002
        call = self._at.get(index)
        if call is None:
            return None if name else self._with_id(id)
        differs = id != call.id if id and call.id else name != call.name != ""
        return self._with_id(id) if name and differs else call

    def _without_index(self, id: str, name: str) -> Call | None:  # noqa: A002
        if call := self._with_id(id):
            return call
        last = self._last
        if last is None or (id and name):
            return None
        # Neither index nor id: a new call if it has another name, or stands beside the last one in its chunk.
        if name and last.name and (name != last.name or last.round == self.round):
            return None
        return last

    def _with_id(self, id: str) -> Call | None:  # noqa: A002
        return next((call for call in reversed(self.all) if call.id == id), None) if id else None
