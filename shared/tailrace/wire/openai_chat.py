"""The Chat Completions format: the upstream's chunks, under one id, model and time of Tailrace's.

    item_opened   role, for each choice that first appears; for a call its index, id and name
    text …        one delta: `content`, `refusal`, the upstream's key for reasoning, `tool_calls[].function.arguments`,
                  `tool_calls[].custom.input`
    done          finish reasons of all choices, usage (if requested and known), `data: [DONE]`;
                  where the answer is not whole, an error object and no `[DONE]`: both SDKs raise on it

Rule 1: other fields of a chunk are put back where they were: on the chunk, the choice, the delta, the tool call. An
empty text that only carried such fields is left out.
Rule 2: no `id:` and no `retry:`, because they break openai-python's reader.
Rule 3: the format cannot express `restarted`. A response that has sent something ends with an error object; a response
that has sent nothing begins after the last `restarted`.
Rule 4: of an item of a Responses upstream that is neither text nor reasoning, a refusal or a call, the format shows
nothing. Between the parts of one reasoning stands an empty line.
Rule 5: the last chunk of an entry carries the entry's `sequence_number`, from which a client can resume.
"""

from collections.abc import Callable
from typing import Any

from tailrace.events import (
    NO_EXTRA,
    Done,
    Entry,
    Event,
    Extra,
    Failure,
    FinalStatus,
    Finish,
    GenerationRecord,
    ItemOpened,
    Json,
    Reasoning,
    Refusal,
    Restarted,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace.failures import failure, failure_of
from tailrace.ids import CHAT_COMPLETION_PREFIX, id_as
from tailrace.wire import sse

PARAGRAPH = "\n\n"

Encoded = tuple[list[Json], bytes]
"""An entry's chunks, and what ends the stream after them: `[DONE]`, an error, or nothing."""


def encode(record: GenerationRecord, entry: Entry) -> bytes:
    """An entry's frames; empty for `created`, `started` and `item_closed`."""
    values, end = chunks(record, entry)
    if values:
        values[-1]["sequence_number"] = entry.id.seq
    return b"".join(map(sse.data_frame, values)) + end


def after_number(frames: bytes, entry: Entry, number: int) -> bytes:
    """An entry's frames after this sequence number; of an end that has it, what follows the last chunk."""
    if entry.id.seq > number:
        return frames
    return encode_end(entry.event.status, entry.event.error) if isinstance(entry.event, Done) else b""


def chunks(record: GenerationRecord, entry: Entry) -> Encoded:
    """An entry's chunks as values, without a number."""
    encoder = ENCODERS.get(type(entry.event))
    return encoder(record, entry.event, entry.extra) if encoder else ([], b"")


def _delta(record: GenerationRecord, event: Text | Reasoning | Refusal | ToolArguments, extra: Extra) -> Encoded:
    if extra is NO_EXTRA:
        return [_chunk(record, _choice(event.choice, _delta_fields(event)))], b""
    fields = _delta_fields(event, extra.call) if event.text or extra.call else {}
    if not (fields or extra.delta or extra.choice or extra.chunk_fields):
        return [], b""
    return [_chunk(record, _choice(event.choice, fields | extra.delta, extra.choice), extra.chunk_fields)], b""


def _delta_fields(event: Text | Reasoning | Refusal | ToolArguments, call: Json | None = None) -> Json:
    match event:
        case Text():
            return {"content": event.text}
        case Reasoning():
            return {event.key: event.text}
        case Refusal():
            return {"refusal": event.text}
    if not event.text:
        arguments = {}
    else:
        arguments = {"custom": {"input": event.text}} if event.custom else {"function": {"arguments": event.text}}
    return {"tool_calls": [{"index": event.tool, **arguments, **(call or {})}]}


def _opened(record: GenerationRecord, event: ItemOpened, extra: Extra) -> Encoded:
    deltas: dict[int, Json] = {choice: {"role": "assistant"} for choice in event.choices}
    fields = extra.delta
    if event.type == "call":
        call: Json = {"index": event.tool, "id": event.id}
        if event.custom:
            call |= {"type": "custom", "custom": {"name": event.name, "input": ""}}
        else:
            call |= {"type": "function", "function": {"name": event.name, "arguments": ""}}
        fields = {"tool_calls": [call | extra.call]} | fields
    elif event.type == "reasoning" and event.further:
        fields = {"reasoning_content": PARAGRAPH} | fields
    if fields or extra.choice or (extra.chunk_fields and not deltas):
        deltas[event.choice] = deltas.get(event.choice, {}) | fields
    return [
        _chunk(record, _choice(choice, delta, extra.choice if choice == event.choice else {}), extra.chunk_fields)
        for choice, delta in deltas.items()
    ], b""


def _restarted(_: GenerationRecord, __: Restarted, ___: Extra) -> Encoded:
    return [], _error(failure("restarted"))


def _done(record: GenerationRecord, event: Done, extra: Extra) -> Encoded:
    last = [
        _chunk(record, _finish(each), extra.chunk_fields) for each in event.finish if each.finish_reason or each.role
    ]
    if record.include_usage and event.usage and not event.usage.get("estimated"):
        last.append(_chunk(record, None, extra.chunk_fields | {"usage": event.usage}))
    if extra.chunk_fields and not last:
        last.append(_chunk(record, None, extra.chunk_fields))
    return last, encode_end(event.status, event.error)


def encode_end(status: FinalStatus, error: Failure | None) -> bytes:
    """The end after the last chunk: `[DONE]`, or an error where the answer is not whole."""
    why = failure_of(status, error)
    return _error(why) if why else sse.END


def _finish(finish: Finish) -> Json:
    return _choice(finish.index, {"role": "assistant"} if finish.role else {}, {}, finish.finish_reason)


def _chunk(record: GenerationRecord, choice: Json | None, chunk_fields: Json | None = None) -> Json:
    chunk = {
        "id": id_as(CHAT_COMPLETION_PREFIX, record.id),
        "object": "chat.completion.chunk",
        "created": record.created // 1000,
        "model": record.model,
        "choices": [choice] if choice else [],
    }
    return chunk | chunk_fields if chunk_fields else chunk


def _choice(index: int, delta: Json, more: Json | None = None, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, **(more or {}), "finish_reason": finish_reason}


def _error(error: Failure) -> bytes:
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return sse.data_frame({"error": (error.details or {}) | fields})


ENCODERS: dict[type[Event], Callable[[GenerationRecord, Any, Extra], Encoded]] = {
    ItemOpened: _opened,
    Text: _delta,
    Reasoning: _delta,
    Refusal: _delta,
    ToolArguments: _delta,
    Restarted: _restarted,
    Done: _done,
}
