"""The Responses format. The vocabulary of events has the granularity of this format.

    created       response.created, response.queued (background)
    started       response.in_progress
    item_opened   output_item.added, unless it is a further part; content_part.added or reasoning_summary_part.added,
                  unless it is a call or another item without a part
    text …        *.delta, and output_text.annotation.added for each annotation
    item_closed   *.done, *part.done; with the last part output_item.done
    restarted     open items are closed as incomplete; response.in_progress with every item so far
    done          open items are closed; response.completed or response.incomplete (also when cancelled: there is no
                  `response.cancelled`); or error and response.failed, which close nothing; `data: [DONE]`

Rule 1: an entry has as many frames as its `seq_span`, and frame k of w has `sequence_number` seq - w + 1 + k. Numbers
are therefore dense from 0 over the whole generation.
Rule 2: an item's id consists of the generation's id and the item's `output_index`, and, where the upstream needs it
again, of the upstream's own id. An item of a chat upstream has one part, whose index is 0.
Rule 3: reasoning is sent as the model's own or as a summary, as the upstream has sent it, else according to the record.
Rule 4: deltas are padded where the client asks for it, so that an observer of encrypted packets learns nothing from
their sizes. Equal deltas have equal padding: frames are the same for every reader.
Rule 5: no `id:` and no `retry:`, because they break openai-python's reader, and no event that OpenAI does not define,
because openai-node throws on it. A synthetic restart is therefore impossible: the connection is aborted instead.
Rule 6: what a Responses upstream has sent is sent on: its further fields where they were (`Extra.frames`,
`Item.fields`, `Done.response`), and the events of items that only it has (`Extra.events`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tailrace import jsoncodec
from tailrace.events import (
    CLOSINGS,
    NO_EXTRA,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    Failure,
    Item,
    ItemClosed,
    ItemOpened,
    Json,
    Reasoning,
    Refusal,
    Restarted,
    Started,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace.failures import failure
from tailrace.wire import sse
from tailrace.wire.openai_response_object import (
    Context,
    annotation,
    begun,
    call_type,
    ended,
    item_id,
    logprob,
    merged,
    part,
    part_of,
    response,
    whole,
    wholes,
)  # fmt: skip

PLAIN_TEXT = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"%b","output_index":%d,'
    b'"content_index":%d,"delta":%b,"logprobs":[],"sequence_number":%d}\n\n'
)
PADDED_BYTES = 16
PADDING = "aZ3kQ9vXw1Lr7Tb"


class CallForm(NamedTuple):
    """The events of a call's arguments, and the field with the whole of them."""

    event: str
    field: str


CALLS = {False: CallForm("function_call_arguments", "arguments"), True: CallForm("custom_tool_call_input", "input")}
"""By whether the tool is a custom one."""


def encode(context: Context, entry: Entry) -> bytes:
    """An entry's frames; with `done`, the end of the stream too."""
    if type(entry.event) is Text and entry.extra is NO_EXTRA and not context.obfuscates:
        return _plain_text(context, entry.event, entry.id.seq)
    events = ENCODERS[type(entry.event)](context, entry.event, entry.extra)
    for k, fields in entry.extra.frames.items():
        events[int(k)] = merged(fields, events[int(k)])
    first = entry.id.seq - len(events) + 1
    if context.obfuscates:
        for event in events:
            if isinstance(event.get("delta"), str):  # of another type where an upstream sent such a field
                event["obfuscation"] = _padding(event["delta"])
    frames = [_frame(event, first + k) for k, event in enumerate(events)]
    return b"".join(frames) + (sse.END if isinstance(entry.event, Done) else b"")


def after_number(frames: bytes, entry: Entry, number: int) -> bytes:
    """An entry's frames behind this sequence number (rule 1). What follows the last of them stays: `[DONE]`."""
    seen = number - (entry.id.seq - entry.seq_span)
    return frames.split(b"\n\n", min(seen, entry.seq_span))[-1] if seen > 0 else frames


def _frame(event: Json, number: int) -> bytes:
    event["sequence_number"] = number
    return sse.event_frame(event["type"], event)


def _plain_text(context: Context, event: Text, number: int) -> bytes:
    """The frame of a text, nearly every one: the same bytes at a quarter of the cost."""
    index, part_index = event.place or (event.item, 0)
    own_id = item_id(context, "text", index).encode()
    return PLAIN_TEXT % (own_id, index, part_index, jsoncodec.dumps(event.text), number)


def _padding(delta: str) -> str:
    """Characters that make a delta's length a multiple of `PADDED_BYTES`."""
    return PADDING[: -len(delta.encode()) % PADDED_BYTES]


def _created(context: Context, event: Created, _: Extra) -> list[Json]:
    if not event.queued:
        return [_lifecycle("created", response(context, "in_progress"))]
    queued = response(context, "queued")
    return [_lifecycle("created", queued), _lifecycle("queued", queued)]


def _started(context: Context, _: Started, __: Extra) -> list[Json]:
    return [_lifecycle("in_progress", response(context, "in_progress"))]


def _opened(context: Context, event: ItemOpened, _: Extra) -> list[Json]:
    added = {"type": "response.output_item.added", "output_index": event.index, "item": begun(context, event)}
    if event.type in CLOSINGS:
        return [added]
    form = part_of(context, event.type, event.form)
    place = _place(context, event.type, event)
    begins = {"type": f"response.{form.event}.added", **place, form.index_name: _part_index(event), "part": part(form)}
    return [begins] if event.further else [added, begins]


