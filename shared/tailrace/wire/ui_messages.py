"""The UI message stream of the AI SDK, version 1: what `useChat` reads. One message, part by part.

    item_opened   `start` and `start-step` where choice 0 first appears; then `text-start`, `reasoning-start` or
                  `tool-input-start`
    text …        `text-delta`, `reasoning-delta`, `tool-input-delta`; `source-url` for each citation
    item_closed   `text-end`, `reasoning-end`; of a call nothing: it runs when the answer is whole
    restarted     the ends of what is open, and an `error`
    done          the ends of what is open; for a call `tool-input-available`, or `tool-input-error` where its arguments
                  are not JSON; an `error` where the answer is not whole; `finish-step`, `finish`, `data: [DONE]`

Rule 1: `start` carries the same `messageId` in every reading. A page replaces the message of that id and appends any
other: with an id for each reading, three reloads left four answers (measured).
Rule 2: there is one message, so only choice 0 is sent. A refusal is a text. Items of type `other` are not sent.
Rule 3: nothing can be taken back. A response that has sent something ends with an `error` at a restart; a response that
has sent nothing begins after the last `restarted`. So `start` comes with the first item of an attempt.
Rule 4: an unknown type, or a delta after an end, puts the page into its error state. So does `finish` with a reason
that is not in `FinishReason`: a cancelled answer has `other`. (`abort` would leave its last text open.)
Rule 5: a call that was cut short stays as it is. With its arguments, or with an error, a page that sends the results of
calls by itself would ask again, right after its user has stopped the answer.
"""

from collections.abc import Callable
from typing import Any, Literal

from tailrace import jsoncodec
from tailrace.errors import Gone
from tailrace.events import (
    CLOSINGS,
    NO_EXTRA,
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
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace.failures import failure
from tailrace.wire import sse
from tailrace.wire.openai_response_object import TOO_LONG
from tailrace.wire.ui_message_object import (
    NOT_JSON,
    Context,
    call_input,
    call_metadata,
    call_name,
    metadata_of,
    sources,
)

HEADERS = ((b"x-vercel-ai-ui-message-stream", b"v1"),)

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]
FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    **dict.fromkeys(TOO_LONG, "length"),
}


def encode(context: Context, entry: Entry) -> bytes:
    """An entry's parts; with `done`, the end of the stream too."""
    event, extra = entry.event, entry.extra
    if type(event) is Text and extra is NO_EXTRA and not event.choice:
        return b'data: {"type":"text-delta","id":"%d","delta":%b}\n\n' % (event.item, jsoncodec.dumps(event.text))
    encoder = ENCODERS.get(type(event))
    parts = encoder(context, event, extra) if encoder else []
    frames = b"".join(map(sse.data_frame, parts))
    return frames + sse.END if isinstance(event, Done) else frames


def encode_gone(reason: str) -> bytes:
    """The log was deleted, has expired or was lost: an `error`."""
    return sse.data_frame(_error(Gone(reason).message)) + sse.END


def _opened(context: Context, event: ItemOpened, _: Extra) -> list[Json]:
    begin = _begin(context) if 0 in event.choices else []
    return begin if event.choice or event.type == "other" else [*begin, _item_start(context, event)]


def _begin(context: Context) -> list[Json]:
    return [{"type": "start", "messageId": context.message_id}, {"type": "start-step"}]


def _item_start(context: Context, event: ItemOpened) -> Json:
    if event.type == "call":
        return {"type": "tool-input-start", "toolCallId": event.id, **call_name(context, event.name)}
    return {"type": f"{_kind(event.type)}-start", "id": str(event.item), **metadata_of(event.type)}


def _kind(item_type: str) -> str:
    return "reasoning" if item_type == "reasoning" else "text"


def _delta(context: Context, event: Text | Reasoning | Refusal, extra: Extra) -> list[Json]:
    if event.choice:
        return []
    delta = {"type": f"{_kind(event.kind)}-delta", "id": str(event.item), "delta": event.text}
    return [*([delta] if event.text else []), *sources(context, event.item, extra.annotations, extra.before)]


def _arguments(_: Context, event: ToolArguments, __: Extra) -> list[Json]:
    if event.choice or not event.text:
        return []
    return [{"type": "tool-input-delta", "toolCallId": event.call, "inputTextDelta": event.text}]


def _closed(_: Context, event: ItemClosed, __: Extra) -> list[Json]:
    return [] if event.whole.choice or event.whole.type in CLOSINGS else [_item_end(event.whole)]


def _item_end(item: Item) -> Json:
    return {"type": f"{_kind(item.type)}-end", "id": str(item.item)}


def _restarted(_: Context, event: Restarted, __: Extra) -> list[Json]:
    open_items = [item for item in event.output if item.item in event.open and item.choice == 0]
    ends = [_item_end(item) for item in open_items if item.type not in CLOSINGS]
    return [*ends, _error(failure("restarted").message)]


def _done(context: Context, event: Done, _: Extra) -> list[Json]:
    items = [item for item in event.output if item.choice == 0]
    ends = [end for item in items for end in _ends(context, event, item)]
    error = _failure(event)
    return [
        *ends,
        *([_error(error.message)] if error else []),
        *([{"type": "finish-step"}] if items else []),
        {"type": "finish", "finishReason": "error" if error else _finish_reason(event)},
    ]


def _ends(context: Context, done: Done, item: Item) -> list[Json]:
    """Chunks that close an item at the end. `done` of a failed generation does not list items that were cut short."""
    if item.type == "other":
        return []
    if item.type == "call":
        return [_whole_call(context, item)] if done.status == "completed" and not item.status else []
    return [_item_end(item)] if item.status or item.item in done.open else []


def _whole_call(context: Context, item: Item) -> Json:
    value, is_json = call_input(item)
    call = {"toolCallId": item.id or "", **call_name(context, item.name or ""), "input": value}
    call |= call_metadata(item, "providerMetadata")
    if is_json:
        return {"type": "tool-input-available", **call}
    return {"type": "tool-input-error", **call, "errorText": NOT_JSON}


def _failure(done: Done) -> Failure | None:
    if done.status == "cancelled":
        return None
    return done.error or (failure("server_error") if done.status == "failed" else None)


def _finish_reason(done: Done) -> FinishReason:
    if done.status == "cancelled":
        return "other"
    reason = next((finish.finish_reason for finish in done.finish if finish.index == 0), None)
    return FINISH_REASONS.get(reason, "other")


def _error(message: str) -> Json:
    return {"type": "error", "errorText": message}


ENCODERS: dict[type[Event], Callable[[Context, Any, Extra], list[Json]]] = {
    ItemOpened: _opened,
    Text: _delta,
    Reasoning: _delta,
    Refusal: _delta,
    ToolArguments: _arguments,
    ItemClosed: _closed,
    Restarted: _restarted,
    Done: _done,
}
