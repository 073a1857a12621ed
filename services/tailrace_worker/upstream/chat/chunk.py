"""One chunk, decoded once into typed values; nothing behind `decode_chunk` handles raw JSON.

Decoding is lenient: a value of an unexpected type is skipped and counted, an absent one is the empty value of its
type, and unknown fields are kept verbatim. Strings can be encoded, except for texts and arguments: they may begin or
end in half a surrogate pair.
"""

from typing import Any

import msgspec

from tailrace.events import Failure, Json
from tailrace_worker.upstream.chat.fragments import ChatDelta, decode_delta
from tailrace_worker.upstream.error_texts import FIELDS as ERROR_FIELDS
from tailrace_worker.upstream.error_texts import error_in, fields_beside
from tailrace_worker.upstream.errors import failure_from_json
from tailrace_worker.upstream.fields import NOTHING, LenientReader, is_empty

MAX_CHOICES = 128
CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})
CHOICE_FIELDS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage", "error"})
FAILED = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
"""Finish reasons with which an upstream reports that it aborted the answer: OpenRouter and Mistral; SGLang and vLLM;
Zhipu; DeepSeek."""

NO_ERROR = (None, "", 0, 200, "0", "200")
"""Codes of gateways that report success."""


class ChatChoice(msgspec.Struct, frozen=True):
    """One element of `choices`. `fields` are its unknown fields.

    `is_message`: without a `delta`, `delta` holds the `message`, an answer that was sent whole. `failure` is the error
    that stands on the choice: OpenRouter sends it there.
    """

    index: int
    delta: ChatDelta
    is_message: bool
    logprobs: Json
    finish_reason: str
    usage: Json
    failure: Failure | None
    fields: Json


class ChatChunk(msgspec.Struct, frozen=True):
    """A chunk. `fields` are its unknown fields, `failure` the error in it. Of a chunk that is itself an error, the
    fields of the error are in the failure alone.

    `is_whole`: it is no chunk but a completion, as for a request without `stream`. (Perplexity's chunks have that name
    and deltas.)
    """

    id: str
    model: str
    choices: list[ChatChoice]
    usage: Json
    failure: Failure | None
    fields: Json
    is_whole: bool

    @property
    def has_error(self) -> bool:
        """Whether any of it reports that the upstream has failed."""
        if self.failure is not None:
            return True
        for choice in self.choices:  # noqa: SIM110  (a generator costs more than the rest)
            if choice.failure is not None or choice.finish_reason in FAILED:
                return True
        return False


def decode_chunk(chunk: Json, reader: LenientReader) -> ChatChunk:
    """Decode a parsed chunk; malformed values are skipped and counted by the reader."""
    usage, choices = chunk.get("usage"), reader.first(reader.objects(chunk.get("choices")))
    is_error = chunk.get("object") == "error" or ("choices" not in chunk and _is_error(chunk))
    decoded = [choice for each in choices if (choice := _decode_choice(each, reader))]
    error = chunk.get("error")
    known = CHUNK_FIELDS | ERROR_FIELDS if is_error else CHUNK_FIELDS
    if isinstance(error, str):  # what stands beside a text
        known |= ERROR_FIELDS.intersection(fields_beside(chunk))
    return ChatChunk(
        reader.string(chunk.get("id")),
        reader.string(chunk.get("model")),
        decoded,
        reader.verbatim(reader.fields(usage)) if usage else NOTHING,
        _failure_of(chunk, reader) if is_error or error else None,
        reader.unknown_fields(chunk, known),
        chunk.get("object") == "chat.completion" and all(choice.is_message for choice in decoded),
    )


def _is_error(chunk: Json) -> bool:
    """Whether a chunk without choices is an error without an envelope (Alibaba; llama.cpp in a line `error:`), and not
    a gateway's report of its progress."""
    code, kind = chunk.get("code"), chunk.get("type")
    is_error = code not in NO_ERROR or (isinstance(kind, str) and "error" in kind.lower())
    return is_error and isinstance(chunk.get("message"), str)


def _failure_of(chunk: Json, reader: LenientReader) -> Failure:
    """The failure in `error`, or that the chunk is; then its other fields are fields of a chunk, and no details."""
    return failure_from_json(reader.error(error_in(chunk)))


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
    error = choice.get("error")
    return ChatChoice(
        index,
        decode_delta(reader.fields(delta), reader),
        is_message,
        _decode_logprobs(logprobs, reader) if logprobs else NOTHING,
        reader.string(reason) if reason else "",
        reader.verbatim(reader.fields(usage)) if usage else NOTHING,
        _failure_of(choice, reader) if error else None,
        reader.unknown_fields(choice, CHOICE_FIELDS),
    )


def _decode_logprobs(logprobs: Any, reader: LenientReader) -> Json:
    """The logprobs verbatim, unless all their fields are empty; `content` and `refusal` hold objects only."""
    fields = dict(reader.fields(logprobs))
    for key in ("content", "refusal"):
        if fields.get(key) is not None:
            fields[key] = reader.objects(fields[key])
    return NOTHING if all(map(is_empty, fields.values())) else reader.verbatim(fields)