def _delta(context: Context, event: Reasoning | Refusal, _: Extra) -> list[Json]:
    form = part_of(context, event.kind, event.form if isinstance(event, Reasoning) else "")
    place = _place(context, event.kind, event) | {form.index_name: _part_index(event)}
    return [{"type": f"response.{form.text_event}.delta", **place, "delta": event.text}]


def _text(context: Context, event: Text, extra: Extra) -> list[Json]:
    if extra.events:
        return [_own(context, event, each) for each in extra.events]
    place = _place(context, "text", event) | {"content_index": _part_index(event)}
    logprobs = [logprob(each) for each in extra.logprobs] if context.record.logprobs and extra.choice else []
    delta = {"type": "response.output_text.delta", **place, "delta": event.text, "logprobs": logprobs}
    annotations = extra.annotations if extra.delta or extra.citations else []
    return ([delta] if event.text or not annotations else []) + [
        {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": extra.before + k,
            "annotation": annotation(each),
        }
        for k, each in enumerate(annotations)
    ]


def _own(context: Context, event: Text, sent: Json) -> Json:
    """An event of an item that only the upstream's API has, with our ids."""
    own: Json = {"output_index": _index(event)} if "output_index" in sent else {}
    if isinstance(ref := sent.get("item_id"), str):
        own["item_id"] = item_id(context, "other", _index(event), ref)
    return sent | own


def _arguments(context: Context, event: ToolArguments, _: Extra) -> list[Json]:
    place = _place(context, call_type(event), event)
    return [{"type": f"response.{CALLS[event.custom].event}.delta", **place, "delta": event.text}]


def _closed(context: Context, event: ItemClosed, _: Extra) -> list[Json]:
    return _closings(context, event.whole, event.earlier, is_last=event.is_last)


def _closings(context: Context, item: Item, earlier: Sequence[Item] = (), *, is_last: bool = True) -> list[Json]:
    done = {"type": "response.output_item.done", "output_index": item.index, "item": whole(context, item, earlier)}
    return [*_part_closings(context, item), *([done] if is_last else [])]


def _part_closings(context: Context, item: Item) -> list[Json]:
    if item.type == "other":
        return []
    if item.type == "call":
        return [_call_closing(context, item)]
    form = part_of(context, item.type, item.form)
    place = _place(context, item.type, item) | {form.index_name: _part_index(item)}
    full = part(form, item, context.record.logprobs)
    text = {key: full[key] for key in (form.field, "logprobs") if key in full}
    return [
        {"type": f"response.{form.text_event}.done", **place, **text},
        {"type": f"response.{form.event}.done", **place, "part": full},
    ]


def _call_closing(context: Context, item: Item) -> Json:
    event, field = CALLS[item.custom]
    name = {} if item.custom else {"name": item.name}
    place = _place(context, call_type(item), item)
    return {"type": f"response.{event}.done", **place, **name, field: item.arguments}


def _restarted(context: Context, event: Restarted, _: Extra) -> list[Json]:
    output = wholes(context, event.output)
    return [*_all_closings(context, event), _lifecycle("in_progress", response(context, "in_progress", output=output))]


def _done(context: Context, event: Done, _: Extra) -> list[Json]:
    last = ended(context, event)
    if event.status == "failed":
        return [_error(event.error or failure("server_error")), _lifecycle("failed", last)]
    name = "completed" if event.status == "completed" else "incomplete"
    return [*_all_closings(context, event), _lifecycle(name, last)]


def _all_closings(context: Context, event: Restarted | Done) -> list[Json]:
    """What closes the open items. One of several open parts closes its item of Responses: the last."""
    items = {item.item: item for item in event.output}
    last = {items[number].index: number for number in event.open}
    return [
        closing
        for number in event.open
        for closing in _closings(
            context, items[number], _others(event, items[number]), is_last=last[items[number].index] == number
        )
    ]


def _others(event: Restarted | Done, part_: Item) -> list[Item]:
    """The other parts of an item of Responses."""
    if part_.place is None:
        return []
    return [item for item in event.output if item.index == part_.index and item.item != part_.item]


def _error(error: Failure) -> Json:
    """The error both flat, as OpenAI documents it, and nested, as OpenAI sends it: a client reads one of the two."""
    fields = {"code": error.code, "message": error.message, "param": error.param}
    return {"type": "error", **fields, "error": {"type": error.type, **fields}}


def _lifecycle(name: str, response_object: Json) -> Json:
    return {"type": f"response.{name}", "response": response_object}


def _place(context: Context, item_type: str, part_: ItemOpened | Delta | Item) -> Json:
    ref = part_.ref if isinstance(part_, (Reasoning, ItemOpened, Item)) else ""
    index = _index(part_)
    return {"item_id": item_id(context, item_type, index, ref), "output_index": index}


def _index(part_: ItemOpened | Delta | Item) -> int:
    return part_.place[0] if part_.place else part_.item


def _part_index(part_: ItemOpened | Delta | Item) -> int:
    return part_.place[1] if part_.place else 0


ENCODERS: dict[type[Event], Callable[[Context, Any, Extra], list[Json]]] = {
    Created: _created,
    Started: _started,
    ItemOpened: _opened,
    Text: _text,
    Reasoning: _delta,
    Refusal: _delta,
    ToolArguments: _arguments,
    ItemClosed: _closed,
    Restarted: _restarted,
    Done: _done,
}
