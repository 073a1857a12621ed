"""A caller's request as a Responses request, for an upstream with that API.

    responses            as it was sent, but for what is Tailrace's own: `previous_response_id` (its items stand in
                         `input`), `background`, `store`, `stream`, and the ids of items that Tailrace has made
    chat, ui-messages    messages         input                     (`chat_messages`)
                         tools, tool_choice, response_format        without the object under their type
                         reasoning_effort, verbosity                reasoning.effort, text.verbosity
                         max_completion_tokens, max_tokens          max_output_tokens
                         logprobs                                   include
                         n, audio, functions, …                     refused
                         all else                                   the same

Rule 1: as for the other direction (`translation`): what the upstream has no place for is refused by name, and fields
that neither API defines are sent on as they are.
Rule 2: reasoning that the upstream could not read is left out: of Chat Completions' messages all of it, of items what
has neither its text nor what its provider encrypted. OpenAI answers 404 to such an item, unless it keeps it itself.
"""

from collections.abc import Callable
from typing import Any

from tailrace.errors import UnsupportedParameter
from tailrace.events import Api, Json, objects_in
from tailrace.translation.chat_messages import items_of
from tailrace.translation.expect import expect_object, expect_objects
from tailrace.translation.input_items import place_of, upstream_id_of
from tailrace.translation.responses import LOGPROBS
from tailrace.translation.responses_input import items_in, type_of
from tailrace.translation.ui_messages import chat_request as chat_of_ui_messages

OWN = frozenset({"background", "previous_response_id", "store", "stream", "stream_options"})
"""Fields that Tailrace acts on."""

NOT_IN_RESPONSES = {
    "audio": "a Responses upstream answers in text",
    "function_call": "use `tool_choice`",
    "functions": "use `tools`",
}

WITHOUT_ID = frozenset({"message", "function_call", "custom_tool_call", "function_call_output"})
"""Items that need no id. An id of Tailrace's own is left out: OpenAI would look for it."""


def responses_request(api: Api, request: Json, *, stores: bool = False) -> Json:
    """The body for a stored request. `stores`: whether the upstream is to keep the answer.

    Raises:
        UnsupportedParameter: a Responses upstream has no place for a part of it; `param` names the part.
        InvalidValue: a part has the wrong type.
    """
    match api:
        case "responses":
            body = {name: value for name, value in request.items() if name not in OWN}
            if isinstance(body.get("input"), list):
                body["input"] = [item for each in items_in(body["input"]) if (item := _item(each, stores=stores))]
        case "ui-messages":
            body = _of_chat(chat_of_ui_messages(request))
        case _:
            body = _of_chat(request)
    return body | {"store": stores}


def _item(item: Json, *, stores: bool) -> Json | None:
    """An item of the input under its upstream's id; None if it is of no use there."""
    item_id = item.get("id")
    if isinstance(item_id, str) and place_of(item_id) is not None:
        upstream_id = upstream_id_of(item_id)
        item = {name: value for name, value in item.items() if name != "id"}
        if upstream_id and type_of(item) not in WITHOUT_ID:
            item["id"] = upstream_id
    if type_of(item) != "reasoning" or item.get("encrypted_content") or item.get("content"):
        return item
    return item if stores and item.get("id") else None


def _of_chat(chat: Json) -> Json:
    body: Json = {"model": chat.get("model"), "input": _input(chat.get("messages"))}
    for name, value in chat.items():
        if value is None or name in OWN or name in ("model", "messages"):
            continue
        if name in NOT_IN_RESPONSES:
            raise UnsupportedParameter.at(name, NOT_IN_RESPONSES[name])
        for field, each in (_FIELDS[name](value) if name in _FIELDS else {name: value}).items():
            known = body.get(field)
            body[field] = known | each if isinstance(known, dict) and isinstance(each, dict) else each
    return body


def _input(messages: Any) -> list[Json]:
    """The items. The output of a custom tool's call has a type of its own, which Chat Completions lacks."""
    items = items_of(messages)
    custom = {item["call_id"] for item in items if item["type"] == "custom_tool_call"}
    return [
        item | {"type": "custom_tool_call_output"}
        if item["type"] == "function_call_output" and item["call_id"] in custom
        else item
        for item in items
    ]


def _flat(value: Json) -> Json:
    """`{"type": "x", "x": {…}}` as `{"type": "x", …}`; anything else unchanged."""
    kind = value.get("type")
    nested = value.get(kind) if isinstance(kind, str) else None
    if not isinstance(nested, dict):
        return value
    return {"type": kind, **nested, **{name: each for name, each in value.items() if name not in ("type", kind)}}


def _tool(tool: Json) -> Json:
    """A tool. In Responses a function is strict unless it is declared otherwise; in Chat Completions it is not."""
    flat = _flat(tool)
    if flat.get("type") == "function":
        return {**flat, "strict": bool(flat.get("strict"))}
    form = flat.get("format")
    return {**flat, "format": _flat(form)} if isinstance(form, dict) else flat


def _tools(value: Any) -> Json:
    return {"tools": [_tool(tool) for tool, _ in expect_objects(value, "tools")]}


def _tool_choice(value: Any) -> Json:
    if not isinstance(value, dict):
        return {"tool_choice": value}
    flat = _flat(value)
    return {"tool_choice": flat | ({"tools": list(map(_flat, objects_in(flat["tools"])))} if "tools" in flat else {})}


def _response_format(value: Any) -> Json:
    flat = _flat(expect_object(value, "response_format"))
    return {} if flat.get("type") == "text" else {"text": {"format": flat}}


def _logprobs(value: Any) -> Json:
    return {"include": [LOGPROBS]} if value else {}


def _choices(value: Any) -> Json:
    if value != 1:
        raise UnsupportedParameter.at("n", "a Responses upstream gives one answer")
    return {}


def _modalities(value: Any) -> Json:
    if value != ["text"]:
        raise UnsupportedParameter.at("modalities", "a Responses upstream answers in text")
    return {}


_FIELDS: dict[str, Callable[[Any], Json]] = {
    "logprobs": _logprobs,
    "max_completion_tokens": lambda value: {"max_output_tokens": value},
    "max_tokens": lambda value: {"max_output_tokens": value},
    "modalities": _modalities,
    "n": _choices,
    "reasoning_effort": lambda value: {"reasoning": {"effort": value}},
    "response_format": _response_format,
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_logprobs": lambda value: {"top_logprobs": value} if value else {},
    "verbosity": lambda value: {"text": {"verbosity": value}},
}
