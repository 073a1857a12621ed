"""Messages in, items out: the conversation of a Chat Completions request, for those who read it as Responses.

A message of the assistant becomes its text and one item for each of its calls. Parts that Responses does not know stay
as they are: a request that continues them is refused, and names them.
"""

from typing import Any

from tailrace.events import Json, objects_in


def items_of(messages: Any) -> list[Json]:
    """The items of a request's `messages`, none of which has an id. It never raises."""
    return [item for message in objects_in(messages) for item in _items(message)]


def _items(message: Json) -> list[Json]:
    match message.get("role"):
        case "tool":
            return [_output(message.get("tool_call_id"), message.get("content"))]
        case "function":  # the API before `tools`: a call had no id but its name
            return [_output(message.get("name"), message.get("content"))]
        case "assistant":
            return _answer(message)
        case role:
            return [{"type": "message", "role": role, "content": _parts(message.get("content"), "input_text")}]


def _answer(message: Json) -> list[Json]:
    parts = _parts(message.get("content"), "output_text")
    if refusal := message.get("refusal"):
        parts.append({"type": "refusal", "refusal": refusal})
    items: list[Json] = [{"type": "message", "role": "assistant", "content": parts}] if parts else []
    items += [_call(call) for call in objects_in(message.get("tool_calls"))]
    if isinstance(function := message.get("function_call"), dict):
        items.append(_call({"id": function.get("name"), "function": function}))
    return items


def _call(call: Json) -> Json:
    custom = call.get("custom")
    if isinstance(custom, dict):
        given = {"name": custom.get("name", ""), "input": custom.get("input", "")}
        return {"type": "custom_tool_call", "call_id": call.get("id", ""), **given}
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    given = {"name": function.get("name", ""), "arguments": function.get("arguments", "")}
    return {"type": "function_call", "call_id": call.get("id", ""), **given}


def _output(call_id: Any, content: Any) -> Json:
    """The output of a call, whatever its type: a Chat Completions request does not repeat it."""
    output = content if isinstance(content, str) else _parts(content, "input_text")
    return {"type": "function_call_output", "call_id": call_id or "", "output": output}


def _parts(content: Any, text_type: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": text_type, "text": content}] if content else []
    return [_part(part, text_type) for part in objects_in(content)]


def _part(part: Json, text_type: str) -> Json:
    match part:
        case {"type": "text"}:
            return part | {"type": text_type}
        case {"type": "image_url", "image_url": {"url": url} as image}:
            others = {name: value for name, value in image.items() if name != "url"}
            return {"type": "input_image", "detail": "auto"} | others | {"image_url": url}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part
