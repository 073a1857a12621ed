"""One chunk, decoded once into typed values; nothing behind `decode_chunk` handles raw JSON.

Decoding is lenient: a value of an unexpected type is skipped and counted, an absent one is the empty value of its
type, and unknown fields are kept verbatim. Strings can be encoded, except for texts and arguments: they may begin or
end in half a surrogate pair.
"""

from typing import Any

import msgspec

from tailrace.events import Failure, Json
from tailrace_worker.upstream.chat.fragments import ChatDelta, decode_delta
from tailrace_worker.upstream.errors import failure_from_json
from tailrace_worker.upstream.fields import NOTHING, LenientReader, is_empty

MAX_CHOICES = 128
CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})
CHOICE_FIELDS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage"})


class ChatChoice(msgspec.Struct, frozen=True):
    """One element of `choices`. `fields` are its unknown fields.

    `is_message`: without a `delta`, `delta` holds the `message`, an answer that was sent whole.
    """

    index: int
    delta: ChatDelta
    is_message: bool
    logprobs: Json
    finish_reason: str
    usage: Json
    fields: Json


class ChatChunk(msgspec.Struct, frozen=True):
    """A chunk. `fields` are its unknown fields, `failure` the error in it."""

    id: str
    model: str
    choices: list[ChatChoice]
    usage: Json
    failure: Failure | None
    fields: Json


def decode_chunk(chunk: Json, reader: LenientReader) -> ChatChunk:
    """Decode a parsed chunk; malformed values are skipped and counted by the reader."""
    usage, choices = chunk.get("usage"), reader.objects(chunk.get("choices"))
    return ChatChunk(
        reader.string(chunk.get("id")),
        reader.string(chunk.get("model")),
        [choice for each in choices if (choice := _decode_choice(each, reader))],
        reader.verbatim(reader.fields(usage)) if usage else NOTHING,
        _failure_of(chunk, reader) if chunk.get("error") or chunk.get("object") == "error" else None,
        reader.unknown_fields(chunk, CHUNK_FIELDS),
    )


def _failure_of(chunk: Json, reader: LenientReader) -> Failure:
    """The failure in `error`; some upstreams send the error as the chunk itself."""
    error = {"error": chunk.get("error") or {**chunk, "choices": None}}
    return failure_from_json(reader.verbatim(error).get("error"))


def _decode_choice(choice: Json, reader: LenientReader) -> ChatChoice | None:
    """The choice; None if its index is out of range, which counts as malformed."""
    index = reader.index(choice.get("index")) or 0
    if index >= MAX_CHOICES:
        reader.malformed += 1
        return None
    delta = choice.get("delta")
    is_message = delta is None
    if is_message:
        delta = choice.get("message")
    logprobs, reason, usage = choice.get("logprobs"), choice.get("finish_reason"), choice.get("usage")
    return ChatChoice(
        index,
        decode_delta(reader.fields(delta), reader),
        is_message,
        _decode_logprobs(logprobs, reader) if logprobs else NOTHING,
        reader.string(reason) if reason else "",
        reader.verbatim(reader.fields(usage)) if usage else NOTHING,
        reader.unknown_fields(choice, CHOICE_FIELDS),
    )


def _decode_logprobs(logprobs: Any, reader: LenientReader) -> Json:
    """The logprobs verbatim, unless all their fields are empty; `content` and `refusal` hold objects only."""
    fields = dict(reader.fields(logprobs))
    for key in ("content", "refusal"):
        if fields.get(key) is not None:
            fields[key] = reader.objects(fields[key])
    return NOTHING if all(map(is_empty, fields.values())) else reader.verbatim(fields)
