"""The output of one answer: events of items and parts, each given to the item that it belongs to.

An event belongs to the item with its `item_id`, else with its `output_index`, else to the last one of its kind.
(llama.cpp sends no `output_index`; some servers give an item another id in its deltas.) An item that was never added,
or a part, begins with its first delta.
"""

from collections.abc import Callable
from typing import Any

from tailrace.events import Extra, Form, ItemType, Json
from tailrace_worker.upstream.fields import NOTHING
from tailrace_worker.upstream.responses import known
from tailrace_worker.upstream.responses.calls import CALLS, CallItem
from tailrace_worker.upstream.responses.items import OutputItem, Part
from tailrace_worker.upstream.responses.others import OtherItem
from tailrace_worker.upstream.responses.payload import (
    ArgumentsDelta,
    InputDelta,
    PlainDelta,
    ReasoningDelta,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
)
from tailrace_worker.upstream.responses.state import AnswerState, frames

AnyItem = OutputItem | CallItem | OtherItem

PART_KINDS: dict[str, tuple[ItemType, Form]] = {
    "output_text": ("text", ""),
    "refusal": ("refusal", ""),
    "reasoning_text": ("reasoning", "text"),
    "reasoning": ("reasoning", "text"),  # Open Responses
    "reasoning_summary_text": ("reasoning", "summary"),
    "reasoning_summary": ("reasoning", "summary"),
}
"""Events of a part's text, by the middle of their names."""


