"""One choice of an answer: its deltas in, events out.

Rule 1: a change of kind closes the open text, reasoning or refusal. Calls stay open: fragments of several calls may
interleave, and `done` closes them.
Rule 2: passthrough fields (logprobs, annotations, unknown fields, the choice's lists) are attached to the first text
of their chunk, else to its first delta, else to an empty delta: of the open item, of the last call, or of a text opened
for them. A list of a choice is no repetition of an equal one: vLLM's `token_ids` are those of its chunk.
Rule 3: chunk- and choice-level fields are attached to the next entry that every wire format renders, so never to
`item_closed`.
Rule 4: items beyond `MAX_ITEMS` of an answer, over all choices, count as malformed.
Rule 5: a high surrogate at the end of a text waits in its item for the low one; if none follows, U+FFFD is written.
"""

import msgspec

from tailrace.events import (
    NO_EXTRA,
    Delta,
    Extra,
    Item,
    ItemClosed,
    ItemOpened,
    Json,
    Place,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace_worker.upstream.chat.chunk import ChatChoice
from tailrace_worker.upstream.chat.fragments import NO_DELTA, Fragment, Kind, ToolCallFragment
from tailrace_worker.upstream.chat.tool_calls import ToolCall, ToolCalls
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.fields import MAX_ITEMS, NOTHING, ChangedFields, LenientReader, join_surrogates

MAX_HELD_CHARACTERS = 64 * 1024
MAX_HELD_FIELDS = 64
"""Of a call whose name has not arrived. What is held counts for no limit, so it must be bounded itself."""


class Passthrough(msgspec.Struct, frozen=True):
    """Fields of a delta, logprobs and lists of its choice, for the `extra` of one entry."""

    delta: Json = NOTHING
    logprobs: Json = NOTHING
    lists: Json = NOTHING


NO_PASSTHROUGH = Passthrough()


class StreamState:
    """State that the choices of one answer share: item numbers, chunk-level fields, the choices that have appeared.

    `choices` is one more than the highest index so far; the first `introduced` of them have appeared in an event.
    """

    def __init__(self, first_item: int, first_index: int, *, logprobs: bool) -> None:
        self.keep_logprobs = logprobs
        self.reader = LenientReader()
        self.chunk_fields = ChangedFields(self.reader)
        self.choices = 0
        self.introduced = 0
        self.begun = 0
        self._next_item = first_item
        self._shift = first_index - first_item

    def place_of(self, item: int) -> Place | None:
        """The item's place in Responses: its number, unless an earlier attempt had items of several parts."""
        return (item + self._shift, 0) if self._shift else None

    def may_begin(self) -> bool:
        """Whether one more item or call may begin; it is counted, else it counts as malformed."""
        if self.begun == MAX_ITEMS:
            self.reader.malformed += 1
            return False
        self.begun += 1
        return True

    def next_item(self) -> int:
        """The number of the next item."""
        self._next_item += 1
        return self._next_item - 1

    def introduce(self) -> list[int]:
        """The choices that appear with the next event, in index order."""
        new = list(range(self.introduced, self.choices))
        self.introduced = self.choices
        return new


class OpenItem:
    """The text, reasoning or refusal that is open in a choice."""

    __slots__ = ("annotations", "choice", "item", "key", "kind", "logprobs", "pending_surrogate", "place", "texts")

    def __init__(self, item: int, kind: Kind, choice: int, place: Place | None) -> None:
        self.item = item
        self.place = place
        self.kind = kind
        self.choice = choice
        self.key = ""
        self.texts: list[str] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.pending_surrogate = ""

    @classmethod
    def continued(cls, item: Item, place: Place | None) -> "OpenItem":
        """A text that an earlier answer has begun."""
        opened = cls(item.item, "text", item.choice, place)
        opened.texts.append(item.text or "")
        opened.logprobs += item.logprobs
        return opened

    def delta(self, text: str) -> Delta:
        if self.kind == "text":
            if self.place is None:
                return Text(self.item, text, self.choice)
            return Text(self.item, text, self.choice, place=self.place)
        if self.kind == "refusal":
            return Refusal(self.item, text, self.choice, place=self.place)
        return Reasoning(self.item, text, self.choice, self.key, place=self.place)

    def keep(self, passthrough: Passthrough) -> int:
        """Keep what `item_closed` repeats; return how many annotations the item had before."""
        before = 0
        if annotations := passthrough.delta.get("annotations"):
            before = len(self.annotations)
            self.annotations += annotations
        self.logprobs += passthrough.logprobs.get("content") or []
        return before

    def whole(self, *, logprobs: bool) -> Item:
        return Item(
            self.item, self.kind, self.choice, text="".join(self.texts), annotations=self.annotations,
            logprobs=self.logprobs if logprobs else [], place=self.place,
        )  # fmt: skip


class Choice:
    """One choice. Its events are appended to `translated`, which the caller takes. `item`: is open from the beginning.

    `finish` is the last finish reason, `usage` the last usage that stood on this choice. `has_answer`: whether there
    is anything but reasoning.
    """

    def __init__(
        self, state: StreamState, index: int, translated: list[Translated], item: OpenItem | None = None
    ) -> None:
        self.finish: str | None = None
        self.usage: Json = NOTHING
        self.has_answer = False
        self._state = state
        self._index = index
        self._translated = translated
        self._fields = ChangedFields(state.reader)
        self._item = item
        self._calls = ToolCalls(state.may_begin)
        self._call: ToolCall | None = None  # the last that was opened
        self._passthrough: Passthrough | None = None  # of the current chunk, until an entry carries it

    def add(self, choice: ChatChoice) -> None:
        """Add one element of a chunk's `choices`."""
        fields, lists = _without_lists(choice.fields) if choice.fields else (NOTHING, NOTHING)
        self._fields.update(fields)
        self.finish = choice.finish_reason or self.finish
        self.usage = choice.usage or self.usage
        delta = choice.delta
        if choice.is_message and (self._item or self._call):
            delta = NO_DELTA  # after deltas, a message repeats them
        carried = delta.fields or choice.logprobs or lists
        self._passthrough = Passthrough(delta.fields, choice.logprobs, lists) if carried else None
        self._add_fragments(delta.fragments)
        if delta.tool_calls:
            self._calls.chunk += 1
            are_several = len(delta.tool_calls) > 1
            for place, fragment in enumerate(delta.tool_calls):
                self._add_call_fragment(fragment, place if are_several else None)
        if self._passthrough:
            self._emit_passthrough(self._passthrough)
            self._passthrough = None

    @property
    def is_whole(self) -> bool:
        """Whether the answer could end here: it is not reasoning alone, and the arguments of its calls are JSON."""
        return self.has_answer and all(call.is_whole for call in self._calls.all)

    @property
    def holds_call(self) -> bool:
        return any(not call.opened for call in self._calls.all)

    def continue_text(self, text: str) -> Translated:
        """More text of the open item: without lone surrogates and without other fields."""
        assert self._item is not None
        self._item.texts.append(text)
        return Translated(self._item.delta(text), NO_EXTRA)

    def close(self) -> None:
        """Emit the content that was held back for a later chunk, because no chunk follows."""
        self._flush_surrogate()
        for call in self._calls.all:
            if not call.opened:
                self._open_call(call, NOTHING)
            if call.pending_surrogate:
                call.pending_surrogate = ""
                self._emit(self._arguments(call, "\ufffd"))
        for _ in range(2):  # the first values, then the latest
            if self._fields.is_pending:
                self._emit_passthrough(NO_PASSTHROUGH)

    # ── text, reasoning, refusal ────────────────────────────────────────────────────────────────────────────────────

    def _add_fragments(self, fragments: list[Fragment]) -> None:
        carrier = None
        if self._passthrough and fragments:
            carrier = next((fragment for fragment in fragments if fragment.kind == "text"), fragments[0])
        for fragment in fragments:
            if fragment is carrier:
                self._add_fragment(fragment, self._passthrough)
                self._passthrough = None
            else:
                self._add_fragment(fragment)

    def _add_fragment(self, fragment: Fragment, passthrough: Passthrough | None = None) -> None:
        item = self._item
        if item is None or item.kind != fragment.kind:
            if not self._state.may_begin():
                return
            self._close_item()
            number = self._state.next_item()
            item = self._item = OpenItem(number, fragment.kind, self._index, self._state.place_of(number))
            self.has_answer = self.has_answer or fragment.kind != "reasoning"
            self._emit_opened(
                ItemOpened(item.item, fragment.kind, self._index, self._state.introduce(), place=item.place)
            )
        item.key = fragment.key or item.key
        text, item.pending_surrogate = join_surrogates(item.pending_surrogate, fragment.text)
        if text or passthrough:
            item.texts.append(text)
            self._emit(item.delta(text), passthrough, before=item.keep(passthrough) if passthrough else 0)

    def _flush_surrogate(self) -> None:
        if self._item and self._item.pending_surrogate:
            self._item.pending_surrogate = ""
            self._item.texts.append("\ufffd")
            self._emit(self._item.delta("\ufffd"))

    def _close_item(self) -> None:
        if self._item:
            self._flush_surrogate()
            whole = self._item.whole(logprobs=self._state.keep_logprobs)
            self._translated.append(Translated(ItemClosed(whole), NO_EXTRA))
            self._item = None

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _add_call_fragment(self, fragment: ToolCallFragment, place: int | None) -> None:
        call = self._calls.find(fragment.index, fragment.id, fragment.name, place)
        if call is None:
            return
        if not call.opened:
            call.custom = call.custom or fragment.is_custom
        call.held.append(fragment.arguments)
        if call.opened:
            self._emit_held(call, fragment.fields)
        elif call.name:
            self._open_call(call, fragment.fields)
        else:
            call.held_fields = {**call.held_fields, **fragment.fields}
            call.held_characters += len(fragment.arguments)
            if call.held_characters > MAX_HELD_CHARACTERS or len(call.held_fields) > MAX_HELD_FIELDS:
                self._open_call(call, NOTHING)  # (no upstream sends the name behind so much)

    def _open_call(self, call: ToolCall, fields: Json) -> None:
        self._close_item()
        self._calls.number(call)
        call.item = self._state.next_item()
        call.opened = self.has_answer = True
        self._call = call
        introduced = self._state.introduce()
        opened = ItemOpened(
            call.item, "call", self._index, introduced, call.tool, call.ensure_id(), call.name, call.custom,
            self._state.place_of(call.item),
        )  # fmt: skip
        self._emit_opened(opened, {**call.held_fields, **fields})
        self._emit_held(call, NOTHING)

    def _emit_held(self, call: ToolCall, fields: Json) -> None:
        text, call.pending_surrogate = join_surrogates(call.pending_surrogate, "".join(call.held))
        call.held.clear()
        call.arguments.append(text)
        if text or fields or self._passthrough:
            self._emit(self._arguments(call, text), self._passthrough, fields)
            self._passthrough = None

    def _arguments(self, call: ToolCall, text: str) -> ToolArguments:
        place = self._state.place_of(call.item)
        return ToolArguments(call.item, text, self._index, call.tool, call.id, call.custom, place=place)

    # ── entries ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit_passthrough(self, passthrough: Passthrough) -> None:
        """Emit an empty delta that carries the fields that have no text of their own."""
        if self._item:
            self._add_fragment(Fragment(self._item.kind, ""), passthrough)
        elif call := self._call:
            self._emit(self._arguments(call, ""), passthrough)
        else:
            self._add_fragment(Fragment("text", ""), passthrough)

    def _emit_opened(self, opened: ItemOpened, call_fields: Json = NOTHING) -> None:
        self._translated.append(Translated(opened, self._extra(None, call_fields)))

    def _emit(
        self, delta: Delta, passthrough: Passthrough | None = None, call_fields: Json = NOTHING, before: int = 0
    ) -> None:
        extra = self._extra(passthrough, call_fields, before)
        if delta.text or extra is not NO_EXTRA:
            self._translated.append(Translated(delta, extra))

    def _extra(self, passthrough: Passthrough | None, call_fields: Json, before: int = 0) -> Extra:
        shared, own = self._state.chunk_fields, self._fields
        if not (passthrough or call_fields or shared.has_changes or own.has_changes):
            return NO_EXTRA
        carried = passthrough or NO_PASSTHROUGH
        choice = own.take_changes()
        if carried.lists:
            choice = {**choice, **carried.lists}
        if carried.logprobs:
            choice = {**choice, "logprobs": carried.logprobs}
        extra = Extra(shared.take_changes(), choice, carried.delta, call_fields, before)
        return NO_EXTRA if extra == NO_EXTRA else extra


def _without_lists(fields: Json) -> tuple[Json, Json]:
    """The fields of a choice that every chunk may repeat, and its lists."""
    lists = {key: value for key, value in fields.items() if isinstance(value, list)}
    return {key: value for key, value in fields.items() if key not in lists} if lists else fields, lists
