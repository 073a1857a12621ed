"""Content of items: strings and lists of parts, as Chat Completions has them.

A single text becomes a string, because some servers read nothing else; several parts stay a list.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json
from tailrace.translation.expect import expect_object, expect_objects, expect_text, present, refuse_others

Content = str | list[Json]
Parts = Mapping[str, Callable[[Json, str], Json]]
"""The types of part that have a place, each with its translation."""

CACHED = "prompt_cache_breakpoint"
"""A mark that both APIs know, on any part."""


def content_of(content: Any, param: str, parts: Parts) -> Content:
    """
    Raises:
        UnsupportedParameter: there is no place for a part, or for a field of it.
        InvalidValue: the content is neither a string nor a list of parts.
    """
    if isinstance(content, str):
        return content
    translated = [_part(part, place, parts) for part, place in expect_objects(content, param)]
    match translated:
        case []:
            return ""
        case [{"type": "text", "text": str(text), **others}] if not others:
            return text
    return translated


def as_parts(content: Content | None) -> list[Json]:
    """The content as a list of parts."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _part(part: Json, param: str, parts: Parts) -> Json:
    kind = part.get("type")
    translate = parts.get(kind) if isinstance(kind, str) else None
    if translate is None:
        raise UnsupportedParameter.at(f"{param}.type", f"a Chat Completions upstream takes no {str(kind)[:64]!r} here")
    return translate(part, param) | present(part, CACHED)


def _text(part: Json, param: str) -> Json:
    refuse_others(part, {"type", "text", "annotations", "logprobs", CACHED}, param)
    return {"type": "text", "text": expect_text(part.get("text"), f"{param}.text")}


def _refusal(part: Json, param: str) -> Json:
    refuse_others(part, {"type", "refusal"}, param)
    return {"type": "refusal", "refusal": expect_text(part.get("refusal"), f"{param}.refusal")}


def _image(part: Json, param: str) -> Json:
    refuse_others(part, {"type", "image_url", "detail", CACHED}, param)
    url = expect_text(part.get("image_url"), f"{param}.image_url")
    return {"type": "image_url", "image_url": {"url": url, **present(part, "detail")}}


def _file(part: Json, param: str) -> Json:
    refuse_others(part, {"type", "file_data", "file_id", "filename", CACHED}, param)
    file = present(part, "file_data", "file_id", "filename")
    if not file.keys() & {"file_data", "file_id"}:
        raise InvalidValue.at(param, "has neither `file_data` nor `file_id`")
    return {"type": "file", "file": file}


def _audio(part: Json, param: str) -> Json:
    refuse_others(part, {"type", "input_audio", CACHED}, param)
    return {"type": "input_audio", "input_audio": expect_object(part.get("input_audio"), f"{param}.input_audio")}


TEXTS: Parts = {"input_text": _text}
"""Of messages with instructions, and of a tool's output."""

USER: Parts = {"input_text": _text, "input_image": _image, "input_file": _file, "input_audio": _audio}

ASSISTANT: Parts = {"output_text": _text, "input_text": _text, "refusal": _refusal}