class Output:
    """The items of one answer. `place` and `part`: of the last plain delta."""

    def __init__(self, state: AnswerState) -> None:
        self.place: tuple[str, int | None, int | None] | None = None
        self.part: Part | None = None
        self._state = state
        self._items: list[AnyItem] = []
        self._by_id: dict[str, AnyItem] = {}
        self._by_index: dict[int, AnyItem] = {}

    @property
    def has_calls(self) -> bool:
        return any(isinstance(item, CallItem) for item in self._items)

    def close(self) -> None:
        """The answer has ended: write what was held back."""
        for item in self._items:
            if not item.is_done:
                item.close()

    # ── deltas ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_plain(self, delta: PlainDelta) -> bool:
        """Add a plain delta; False if it must be parsed."""
        match delta:
            case TextDelta(content_index=index, logprobs=logprobs) if not logprobs:
                kind, form = PART_KINDS["output_text"]
            case RefusalDelta(content_index=index):
                kind, form = PART_KINDS["refusal"]
            case ReasoningDelta(content_index=index):
                kind, form = PART_KINDS["reasoning_text"]
            case SummaryDelta(summary_index=index):
                kind, form = PART_KINDS["reasoning_summary_text"]
            case ArgumentsDelta() | InputDelta():
                call = self._call(delta.item_id, delta.output_index, custom=isinstance(delta, InputDelta))
                if call:
                    call.add(delta.delta)
                return call is not None
            case _:
                return False
        item = self._item_with_parts(kind, delta.item_id, delta.output_index)
        if item is None:
            return False
        part = item.part(kind, form, index)
        if part is None:
            return True
        item.add(part, delta.delta)
        self.place, self.part = (delta.item_id, delta.output_index, index) if part.is_open else None, part
        return True

    def add_delta(self, event: Json) -> None:
        reader, (kind, form) = self._state.reader, PART_KINDS[_middle(event)]
        item = self._item_of_event(kind, event)
        if item is None:
            return
        part = item.part(kind, form, self._part_index(event))
        if part is None:
            return
        extra = frames([reader.unknown_fields(event, known.DELTA)])
        if logprobs := reader.encodable_objects(event.get("logprobs")):
            part.logprobs += logprobs
            extra = Extra(choice={"logprobs": {"content": logprobs}}, frames=extra.frames)
        item.add(part, reader.text(event.get("delta")), extra)

    def end_text(self, event: Json) -> None:
        kind, form = PART_KINDS[_middle(event)]
        if item := self._item_of_event(kind, event):
            field = "refusal" if kind == "refusal" else "text"
            if part := item.part(kind, form, self._part_index(event)):
                item.reconcile(part, self._state.reader.text(event.get(field)))

    def annotate(self, event: Json) -> None:
        reader = self._state.reader
        item, annotation = self._item_of_event("text", event), reader.fields(event.get("annotation"))
        if item and annotation and (part := item.part("text", "", self._part_index(event))):
            item.annotate(part, [annotation], reader.unknown_fields(event, known.ANNOTATION))

    # ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin_part(self, event: Json) -> None:
        reader, given, found = self._state.reader, *self._given_part(event)
        if found is None:
            return self.add_unknown(event)
        kind, form, field = found
        self.place = None
        if item := self._item_of_event(kind, event):
            frame = reader.unknown_fields(event, known.PART_EVENT)
            if further := reader.unknown_fields(given, known.PART_FIELDS):
                frame = {**frame, "part": further}
            if part := item.part(kind, form, self._part_index(event), frame):
                item.reconcile(part, reader.text(given.get(field)))
        return None

    def end_part(self, event: Json) -> None:
        given, found = self._given_part(event)
        if found is None:
            return self.add_unknown(event)
        item = self._item_of_event(found[0], event)
        if item and (part := item.part(found[0], found[1], self._part_index(event))):
            item.complete(part, given)
        return None

    def _given_part(self, event: Json) -> tuple[Json, tuple[ItemType, Form, str] | None]:
        given = self._state.reader.fields(event.get("part"))
        return given, known.PARTS.get(known.text_of(given.get("type")))

    def _part_index(self, event: Json) -> int | None:
        name = "summary_index" if "summary_index" in event else "content_index"
        return self._state.reader.index(event.get(name))

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_arguments(self, event: Json) -> None:
        reader = self._state.reader
        if call := self._call_of_event(event):
            call.add(reader.text(event.get("delta")), reader.unknown_fields(event, known.DELTA))

    def end_arguments(self, event: Json) -> None:
        if call := self._call_of_event(event):
            given = event.get("input" if call.kind == "custom_tool_call" else "arguments")
            call.reconcile(self._state.reader.text(given))

    def _call_of_event(self, event: Json) -> CallItem | None:
        reader = self._state.reader
        item_id, index = reader.string(event.get("item_id")), reader.index(event.get("output_index"))
        call = self._call(item_id, index, custom="custom" in event["type"])
        reader.malformed += call is None
        return call

    def _call(self, item_id: str, index: int | None, *, custom: bool) -> CallItem | None:
        """The open call that an event belongs to. Nothing begins one but its name."""
        kind = "custom_tool_call" if custom else "function_call"
        found = self._by_id.get(item_id) or (None if index is None else self._by_index.get(index))
        if isinstance(found, CallItem):
            return None if found.is_done else found
        if index is not None:
            return None
        calls = [item for item in self._items if isinstance(item, CallItem) and item.kind == kind and not item.is_done]
        return next((call for call in calls if call.call_id == item_id), calls[-1] if calls else None)

    # ── items ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin_item(self, event: Json) -> None:
        reader = self._state.reader
        given = reader.fields(event.get("item"))
        frame = reader.unknown_fields(event, known.ITEM_EVENT)
        if given:
            self._new_item(given, reader.index(event.get("output_index")), frame)

    def end_item(self, event: Json) -> None:
        reader = self._state.reader
        given, index = reader.fields(event.get("item")), reader.index(event.get("output_index"))
        if not given:
            return
        self.place = None
        kind = reader.string(given.get("type"))
        item = self._known_item(reader.string(given.get("id")), index, kind, given)
        item = item or self._new_item(given, index, NOTHING)
        if item:
            item.finish(given, reader.unknown_fields(event, known.ITEM_EVENT))

    def _new_item(self, given: Json, index: int | None, frame: Json) -> AnyItem | None:
        """None: there may be no more."""
        if not self._state.may_begin():
            return None
        kind, item_id = (self._state.reader.string(given.get(name)) for name in ("type", "id"))
        item: AnyItem
        if kind in ("message", "reasoning"):
            item = OutputItem(self._state, kind, item_id)
        else:
            self._state.open_before(None)
            make = CallItem if kind in CALLS else OtherItem
            item = make(self._state, kind, item_id)
        item.begin(given, frame)
        self._items.append(item)
        if item_id:
            self._by_id[item_id] = item
        if index is not None:
            self._by_index[index] = item
        self.place = None
        return item

    def _known_item(self, item_id: str, index: int | None, kind: str, given: Json) -> AnyItem | None:
        """The item whose whole the upstream repeats."""
        found = self._by_id.get(item_id) or (None if index is None else self._by_index.get(index))
        if found is not None and found.kind == kind:
            return found
        if index is not None:
            return None
        call_id = given.get("call_id")
        same = [item for item in self._items if item.kind == kind and not item.is_done]
        if call_id:
            same = [item for item in same if isinstance(item, CallItem) and item.call_id == call_id]
        return same[0] if same else None

    def _item_of_event(self, kind: ItemType, event: Json) -> OutputItem | None:
        reader = self._state.reader
        item_id, index = reader.string(event.get("item_id")), reader.index(event.get("output_index"))
        item = self._item_with_parts(kind, item_id, index)
        reader.malformed += item is None
        return item

    def _item_with_parts(self, kind: ItemType, item_id: str, index: int | None) -> OutputItem | None:
        """The open item for a part of this kind; a new one where there is none. None: the item has ended, or has no
        parts."""
        item_kind = "reasoning" if kind == "reasoning" else "message"
        found = self._by_id.get(item_id) or (None if index is None else self._by_index.get(index))
        if found is None and index is None and not item_id:
            open_items = [item for item in self._items if item.kind == item_kind and not item.is_done]
            found = open_items[-1] if open_items else None
        if found is None or found.kind != item_kind:
            found = self._new_item({"type": item_kind, "id": item_id}, index, NOTHING)
        return found if isinstance(found, OutputItem) and not found.is_done else None

    def add_unknown(self, event: Json) -> None:
        """An event that only the upstream's API has: of an item without parts, or of none."""
        reader = self._state.reader
        item_id, index = event.get("item_id"), event.get("output_index")
        found = self._by_id.get(item_id) if isinstance(item_id, str) else None
        if found is None and type(index) is int:
            found = self._by_index.get(index)
        if isinstance(found, OtherItem) and known.text_of(event.get("type")).startswith("response."):
            found.add_event(event)
        elif kept := reader.verbatim(event):
            self._state.add_unknown(kept)

    def end_items(self, output: list[Any]) -> None:
        """The whole output. Items that were not streamed are added."""
        reader = self._state.reader
        for index, each in enumerate(reader.first(output)):
            given = reader.fields(each)
            kind = reader.string(given.get("type"))
            item = self._known_item(reader.string(given.get("id")), None, kind, given) or self._at(index, kind)
            if given and (item := item or self._new_item(given, None, NOTHING)):
                item.finish(given)

    def _at(self, index: int, kind: str) -> AnyItem | None:
        """The item that was added at this place, if it is one of this kind."""
        found = self._items[index] if index < len(self._items) else None
        return found if found is not None and found.kind == kind else None


def _middle(event: Json) -> str:
    """`output_text` of `response.output_text.delta`."""
    middle: str = event["type"].removeprefix("response.").rpartition(".")[0]
    return middle


HANDLERS: dict[str, Callable[[Output, Json], None]] = {
    "output_item.added": Output.begin_item,
    "output_item.done": Output.end_item,
    "content_part.added": Output.begin_part,
    "content_part.done": Output.end_part,
    "reasoning_part.added": Output.begin_part,  # vLLM
    "reasoning_part.done": Output.end_part,
    "reasoning_summary_part.added": Output.begin_part,
    "reasoning_summary_part.done": Output.end_part,
    "output_text.annotation.added": Output.annotate,
    "function_call_arguments.delta": Output.add_arguments,
    "function_call_arguments.done": Output.end_arguments,
    "custom_tool_call_input.delta": Output.add_arguments,
    "custom_tool_call_input.done": Output.end_arguments,
    **{f"{name}.delta": Output.add_delta for name in PART_KINDS},
    **{f"{name}.done": Output.end_text for name in PART_KINDS},
}
"""By the event's name behind `response.`."""
