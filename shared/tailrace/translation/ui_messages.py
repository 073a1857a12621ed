"""The AI SDK's UI messages as Chat Completions messages. The other fields of the body are Chat Completions' own.

    system       its texts, as one
    user         its texts and files: an image by its URL, audio, a text file as text, any other file as a data URL
    assistant    for each step: one message with the text, the reasoning and the calls, and one `tool` message for each
                 call's result

Rule 1: parts that are for the page alone are left out: sources, and `data-…`. So is a call without a result, which
upstreams refuse: its answer was stopped, or the page has asked something else meanwhile.
Rule 2: anything else that has no place in Chat Completions is refused by name. Nothing else is left out.
Rule 3: what `wire.ui_messages` writes into the metadata of a part under `tailrace` returns to its place: a refusal to
`refusal`, an upstream's own fields of a call to the call.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from tailrace import jsoncodec
from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json, objects_in
from tailrace.translation.expect import expect_objects

FIELDS_OF_THE_CHAT = frozenset({"id", "messages", "messageId", "trigger"})
PARTS_OF_THE_PAGE = ("data-", "source-", "step-start")
"""Types of parts, or how they begin."""

CALLS = ("tool-", "dynamic-tool")
"""How the types of a call's part begin: of a tool that the page has declared, or of any other."""

AUDIO_FORMATS = {"mpeg": "mp3", "wave": "wav", "x-wav": "wav", "vnd.wave": "wav"}
"""Media types of `audio/…` whose format has another name."""

DENIED = "Tool execution denied."

Part = tuple[Json, str]
"""A part, with its place in the body for errors."""


def chat_request(request: Json) -> Json:
    """The body of `POST /api/chat` as a Chat Completions request.

    Raises:
        InvalidValue: a message is malformed; `param` names it.
        UnsupportedParameter: Chat Completions has no place for a part, or the body asks for several answers.
    """
    if request.get("n") not in (None, 1):
        raise UnsupportedParameter.at("n", "a chat has one answer")
    chat = {name: value for name, value in request.items() if name not in FIELDS_OF_THE_CHAT}
    custom = _custom_tools(chat.get("tools"))
    messages = expect_objects(request.get("messages"), "messages")
    chat["messages"] = [each for message, place in messages for each in _messages(message, place, custom)]
    return chat


def _custom_tools(tools: Any) -> set[str]:
    """The names of tools whose input is text."""
    custom = (tool.get("custom") for tool in objects_in(tools))
    return {str(each.get("name")) for each in custom if isinstance(each, dict)}


def _messages(message: Json, place: str, custom: set[str]) -> list[Json]:
    parts = expect_objects(message.get("parts"), f"{place}.parts")
    match message.get("role"):
        case "system":
            return [{"role": "system", "content": "".join(_texts(parts))}]
        case "user":
            return [{"role": "user", "content": _user_content(parts)}]
        case "assistant":
            return [each for step in _steps(parts) for each in _step_messages(step, custom)]
    raise InvalidValue.at(f"{place}.role", "must be system, user or assistant")


def _texts(parts: Iterable[Part]) -> Iterator[str]:
    for part, place in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                yield text
            case _ if not _is_for_the_page(part):
                raise UnsupportedParameter.at(place)


def _is_for_the_page(part: Json) -> bool:
    return str(part.get("type")).startswith(PARTS_OF_THE_PAGE)


# ── user ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _user_content(parts: list[Part]) -> str | list[Json]:
    """A text alone is sent as a string: some upstreams read no lists."""
    content = [_content_part(part, place) for part, place in parts if not _is_for_the_page(part)]
    if all(each["type"] == "text" for each in content) and len(content) < 2:
        return "".join(each["text"] for each in content)
    return content


def _content_part(part: Json, place: str) -> Json:
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "file", "mediaType": str(media_type), "url": str(url)}:
            return _file(media_type, url, str(part.get("filename") or "file"), f"{place}.url")
    raise UnsupportedParameter.at(place)


def _file(media_type: str, url: str, name: str, place: str) -> Json:
    kind, _, subtype = media_type.partition("/")
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    if not url.startswith("data:"):
        raise UnsupportedParameter.at(place, f"a file of type {media_type[:64]} must be sent as a data URL")
    head, _, data = url.partition(",")
    if kind == "text":
        return {"type": "text", "text": _text_of(head, data, place)}
    if kind == "audio" and head.endswith(";base64"):
        audio_format = AUDIO_FORMATS.get(subtype, subtype)
        return {"type": "input_audio", "input_audio": {"data": data, "format": audio_format}}
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def _text_of(head: str, data: str, place: str) -> str:
    """The text of a data URL (RFC 2397), as UTF-8."""
    if not head.endswith(";base64"):
        return unquote_to_bytes(data).decode("utf-8", "replace")
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue.at(place, "is not a data URL") from None
    return raw.decode("utf-8", "replace")


# ── assistant ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _steps(parts: list[Part]) -> list[list[Part]]:
    """A step is one answer of the model; the results of its calls lead to the next one."""
    steps: list[list[Part]] = [[]]
    for part, place in parts:
        if part.get("type") == "step-start":
            steps.append([])
        else:
            steps[-1].append((part, place))
    return steps


def _step_messages(step: list[Part], custom: set[str]) -> list[Json]:
    """Nothing for a step without a text and without a call that has a result."""
    texts: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
    calls: list[Json] = []
    results: list[Json] = []
    for part, place in step:
        match part:
            case {"type": "text", "text": str(text)}:
                texts["refusal" if _metadata(part, "providerMetadata").get("refusal") else "content"].append(text)
            case {"type": "reasoning", "text": str(text)}:
                texts["reasoning_content"].append(text)
            case {"type": str(kind), "toolCallId": str()} if kind.startswith(CALLS):
                if (result := _result(part)) is not None:
                    calls.append(_call(part, custom))
                    results.append({"role": "tool", "tool_call_id": part["toolCallId"], "content": result})
            case _ if not _is_for_the_page(part):
                raise UnsupportedParameter.at(place)
    fields = {name: "".join(each) for name, each in texts.items() if any(each)}
    if not calls and not fields.keys() & {"content", "refusal"}:
        return []
    message = {"role": "assistant", "content": None, **fields}
    return [message | {"tool_calls": calls} if calls else message, *results]


def _call(part: Json, custom: set[str]) -> Json:
    name = part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")
    given = next((part[key] for key in ("input", "rawInput") if part.get(key) is not None), None)
    fields = {**_metadata(part, "callProviderMetadata"), "id": part["toolCallId"]}
    if name in custom:
        text = given if isinstance(given, str) else _json(given)
        return {**fields, "type": "custom", "custom": {"name": name, "input": text}}
    arguments = _json({} if given is None else given)
    return {**fields, "type": "function", "function": {"name": str(name or ""), "arguments": arguments}}


def _result(part: Json) -> str | None:
    """The output of the tool, or the reason why it has none; None where it has not returned yet."""
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            return output if isinstance(output, str) else _json(output)
        case "output-error":
            return str(part.get("errorText") or "")
        case "output-denied":
            approval = part.get("approval")
            return str((approval.get("reason") if isinstance(approval, dict) else None) or DENIED)
    return None


def _metadata(part: Json, field: str) -> Json:
    """Tailrace's own among the metadata of a part."""
    metadata = part.get(field)
    own = metadata.get("tailrace") if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else {}


def _json(value: Any) -> str:
    return jsoncodec.dumps(value).decode()
