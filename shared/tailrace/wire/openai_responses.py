"""The Responses format. The vocabulary of events has the granularity of this format.

    created       response.created, response.queued (background)
    started       response.in_progress
    item_opened   output_item.added, and content_part.added or reasoning_summary_part.added (a call has no part)
    text …        *.delta, and output_text.annotation.added for each annotation
    item_closed   *.done, *part.done, output_item.done
    restarted     open items are closed as incomplete; response.in_progress with every item so far
    done          open items are closed; response.completed or response.incomplete (also when cancelled: there is no
                  `response.cancelled`); or error and response.failed, which close nothing; `data: [DONE]`

Rule 1: an entry has as many frames as its `seq_span`, and frame k of w has `sequence_number` seq - w + 1 + k. Numbers
are therefore dense from 0 over the whole generation.
Rule 2: an item's id consists of the generation's id and the item's number. An item has one part, whose index is 0.
Rule 3: reasoning is sent as the model's own or as a summary, according to the record.
Rule 4: deltas are padded where the client asks for it, so that an observer of encrypted packets learns nothing from
their sizes. Equal deltas have equal padding: frames are the same for every reader.
Rule 5: no `id:` and no `retry:`, because they break openai-python's reader, and no event that OpenAI does not define,
because openai-node throws on it. A synthetic restart is therefore impossible: the connection is aborted instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from tailrace.events import (
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
    part,
    part_of,
    response,
    whole,
)  # fmt: skip

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
    events = ENCODERS[type(entry.event)](context, entry.event, entry.extra)
    first = entry.id.seq - len(events) + 1
    if context.obfuscates:
        for event in events:
            if "delta" in event:
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
    added = {"type": "response.output_item.added", "output_index": event.item, "item": begun(context, event)}
    if event.type == "call":
        return [added]
    form = part_of(context, event.type)
    place = _place(context, event.type, event.item) | {form.index_name: 0}
    return [added, {"type": f"response.{form.event}.added", **place, "part": part(form)}]


def _delta(context: Context, event: Delta, _: Extra) -> list[Json]:
    form = part_of(context, event.kind)
    place = _place(context, event.kind, event.item)
    return [{"type": f"response.{form.text_event}.delta", **place, form.index_name: 0, "delta": event.text}]


def _text(context: Context, event: Text, extra: Extra) -> list[Json]:
    place = _place(context, "text", event.item) | {"content_index": 0}
    logprobs = [logprob(each) for each in extra.logprobs] if context.record.logprobs and extra.choice else []
    delta = {"type": "response.output_text.delta", **place, "delta": event.text, "logprobs": logprobs}
    if not extra.delta:
        return [delta]
    return [delta] + [
        {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": extra.before + k,
            "annotation": annotation(each),
        }
        for k, each in enumerate(extra.annotations)
    ]


def _arguments(context: Context, event: ToolArguments, _: Extra) -> list[Json]:
    return [{"type": f"response.{CALLS[event.custom].event}.delta", **_call_place(context, event), "delta": event.text}]


def _closed(context: Context, event: ItemClosed, _: Extra) -> list[Json]:
    return _closings(context, event.whole)


def _closings(context: Context, item: Item) -> list[Json]:
    done = {"type": "response.output_item.done", "output_index": item.item, "item": whole(context, item)}
    if item.type == "call":
        return [_call_closing(context, item), done]
    place = _place(context, item.type, item.item)
    form = part_of(context, item.type)
    place[form.index_name] = 0
    full = part(form, item, context.record.logprobs)
    text = {key: full[key] for key in (form.field, "logprobs") if key in full}
    return [
        {"type": f"response.{form.text_event}.done", **place, **text},
        {"type": f"response.{form.event}.done", **place, "part": full},
        done,
    ]


def _call_closing(context: Context, item: Item) -> Json:
    event, field = CALLS[item.custom]
    name = {} if item.custom else {"name": item.name}
    return {"type": f"response.{event}.done", **_call_place(context, item), **name, field: item.arguments}


def _restarted(context: Context, event: Restarted, _: Extra) -> list[Json]:
    output = [whole(context, item) for item in event.output]
    return [*_all_closings(context, event), _lifecycle("in_progress", response(context, "in_progress", output=output))]


def _done(context: Context, event: Done, _: Extra) -> list[Json]:
    last = ended(context, event)
    if event.status == "failed":
        return [_error(event.error or failure("server_error")), _lifecycle("failed", last)]
    name = "completed" if event.status == "completed" else "incomplete"
    return [*_all_closings(context, event), _lifecycle(name, last)]


def _all_closings(context: Context, event: Restarted | Done) -> list[Json]:
    items = {item.item: item for item in event.output}
    return [closing for number in event.open for closing in _closings(context, items[number])]


def _error(error: Failure) -> Json:
    """The error both flat, as OpenAI documents it, and nested, as OpenAI sends it: a client reads one of the two."""
    fields = {"code": error.code, "message": error.message, "param": error.param}
    return {"type": "error", **fields, "error": {"type": error.type, **fields}}


def _lifecycle(name: str, response_object: Json) -> Json:
    return {"type": f"response.{name}", "response": response_object}


def _place(context: Context, item_type: str, item: int) -> Json:
    return {"item_id": item_id(context, item_type, item), "output_index": item}


def _call_place(context: Context, call: ToolArguments | Item) -> Json:
    return _place(context, call_type(call), call.item)


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
