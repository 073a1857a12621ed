"""From a caller's request to the upstream's dialect: pure functions of what is stored.

A generation keeps the request as its caller sent it, in the caller's API (`GenerationRecord.api`). The worker turns it
into a Chat Completions body each time it opens the upstream. The frontend does so once, before it creates the
generation, for the refusals.

    chat         the upstream gets it unchanged
    responses    `responses`: parameters; `responses_input`: items; `responses_content`: their parts;
                 `responses_tools`: tools and formats
    ui-messages  `ui_messages`: messages; all else is a Chat Completions body

Rule 1: nothing is dropped silently. A field is carried, or kept by Tailrace (`background`, `metadata`, …), or refused
by `UnsupportedParameter`, which names it. Fields that Responses does not define are sent on as they are: an upstream
has parameters of its own (`top_k`, `chat_template_kwargs`), and refuses those that it does not know.
Rule 2: a translation never fails but by an `InvalidRequest`, whatever the JSON.
"""

from collections.abc import Callable

from tailrace.events import Api, Json
from tailrace.translation.responses import chat_request as _of_responses
from tailrace.translation.ui_messages import chat_request as _of_ui_messages


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
