"""Messages and reasoning, with their parts: Responses events of an item in, events of the log out.

Rule 1: each part of an item is an item of the log. An item is opened there when its first part begins: until then only
its end could show that it has none. One without a part (encrypted reasoning) is of type `other` and keeps all of its
fields. So is one that an item behind it overtakes: its parts then follow under its place.
Rule 2: a part is closed when the next one begins or its item ends, whichever is first: only then is it known whether it
is the last. A call is closed when its item ends.
Rule 3: what an upstream repeats at the end of a part, an item or an answer is compared with what was streamed. What
was not streamed is added. Where both differ, the streamed text counts: clients have it.
Rule 4: an item that the upstream ends as `incomplete` stays open: the end of the answer closes it as such.
"""

from collections import Counter
from typing import Any

import msgspec

from tailrace.events import (
    NO_EXTRA,
    Delta,
    Extra,
    Form,
    Item,
    ItemClosed,
    ItemOpened,
    ItemType,
    Json,
    Place,
    Reasoning,
    Refusal,
    Text,
)  # fmt: skip
from tailrace_worker.upstream.fields import MAX_ITEMS, NOTHING, join_surrogates
from tailrace_worker.upstream.responses import known
from tailrace_worker.upstream.responses.others import OtherItem
from tailrace_worker.upstream.responses.state import AnswerState, frames


class Part:
    """An item of the log: a part of a message or of reasoning. `number`: the item's; `index`: the upstream's of the
    part. `fields`: those of the part that the log has no place for."""

    __slots__ = (
        "annotations", "fields", "form", "index", "is_complete", "is_open", "kind", "logprobs", "number",
        "pending_surrogate", "place", "ref", "texts",
    )  # fmt: skip

    def __init__(self, kind: ItemType, form: Form, index: int, number: int, place: Place | None, ref: str) -> None:
        self.kind = kind
        self.form = form
        self.index = index
        self.number = number
        self.place = place
        self.ref = ref
        self.texts: list[str] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.pending_surrogate = ""
        self.fields: Json = NOTHING
        self.is_open = True
        self.is_complete = False

    @property
    def text(self) -> str:
        self.texts = ["".join(self.texts)]
        return self.texts[0]

    def delta(self, text: str) -> Delta:
        if self.kind == "text":
            return Text(self.number, text) if self.place is None else Text(self.number, text, place=self.place)
        if self.kind == "refusal":
            return Refusal(self.number, text, place=self.place)
        return Reasoning(self.number, text, place=self.place, form=self.form, ref=self.ref)


