"""How a request's last user message begins, on one line: by it, a list of generations can be recognized."""

import re
from collections.abc import Iterator
from typing import Any

from tailrace import jsoncodec
from tailrace.events import Json

CHARACTERS = 80
READ_CHARACTERS = 1000
"""Of a message, after its leading spaces. A preview of less than 80 characters is no harm."""

INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that reverse the direction of text: the preview is shown beside others."""


def preview_of(request: Json) -> str:
    """Up to 80 characters of the last user message of a request of any API; empty where it has no text."""
    return _line(next(_texts_of(request), ""))


def question_of(request: Json) -> str:
    """The whole text of that message: of its parts, a line or more each."""
    return "\n".join(_texts_of(request))


def _texts_of(request: Json) -> Iterator[str]:
    """The texts in the last user message, none of them empty."""
    messages: Any = request.get("messages", request.get("input"))
    if isinstance(messages, str):  # Responses
        messages = [{"role": "user", "content": messages}]
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content", message.get("parts"))
            parts = [{"text": content}] if isinstance(content, str) else content
            texts = (part.get("text") for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict))
            yield from (text for text in texts if isinstance(text, str) and text)
            return


def _line(text: str) -> str:
    begins = text.lstrip()[:READ_CHARACTERS]
    return str(jsoncodec.replace_lone_surrogates(" ".join(INVISIBLE.sub(" ", begins).split())))[:CHARACTERS]
