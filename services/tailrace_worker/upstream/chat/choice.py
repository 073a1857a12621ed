"""One choice of an answer: its deltas in, events out.

Rule 1: a change of kind closes the text, the reasoning or the refusal that is open. Calls stay open: fragments of
several may interleave, and `done` closes them.
Rule 2: cargo (logprobs, annotations, fields unknown here) rides on the first text of its chunk, else on its first
delta, else on an empty one: of the open item, of the last call, or of a text opened for it.
Rule 3: what sticks to the chunk or the choice rides on the next entry that has a word on every wire, so never on
`closed`.
Rule 4: half a surrogate pair waits in its item for the other half, and becomes U+FFFD where none comes.
"""

from typing import NamedTuple

import msgspec

from tailrace.events import (
    NO_EXTRA,
    Delta,
    Event,
    Extra,
    Item,
    ItemClosed,
    ItemOpened,
    Json,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace_worker.upstream.chat.fragments import Cargo, Kind, Said, hear
from tailrace_worker.upstream.chat.tool_calls import Call, Calls
from tailrace_worker.upstream.fields import NOTHING, ChangedFields, LenientReader, join_surrogates

OF_A_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage"})
OF_A_CALL = frozenset({"index", "id", "type", "function"})
OF_A_FUNCTION = OF_A_CALL | {"name", "arguments"}


class Piece(NamedTuple):
    """An event as it comes of a chunk. Its number is the writer's."""

    event: Event
    extra: Extra


class Answer:
    """What the choices of one answer share: item numbers, the chunks' own fields, which choices have appeared."""

    def __init__(self, first_item: int, *, logprobs: bool) -> None:
        self.keep_logprobs = logprobs
        self.read = LenientReader()
        self.chunk_fields = ChangedFields()
        self.choices = 0  # one more than the highest index
        self.introduced = 0  # that many have appeared on a wire
        self._next_item = first_item

    def number(self) -> int:
        """Of the next item."""
        self._next_item += 1
        return self._next_item - 1

    def introduce(self) -> list[int]:
        """Choices that appear now, in index order."""
        new = list(range(self.introduced, self.choices))
        self.introduced = self.choices
        return new


class Part:
    """A text, reasoning or refusal in the making."""

    __slots__ = ("annotations", "choice", "item", "key", "kind", "logprobs", "pending_surrogate", "texts")

    def __init__(self, item: int, kind: Kind, choice: int) -> None:
        self.item = item
        self.kind = kind
        self.choice = choice
        self.key = ""
        self.texts: list[str] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.pending_surrogate = ""

    def delta(self, text: str) -> Delta:
        if self.kind == "text":
            return Text(self.item, text, self.choice)
        if self.kind == "refusal":
            return Refusal(self.item, text, self.choice)
        return Reasoning(self.item, text, self.choice, self.key)

    def note(self, cargo: Cargo) -> int:
        """Remember what the item needs when it closes; returns how many annotations came before."""
        before = 0
        if annotations := cargo.delta.get("annotations"):
            before = len(self.annotations)
            self.annotations += annotations
        self.logprobs += cargo.logprobs.get("content") or []
        return before

    def whole(self, *, logprobs: bool) -> Item:
        return Item(
            self.item, self.kind, self.choice, text="".join(self.texts), annotations=self.annotations,
            logprobs=self.logprobs if logprobs else [],
        )  # fmt: skip


class Choice:
    """One choice. Its events go to `pieces`, which the caller takes."""

    def __init__(self, answer: Answer, index: int, pieces: list[Piece]) -> None:
        self.finish: str | None = None
        self.usage: Json = NOTHING
        self._answer = answer
        self._read = answer.read
        self._index = index
        self._pieces = pieces
        self._own_fields = ChangedFields()
        self._part: Part | None = None
        self._calls = Calls()
        self._call: Call | None = None  # the last that was opened
        self._cargo: Cargo | None = None

    def add(self, told: Json) -> None:
        """One element of a chunk's `choices`."""
        read = self._read
        self._own_fields.update(read.unknown_fields(told, OF_A_CHOICE))
        if reason := told.get("finish_reason"):
            self.finish = read.string(reason) or self.finish
        if usage := told.get("usage"):
            self.usage = read.verbatim(read.fields(usage)) or self.usage
        delta = told.get("delta")
        if delta is None and self._part is None and self._call is None:
            delta = told.get("message")  # an answer told whole; beside deltas it only repeats them
        delta = read.fields(delta)
        said, self._cargo = hear(delta, told.get("logprobs"), read)
        self._say_all(said)
        if delta.get("tool_calls"):
            self._calls.round += 1
            for fragment in read.objects(delta["tool_calls"]):
                self._add_fragment(fragment)
        if self._cargo:
            self._carry(self._cargo)
            self._cargo = None

    def more(self, text: str) -> Piece:
        """More of the part that is open; text without halves, and nothing beside it."""
        assert self._part is not None
        self._part.texts.append(text)
        return Piece(self._part.delta(text), NO_EXTRA)

    def close(self) -> None:
        """Nothing more will come: tell what was held."""
        self._end_half()
        for call in self._calls.all:
            if not call.opened and not call.custom:
                self._open_call(call, NOTHING)
            if call.pending_surrogate:
                call.pending_surrogate = ""
                self._tell(ToolArguments(call.item, "\ufffd", self._index, call.tool, call.id))
        while self._own_fields.is_pending:
            self._carry(Cargo())

    # ── text, reasoning, refusal ────────────────────────────────────────────────────────────────────────────────────

    def _say_all(self, said: list[Said]) -> None:
        carrier = None
        if self._cargo and said:
            carrier = next((each for each in said if each.kind == "text"), said[0])
        for each in said:
            if each is carrier:
                self._say(each, self._cargo)
                self._cargo = None
            else:
                self._say(each)

    def _say(self, said: Said, cargo: Cargo | None = None) -> None:
        part = self._part
        if part is None or part.kind != said.kind:
            self._close_part()
            part = self._part = Part(self._answer.number(), said.kind, self._index)
            self._open(ItemOpened(part.item, said.kind, self._index, self._answer.introduce()))
        part.key = said.key or part.key
        text, part.pending_surrogate = join_surrogates(part.pending_surrogate, said.text)
        if text or cargo:
            part.texts.append(text)
            self._tell(part.delta(text), cargo, before=part.note(cargo) if cargo else 0)

    def _end_half(self) -> None:
        if self._part and self._part.pending_surrogate:
            self._part.pending_surrogate = ""
            self._part.texts.append("\ufffd")
            self._tell(self._part.delta("\ufffd"))

    def _close_part(self) -> None:
        if self._part:
            self._end_half()
            whole = self._part.whole(logprobs=self._answer.keep_logprobs)
            self._pieces.append(Piece(ItemClosed(whole), NO_EXTRA))
            self._part = None

    def _carry(self, cargo: Cargo) -> None:
        """An empty delta for what has no text of its own."""
        if self._part:
            self._say(Said(self._part.kind, ""), cargo)
        elif call := self._call:
            self._tell(ToolArguments(call.item, "", self._index, call.tool, call.id), cargo)
        else:
            self._say(Said("text", ""), cargo)

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add_fragment(self, told: Json) -> None:
        read = self._read
        function = read.fields(told.get("function"))
        name, index = read.string(function.get("name")), read.index(told.get("index"))
        call = self._calls.find(index, read.string(told.get("id")), name)
        if call.custom or "custom" in told:
            return self._add_custom(call, told)
        more = {**read.unknown_fields(function, OF_A_FUNCTION), **read.unknown_fields(told, OF_A_CALL)}
        call.held.append(self._arguments(function.get("arguments")))
        if call.opened:
            self._tell_held(call, more)
        elif call.name:
            self._open_call(call, more)
        else:
            call.more = {**call.more, **more}
        return None

    def _arguments(self, told: object) -> str:
        if isinstance(told, dict):  # some tell them parsed
            return msgspec.json.encode(self._read.verbatim(told)).decode()
        return self._read.text(told)

    def _add_custom(self, call: Call, told: Json) -> None:
        """A call whose input is no JSON: verbatim, at its place among the calls, beside an empty text."""
        if not call.custom:
            call.custom = True
            self._calls.number(call)
        fields = self._read.verbatim({"tool_calls": [{**told, "index": call.tool}]})
        self._say(Said("text", ""), Cargo(fields))

    def _open_call(self, call: Call, more: Json) -> None:
        self._close_part()
        self._calls.number(call)
        call.item = self._answer.number()
        call.opened = True
        self._call = call
        introduced = self._answer.introduce()
        opened = ItemOpened(call.item, "call", self._index, introduced, call.tool, call.identify(), call.name)
        self._open(opened, {**call.more, **more})
        self._tell_held(call, NOTHING)

    def _tell_held(self, call: Call, more: Json) -> None:
        text, call.pending_surrogate = join_surrogates(call.pending_surrogate, "".join(call.held))
        call.held.clear()
        if text or more or self._cargo:
            self._tell(ToolArguments(call.item, text, self._index, call.tool, call.id), self._cargo, more)
            self._cargo = None

    # ── entries ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, opened: ItemOpened, more: Json = NOTHING) -> None:
        self._pieces.append(Piece(opened, self._extra(None, more)))

    def _tell(self, delta: Delta, cargo: Cargo | None = None, more: Json = NOTHING, before: int = 0) -> None:
        extra = self._extra(cargo, more, before)
        if delta.text or extra is not NO_EXTRA:
            self._pieces.append(Piece(delta, extra))

    def _extra(self, cargo: Cargo | None, more: Json, before: int = 0) -> Extra:
        shared, own = self._answer.chunk_fields, self._own_fields
        if not (cargo or more or shared.has_changes or own.has_changes):
            return NO_EXTRA
        fields, logprobs = cargo or Cargo()
        choice = own.take_changes()
        if logprobs:
            choice = {**choice, "logprobs": logprobs}
        extra = Extra(shared.take_changes(), choice, fields, more, before)
        return NO_EXTRA if extra == NO_EXTRA else extra