class OutputItem:
    """An item of the upstream's. `id` is the upstream's, `index` ours; `fields` are those that the log has no place
    for."""

    def __init__(self, state: AnswerState, kind: str, item_id: str) -> None:
        self.kind = kind
        self.id = item_id
        self.is_done = False
        self.parts: list[Part] = []
        self._found: dict[tuple[ItemType, Form, int | None], Part] = {}
        self._counts: Counter[Form] = Counter()
        self._state = state
        self._fields: Json = NOTHING
        self._frame: Json = NOTHING
        self._added: Json = NOTHING
        self._opener: Item | None = None  # where it was opened before its first part
        self._index: int | None = None
        self._ref = ""

    def begin(self, item: Json, frame: Json) -> None:
        """The upstream has added it. `frame`: further fields of that event."""
        self._frame = frame
        self._fields = self._further(item)
        self._added = self._state.reader.verbatim({"type": self.kind, **item})
        self._state.hold(self)

    def force_open(self) -> None:
        state = self._state
        number, self._index = state.next_item(), state.next_index()
        self._ref = self.id if self.kind == "reasoning" else ""
        place = None if self._index == number else (self._index, 0)
        self._opener = Item(number, "other", place=place, ref=self._ref, fields=self._added)
        opened = ItemOpened(number, "other", choices=state.introduce(), place=place, ref=self._ref, fields=self._added)
        state.emit(opened, frames([self._frame]))

    def _further(self, item: Json) -> Json:
        return self._state.reader.unknown_fields(item, known.REASONING if self.kind == "reasoning" else known.MESSAGE)

    # ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def part(self, kind: ItemType, form: Form, index: int | None, frame: Json = NOTHING) -> Part | None:
        """The part, opened if it was not. `index`: None for the last of its kind. None: there may be no new one."""
        if part := self._found.get((kind, form, index)):
            return part
        return self._open_part(kind, form, index or 0, frame) if self._state.may_begin() else None

    def _open_part(self, kind: ItemType, form: Form, index: int, frame: Json) -> Part:
        state, further = self._state, bool(self.parts or self._opener)
        if self.parts and self.parts[-1].is_open and self.parts[-1].is_complete:
            self._close_part(self.parts[-1], is_last=False)
        if self._index is None:
            state.open_before(self)
            self._index = state.next_index()
            encrypted = bool(self._fields.get("encrypted_content"))
            self._ref = self.id if kind == "reasoning" and (form == "summary" or encrypted) else ""
        name = form
        if form == "text" and not self._counts["summary"]:
            form = ""  # as the record wants it
        number, our_index = state.next_item(), self._index
        at = self._counts[form] if kind == "reasoning" else len(self.parts)
        place = None if (our_index, at) == (number, 0) else (our_index, at)
        part = Part(kind, form, index, number, place, self._ref)
        self.parts.append(part)
        self._counts[form] += 1
        self._found[kind, name, index] = self._found[kind, name, None] = part
        opened = ItemOpened(
            number, kind, choices=state.introduce(), place=place, form=form, ref=self._ref,
            fields=NOTHING if further else self._fields, further=further,
        )  # fmt: skip
        state.emit(opened, frames([frame] if further else [self._frame, frame]))
        return part

    def add(self, part: Part, text: str, extra: Extra = NO_EXTRA) -> None:
        """Add text to a part. An empty text without an `extra` is none; one behind the part's end is malformed."""
        if not part.is_open:
            self._state.reader.malformed += 1
            return
        text, part.pending_surrogate = join_surrogates(part.pending_surrogate, text)
        if text or extra is not NO_EXTRA:
            part.texts.append(text)
            self._state.emit(part.delta(text), extra)

    def annotate(self, part: Part, annotations: list[Json], frame: Json = NOTHING) -> None:
        """Add annotations to a text, each by an entry of its own: not each is one of Chat Completions."""
        if part.kind != "text" or not part.is_open:
            return
        state, further = self._state, frames([frame]).frames
        for each in state.reader.encodable_objects(annotations)[: MAX_ITEMS - len(part.annotations)]:
            before = len(part.annotations)
            if chat := known.chat_annotation(each, state.citations):
                state.citations += 1
                extra = Extra(delta={"annotations": [chat]}, before=before, frames=further)
            else:
                extra = Extra(citations=[each], before=before, frames=further)
            part.annotations.append(chat or each)
            self.add(part, "", extra)

    def complete(self, part: Part, given: Json) -> None:
        """The whole part, as the upstream repeats it."""
        reader = self._state.reader
        if not part.is_open:
            return
        self.reconcile(part, reader.text(given.get("refusal" if part.kind == "refusal" else "text")))
        if part.kind == "text":
            self.annotate(part, reader.objects(given.get("annotations"))[len(part.annotations) :])
            if not part.logprobs and (logprobs := reader.encodable_objects(given.get("logprobs"))):
                part.logprobs += logprobs
                self.add(part, "", Extra(choice={"logprobs": {"content": logprobs}}))
        part.fields = reader.unknown_fields(given, known.PART_FIELDS) or part.fields
        part.is_complete = True

    def reconcile(self, part: Part, whole: str) -> None:
        """Add what was not streamed of a text."""
        if not whole:
            return
        if rest := self._rest_of(part.text + part.pending_surrogate, whole):
            self.add(part, rest)

    def _rest_of(self, streamed: str, whole: str) -> str:
        if whole.startswith(streamed):
            return whole[len(streamed) :]
        whole, _ = join_surrogates("", whole)
        self._state.reader.malformed += whole != streamed
        return ""

    def _whole_part(self, part: Part, fields: Json = NOTHING) -> Item:
        return Item(
            part.number, part.kind, text=part.text, annotations=part.annotations,
            logprobs=part.logprobs if self._state.keep_logprobs else [], place=part.place, form=part.form,
            ref=part.ref, fields=fields, part=part.fields,
        )  # fmt: skip

    def _close_part(self, part: Part, *, is_last: bool, frame: Json = NOTHING) -> None:
        self.flush(part)
        part.is_open = False
        earlier = [self._whole_part(each) for each in self.parts if each is not part] if is_last else []
        whole = self._whole_part(part, self._fields if is_last else NOTHING)
        self._state.emit(ItemClosed(whole, is_last, earlier), frames([NOTHING, NOTHING, frame if is_last else NOTHING]))

    def flush(self, part: Part) -> None:
        """Write U+FFFD for half a pair of surrogates whose other half never came."""
        if part.pending_surrogate:
            part.pending_surrogate = ""
            part.texts.append("\ufffd")
            self._state.emit(part.delta("\ufffd"))

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, item: Json, frame: Json = NOTHING) -> None:
        """The upstream has ended the item; `item` is the whole of it."""
        if self.is_done:
            return
        for name in ("summary", "content"):
            self._complete_parts(name, self._given_parts(item.get(name)))
        self._fields = {**self._fields, **self._further(item)}
        if not self.parts:
            self._write_without_parts(item)
        elif item.get("status") != "incomplete":
            self._close_parts(frame)
        self.is_done = True

    def _close_parts(self, frame: Json) -> None:
        *earlier, last = (part for part in self.parts if part.is_open)
        for part in earlier:
            self._close_part(part, is_last=False)
        self._close_part(last, is_last=self._opener is None, frame=frame)
        if self._opener:
            whole = msgspec.structs.replace(self._opener, fields={"type": self.kind, **self._fields})
            parts = [self._whole_part(each) for each in self.parts]
            self._state.emit(ItemClosed(whole, earlier=parts), frames([frame]))

    def _complete_parts(self, name: str, given: list[Json]) -> None:
        """The parts of the whole item. Those of an unknown type stay as they are, behind the others."""
        unknown: list[Json] = []
        count = 0
        for index, each in enumerate(self._state.reader.first(given)):
            found = known.PARTS.get(known.text_of(each.get("type")))
            if found and (found[0] == "reasoning") == (self.kind == "reasoning"):
                if part := self.part(found[0], found[1], index):
                    self.complete(part, each)
                count += 1
            elif each:
                unknown.append(self._state.reader.verbatim(each))
        if unknown:
            self._fields = {**self._fields, name: [*({} for _ in range(count)), *unknown]}

    def _given_parts(self, value: Any) -> list[Json]:
        if isinstance(value, str):
            return [{"type": "output_text", "text": value}] if value else []
        return [self._state.reader.fields(each) for each in self._state.reader.elements(value)]

    def _write_without_parts(self, item: Json) -> None:
        if self._opener:
            whole = msgspec.structs.replace(self._opener, fields=self._state.reader.verbatim(item))
            return self._state.emit(ItemClosed(whole))
        self._state.open_before(self)
        other = OtherItem(self._state, self.kind, self.id)
        other.begin(item, self._frame)
        return other.finish(item)

    def close(self) -> None:
        """The answer has ended."""
        for part in self.parts:
            if part.is_open:
                self.flush(part)
