"""The Chat Completions wire: the chunks as the upstream told them, under one id, model and time of ours.

    opened      role, for each choice that first appears; of a call its index, id and name
    text …      one delta: `content`, `refusal`, the upstream's own key for reasoning, `tool_calls[].function.arguments`
    done        finish reasons of all choices, usage (if asked for and given), `data: [DONE]`
                or, where the answer is not whole, an error object and no `[DONE]`: both SDKs raise on it

Rule 1: what else a chunk had is put back where it was: on the chunk, the choice, the delta, the tool call. An empty
text that only carries it is left out.
Rule 2: no `id:` and no `retry:`, which break openai-python's reader.
Rule 3: there is no word for `restarted`. Who read on from before it gets an error object; who comes later begins
behind it.
"""

from collections.abc import Callable
from typing import Any

from tailrace import jsoncodec
from tailrace.events import (
    NO_EXTRA,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    Failure,
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
from tailrace.failures import failure

END = b"data: [DONE]\n\n"
FAILED = failure("server_error")
CANCELLED = failure("cancelled")
RESTARTED = failure("restarted")


def encode(record: GenerationRecord, entry: Entry) -> bytes:
    """An entry's chunks; empty for `created`, `started`, `closed` and a `restarted` that goes on."""
    tell = TELL.get(type(entry.event))
    return tell(record, entry.event, entry.extra) if tell else b""


def _delta(record: GenerationRecord, event: Delta, extra: Extra) -> bytes:
    if extra is NO_EXTRA:
        return _chunk(record, _choice(event.choice, _said(event)))
    said = _said(event, extra.call) if event.text or extra.call else {}
    return _chunk(record, _choice(event.choice, said | extra.delta, extra.choice), extra.chunk_fields)


def _said(event: Delta, call: Json | None = None) -> Json:
    match event:
        case Text():
            return {"content": event.text}
        case Reasoning():
            return {event.key: event.text}
        case Refusal():
            return {"refusal": event.text}
        case ToolArguments():
            function = {"function": {"arguments": event.text}} if event.text else {}
            return {"tool_calls": [{"index": event.tool, **function, **(call or {})}]}
    raise TypeError(f"not a delta: {event!r}")


def _opened(record: GenerationRecord, event: ItemOpened, extra: Extra) -> bytes:
    deltas: dict[int, Json] = {choice: {"role": "assistant"} for choice in event.choices}
    own = extra.delta
    if event.type == "call":
        function = {"name": event.name, "arguments": ""}
        call = {"index": event.tool, "id": event.id, "type": "function", "function": function}
        own = {"tool_calls": [call | extra.call]} | own
    if own or extra.choice or (extra.chunk_fields and not deltas):
        deltas[event.choice] = deltas.get(event.choice, {}) | own
    return b"".join(
        _chunk(record, _choice(choice, delta, extra.choice if choice == event.choice else {}), extra.chunk_fields)
        for choice, delta in deltas.items()
    )


def _restarted(_: GenerationRecord, __: Restarted, ___: Extra) -> bytes:
    return _error(RESTARTED)


def _done(record: GenerationRecord, event: Done, extra: Extra) -> bytes:
    chunks = [
        _chunk(record, _finish(each), extra.chunk_fields) for each in event.finish if each.finish_reason or each.role
    ]
    if record.include_usage and event.usage and not event.usage.get("estimated"):
        chunks.append(_chunk(record, None, extra.chunk_fields | {"usage": event.usage}))
    if extra.chunk_fields and not chunks:
        chunks.append(_chunk(record, None, extra.chunk_fields))
    return b"".join(chunks) + _end(event)


def _finish(finish: Finish) -> Json:
    return _choice(finish.index, {"role": "assistant"} if finish.role else {}, {}, finish.finish_reason)


def _end(event: Done) -> bytes:
    if event.error:
        return _error(event.error)
    match event.status:
        case "cancelled":
            return _error(CANCELLED)
        case "failed":
            return _error(FAILED)
    return END


def _chunk(record: GenerationRecord, choice: Json | None, chunk_fields: Json | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-" + record.id.removeprefix("gen_"),
        "object": "chat.completion.chunk",
        "created": record.created // 1000,
        "model": record.model,
        "choices": [choice] if choice else [],
    }
    return _frame(chunk | chunk_fields if chunk_fields else chunk)


def _choice(index: int, delta: Json, more: Json | None = None, finish_reason: str | None = None) -> Json:
    return {"index": index, "delta": delta, **(more or {}), "finish_reason": finish_reason}


def _error(failure: Failure) -> bytes:
    error = {"message": failure.message, "type": failure.type, "param": failure.param, "code": failure.code}
    return _frame({"error": error})


def _frame(value: Any) -> bytes:
    return b"data: %b\n\n" % jsoncodec.dumps(value)


TELL: dict[type[Event], Callable[[GenerationRecord, Any, Extra], bytes]] = {
    ItemOpened: _opened,
    Text: _delta,
    Reasoning: _delta,
    Refusal: _delta,
    ToolArguments: _delta,
    Restarted: _restarted,
    Done: _done,
}
