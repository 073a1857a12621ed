"""One delta of a chunk: its text fragments in order, and the fields that pass through beside them.

content             text; or a list of parts, of which `thinking` is reasoning
reasoning_content   reasoning; so is `reasoning`, unless both hold the same text
refusal             a refusal
annotations         always beside a text, if need be an empty one, because they refer to text
tool_calls          not read here (`tool_calls`)
everything else     passed through verbatim; unknown content parts under the name `content_parts`
"""

from typing import Any, Literal, NamedTuple

from tailrace.events import Json
from tailrace_worker.upstream.fields import NOTHING, LenientReader, is_empty

Kind = Literal["text", "reasoning", "refusal"]
DELTA_FIELDS = frozenset(
    {
        "role", "content", "reasoning_content", "reasoning", "refusal", "annotations", "tool_calls", "obfuscation",
    }
)  # fmt: skip


class Fragment(NamedTuple):
    """A fragment of text. `key`: the upstream's field name, where it is reasoning."""

    kind: Kind
    text: str
    key: str = ""


class Passthrough(NamedTuple):
    """Fields of a delta and logprobs of its choice, for the `extra` of one entry."""

    delta: Json = NOTHING
    logprobs: Json = NOTHING


def parse_delta(delta: Json, logprobs: Any, reader: LenientReader) -> tuple[list[Fragment], Passthrough | None]:
    """The fragments of a delta in order, and what one of them must carry."""
    fragments: list[Fragment] = []
    fields = reader.unknown_fields(delta, DELTA_FIELDS)
    reasoning = reader.text(delta.get("reasoning_content"))
    if reasoning:
        fragments.append(Fragment("reasoning", reasoning, "reasoning_content"))
    if (other := reader.text(delta.get("reasoning"))) and other != reasoning:
        fragments.append(Fragment("reasoning", other, "reasoning"))
    content = delta.get("content")
    if isinstance(content, list):
        fields = {**fields, **_parse_parts(content, fragments, reader)}
    elif text := reader.text(content):
        fragments.append(Fragment("text", text))
    if annotations := reader.objects(delta.get("annotations")):
        fields = {**fields, **reader.verbatim({"annotations": annotations})}
        if not any(fragment.kind == "text" for fragment in fragments):
            fragments.append(Fragment("text", ""))
    if text := reader.text(delta.get("refusal")):
        fragments.append(Fragment("refusal", text))
    kept = _parse_logprobs(logprobs, reader) if logprobs else NOTHING
    return fragments, Passthrough(fields, kept) if fields or kept else None


def _parse_parts(content: list[Any], fragments: list[Fragment], reader: LenientReader) -> Json:
    """Add the fragments of a list of content parts; return the unknown parts, for passing through."""
    unknown: list[Json] = []
    for each in content:
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


def _parse_logprobs(logprobs: Any, reader: LenientReader) -> Json:
    """The logprobs verbatim, unless all their fields are empty; `content` and `refusal` hold objects only."""
    fields = dict(reader.fields(logprobs))
    for key in ("content", "refusal"):
        if fields.get(key) is not None:
            fields[key] = reader.objects(fields[key])
    return NOTHING if all(map(is_empty, fields.values())) else reader.verbatim(fields)
