"""From a caller's request to the upstream's dialect: pure functions of what is stored.

A generation keeps the request as its caller sent it, in the caller's API (`GenerationRecord.api`). The worker turns it
into a body of the upstream's API each time it opens the upstream. The frontend does so once, before it creates the
generation, for the refusals. To a Chat Completions upstream:

    chat         the upstream gets it unchanged
    responses    `responses`: parameters; `responses_input`: items; `responses_content`: their parts;
                 `responses_tools`: tools and formats
    ui-messages  `ui_messages`: messages; all else is a Chat Completions body

To a Responses upstream: `to_responses`.

Rule 1: nothing is dropped silently. A field is carried, or kept by Tailrace (`background`, `metadata`, …), or refused
by `UnsupportedParameter`, which names it. Fields that Responses does not define are sent on as they are: an upstream
has parameters of its own (`top_k`, `chat_template_kwargs`), and refuses those that it does not know.
Rule 2: a translation never fails but by an `InvalidRequest`, whatever the JSON.
"""

from collections.abc import Callable
from typing import Literal

from tailrace.errors import MissingParameter
from tailrace.events import Api, Json
from tailrace.translation.json_format import JsonFormat, json_format_of
from tailrace.translation.responses import chat_request as _of_responses
from tailrace.translation.to_responses import responses_request
from tailrace.translation.ui_messages import chat_request as _of_ui_messages

__all__ = ["DialectName", "JsonFormat", "chat_request", "json_format_of", "upstream_request"]

DialectName = Literal["chat", "responses"]
"""The upstream's API."""


def upstream_request(dialect: DialectName, api: Api, request: Json) -> Json:
    """The body for a stored request, in the upstream's API.

    Raises:
        As `chat_request`.
    """
    if dialect == "chat":
        return chat_request(api, request)
    if api == "responses" and not (request.get("input") or request.get("prompt")):
        raise MissingParameter("Missing required parameter: 'input'.", param="input")
    return responses_request(api, request)


def chat_request(api: Api, request: Json) -> Json:
    """The Chat Completions body for a stored request.

    Raises:
        UnsupportedParameter: a Chat Completions upstream has no place for a part of it; `param` names the part.
        InvalidValue: a part has the wrong type.
        MissingParameter: there is no input.
    """
    return _TRANSLATIONS[api](request)


def _of_chat(request: Json) -> Json:
    return request


_TRANSLATIONS: dict[Api, Callable[[Json], Json]] = {
    "chat": _of_chat,
    "responses": _of_responses,
    "ui-messages": _of_ui_messages,
}
