"""The size of the prompt in a stored request, for usage that has to be estimated.

The stored request is the body that the client sent, whichever API the upstream offers. Every process that ends a
generation therefore counts the same bytes, and the log needs no knowledge of the body.
"""

from typing import Any

from tailrace.events import Json


def prompt_bytes(request: Json) -> int:
    """The bytes of the text in the prompt, as UTF-8; images, files and tool calls count nothing. It never raises."""
    return sum(_text_bytes(request.get(name)) for name in ("messages", "instructions", "input"))


def _text_bytes(value: Any) -> int:
    match value:
        case str():
            return len(value.encode("utf-8", "replace"))
        case list():
            return sum(map(_text_bytes, value))
        case {"content": content} | {"parts": content}:
            return _text_bytes(content)
        case {"text": text}:
            return _text_bytes(text)
        case {"output": output}:
            return _text_bytes(output)
    return 0
