"""What one delta says: pieces of text in their order, and beside them cargo that one of them must carry.

content             text; or an array of parts, of which `thinking` is reasoning
reasoning_content   reasoning; so is `reasoning`, unless both say the same
refusal             a refusal
annotations         always beside a text, if need be an empty one: they are about it
tool_calls          are not read here
everything else     cargo, verbatim; parts unknown here under the name `content_parts`
"""

from typing import Any, Literal, NamedTuple

from tailrace.events import Json
from tailrace_worker.upstream.fields import NOTHING, LenientReader, is_empty

Kind = Literal["text", "reasoning", "refusal"]
OF_A_DELTA = frozenset(
    {
        "role", "content", "reasoning_content", "reasoning", "refusal", "annotations", "tool_calls", "obfuscation",
    }
)  # fmt: skip


class Said(NamedTuple):
    """A piece of text. `key`: what the upstream calls it, where it is reasoning."""

    kind: Kind
    text: str
    key: str = ""


class Cargo(NamedTuple):
    """Fields of the delta and logprobs of the choice, for the `extra` of one entry."""

    delta: Json = NOTHING
    logprobs: Json = NOTHING


def hear(delta: Json, logprobs: Any, read: LenientReader) -> tuple[list[Said], Cargo | None]:
    said: list[Said] = []
    fields = read.unknown_fields(delta, OF_A_DELTA)
    thought = read.text(delta.get("reasoning_content"))
    if thought:
        said.append(Said("reasoning", thought, "reasoning_content"))
    if (again := read.text(delta.get("reasoning"))) and again != thought:
        said.append(Said("reasoning", again, "reasoning"))
    content = delta.get("content")
    if isinstance(content, list):
        fields = {**fields, **_parts(content, said, read)}
    elif text := read.text(content):
        said.append(Said("text", text))
    if annotations := read.objects(delta.get("annotations")):
        fields = {**fields, **read.verbatim({"annotations": annotations})}
        if not any(each.kind == "text" for each in said):
            said.append(Said("text", ""))
    if text := read.text(delta.get("refusal")):
        said.append(Said("refusal", text))
    kept = _logprobs(logprobs, read) if logprobs else NOTHING
    return said, Cargo(fields, kept) if fields or kept else None


def _parts(content: list[Any], said: list[Said], read: LenientReader) -> Json:
    """Adds what the parts say; returns those unknown here."""
    unknown: list[Json] = []
    for each in content:
        part = read.fields({"type": "text", "text": each} if isinstance(each, str) else each)
        if "thinking" in part:
            if text := _thought(part["thinking"], read):
                said.append(Said("reasoning", text, "reasoning_content"))
        elif part.get("type") == "text":
            if text := read.text(part.get("text")):
                said.append(Said("text", text))
        elif part:
            unknown.append(part)
    return read.verbatim({"content_parts": unknown}) if unknown else NOTHING


def _thought(thinking: Any, read: LenientReader) -> str:
    if isinstance(thinking, list):
        return "".join(read.text(part.get("text")) for part in read.objects(thinking))
    return read.text(thinking)


def _logprobs(logprobs: Any, read: LenientReader) -> Json:
    """As they came, if they say anything; their lists hold objects."""
    told = dict(read.fields(logprobs))
    for key in ("content", "refusal"):
        if told.get(key) is not None:
            told[key] = read.objects(told[key])
    return NOTHING if all(map(is_empty, told.values())) else read.verbatim(told)
