"""The fields of a Responses stream that the log has a place for. Every other field is carried as it is.

Fields that place an event (ids, indexes, sequence numbers) are made anew by the wire format, so they are
known. So is `obfuscation`, which is padding.
"""

from typing import Any

from tailrace.events import Form, ItemType, Json
from tailrace_worker.upstream.fields import NOTHING, LenientReader, is_empty

PLACE = frozenset(
    {"type", "sequence_number", "item_id", "output_index", "content_index", "summary_index", "obfuscation"}
)
DELTA = PLACE | {"delta", "logprobs"}
TEXT_DONE = PLACE | {"text", "refusal", "logprobs"}
PART_EVENT = PLACE | {"part"}
ITEM_EVENT = PLACE | {"item"}
ARGUMENTS_DONE = PLACE | {"name", "arguments", "input"}
ANNOTATION = PLACE | {"annotation", "annotation_index"}

MESSAGE = frozenset({"id", "type", "status", "role", "content"})
REASONING = frozenset({"id", "type", "status", "summary", "content"})
CALL = frozenset({"id", "type", "status", "call_id", "name", "arguments", "input"})

PARTS: dict[str, tuple[ItemType, Form, str]] = {
    "output_text": ("text", "", "text"),
    "text": ("text", "", "text"),
    "refusal": ("refusal", "", "refusal"),
    "reasoning_text": ("reasoning", "text", "text"),
    "summary_text": ("reasoning", "summary", "text"),
}
"""Types of parts: the type of the log's item, its form, and the field with the text."""

PART_FIELDS = frozenset({"type", "text", "refusal", "annotations", "logprobs"})

OWN_RESPONSE_FIELDS = frozenset(
    {
        "id", "object", "created_at", "completed_at", "status", "model", "output", "output_text", "usage", "error",
        "incomplete_details", "background", "store", "metadata", "previous_response_id", "conversation", "stream",
        "input", "instructions", "prompt", "tools",
    }
)  # fmt: skip
"""Fields of a Response that Tailrace makes, or that repeat what the request has at length."""

USAGE = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}
DETAILS = {
    "input_tokens_details": frozenset({"cached_tokens", "cache_write_tokens"}),
    "output_tokens_details": frozenset({"reasoning_tokens"}),
}


def chat_usage(usage: Json, reader: LenientReader) -> Json:
    """The usage by the names of Chat Completions, further fields included; empty where it counts nothing."""
    fields = reader.verbatim(reader.fields(usage))
    found = {USAGE.get(name, name): value for name, value in fields.items() if not is_empty(value)}
    return found if found.get("prompt_tokens") or found.get("completion_tokens") else NOTHING


def further_usage(usage: Json, reader: LenientReader) -> Json:
    """The fields of the usage that the Response would lack, because Chat Completions has no such counts."""
    fields = reader.verbatim(reader.fields(usage))
    further: Json = {name: value for name, value in fields.items() if name not in USAGE and not is_empty(value)}
    for name, known in DETAILS.items():
        details = fields.get(name)
        if isinstance(details, dict) and (others := reader.unknown_fields(details, known)):
            further[name] = others
    return further


def chat_annotation(annotation: Json, index: int) -> Json | None:
    """A page's citation as Chat Completions has it: under its type; None for any other annotation. `index`: among the
    annotations of the answer, without which openai-python cannot add up deltas."""
    if annotation.get("type") != "url_citation":
        return None
    if "url_citation" in annotation:
        return {**annotation, "index": index}
    nested = {name: each for name, each in annotation.items() if name != "type"}
    return {"type": "url_citation", "index": index, "url_citation": nested}


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""
