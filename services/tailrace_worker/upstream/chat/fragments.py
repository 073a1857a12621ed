"""One delta, decoded: its fragments of text and of tool calls in order, and the fields that pass through beside them.

content             text; or a list of parts, of which `thinking` is reasoning
reasoning_content   reasoning; so is `reasoning`, unless both hold the same text
refusal             a refusal
annotations         always beside a text, if need be an empty one, because they refer to text
tool_calls          fragments of calls; which call each belongs to is decided in `tool_calls`
everything else     passed through verbatim; unknown content parts under the name `content_parts`
"""

from typing import Any, Literal

import msgspec

from tailrace.events import Json
from tailrace_worker.upstream.fields import NOTHING, LenientReader

Kind = Literal["text", "reasoning", "refusal"]
DELTA_FIELDS = frozenset(
    {
        "role", "content", "reasoning_content", "reasoning", "refusal", "annotations", "tool_calls", "obfuscation",
    }
)  # fmt: skip
CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
FUNCTION_FIELDS = CALL_FIELDS | {"name", "arguments"}
CUSTOM_FIELDS = CALL_FIELDS | {"name", "input"}


class Fragment(msgspec.Struct, frozen=True):
    """A fragment of text, which may hold lone surrogates. `key`: the upstream's field name, where it is reasoning."""

    kind: Kind
    text: str
    key: str = ""


class ToolCallFragment(msgspec.Struct, frozen=True):
    """One element of `tool_calls`; absent strings are empty. `arguments` may hold lone surrogates.

    `fields` holds the unknown fields of the fragment and its function. `is_custom`: the call is of a custom tool, whose
    input need not be JSON.
    """

    index: int | None
    id: str
    name: str
    arguments: str = ""
    fields: Json = NOTHING
    is_custom: bool = False


class ChatDelta(msgspec.Struct, frozen=True):
    """A delta, or a whole message. `fields` pass through: annotations, unknown content parts, unknown fields."""

    fragments: list[Fragment] = []
    tool_calls: list[ToolCallFragment] = []
    fields: Json = NOTHING


NO_DELTA = ChatDelta()


def decode_delta(delta: Json, reader: LenientReader) -> ChatDelta:
    """Decode a delta; malformed values are skipped and counted by the reader."""
    if not delta:
        return NO_DELTA
    fragments = _reasoning(delta, reader) if "reasoning" in delta or "reasoning_content" in delta else []
    fields = reader.unknown_fields(delta, DELTA_FIELDS)
    content = delta.get("content")
    if isinstance(content, list):
        fields = {**fields, **_decode_parts(content, fragments, reader)}
    elif text := reader.text(content):
        fragments.append(Fragment("text", text))
    if annotations := reader.objects(delta.get("annotations")):
        fields = {**fields, **reader.verbatim({"annotations": annotations})}
        if not any(fragment.kind == "text" for fragment in fragments):
            fragments.append(Fragment("text", ""))
    if text := reader.text(delta.get("refusal")):
        fragments.append(Fragment("refusal", text))
    calls = delta.get("tool_calls")
    return ChatDelta(fragments, _decode_calls(calls, reader) if calls else [], fields)


def _reasoning(delta: Json, reader: LenientReader) -> list[Fragment]:
    fragments = []
    reasoning = reader.text(delta.get("reasoning_content"))
    if reasoning:
        fragments.append(Fragment("reasoning", reasoning, "reasoning_content"))
    if (other := reader.text(delta.get("reasoning"))) and other != reasoning:
        fragments.append(Fragment("reasoning", other, "reasoning"))
    return fragments


def _decode_parts(content: list[Any], fragments: list[Fragment], reader: LenientReader) -> Json:
    """Add the fragments of a list of content parts; return the unknown parts, for passing through."""
    unknown: list[Json] = []
    for each in reader.first(content):
        part = reader.fields({"type": "text", "text": each} if isinstance(each, str) else each)
        if "thinking" in part:
            if text := _thinking_text(part["thinking"], reader):
                fragments.append(Fragment("reasoning", text, "reasoning_content"))
        elif part.get("type") == "text":
            if text := reader.text(part.get("text")):
                fragments.append(Fragment("text", text))
        elif part:
            unknown.append(part)
    return reader.verbatim({"content_parts": unknown}) if unknown else NOTHING


def _thinking_text(thinking: Any, reader: LenientReader) -> str:
    if isinstance(thinking, list):
        return "".join(reader.text(part.get("text")) for part in reader.objects(thinking))
    return reader.text(thinking)


def _decode_calls(calls: Any, reader: LenientReader) -> list[ToolCallFragment]:
    return [_decode_call(fragment, reader) for fragment in reader.first(reader.objects(calls))]


def _decode_call(raw: Json, reader: LenientReader) -> ToolCallFragment:
    is_custom = raw.get("custom") is not None
    function = reader.fields(raw.get("custom" if is_custom else "function"))
    index, id_ = reader.index(raw.get("index")), reader.string(raw.get("id"))
    name, arguments = reader.string(function.get("name")), function.get("input" if is_custom else "arguments")
    if isinstance(arguments, dict) and not is_custom:  # some upstreams send them parsed
        arguments = msgspec.json.encode(reader.verbatim(arguments)).decode()
    known = CUSTOM_FIELDS if is_custom else FUNCTION_FIELDS
    unknown = reader.unknown_fields(function, known), reader.unknown_fields(raw, CALL_FIELDS)
    fields = {**unknown[0], **unknown[1]} if any(unknown) else NOTHING
    return ToolCallFragment(index, id_, name, reader.text(arguments), fields, is_custom)
