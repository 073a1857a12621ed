"""Items in, messages out.

    message                      a message; `developer` becomes `system`, which every upstream knows and OpenAI reads as
                                 either
    reasoning                    `reasoning_content` of the assistant message that it belongs to
    function_call                ┐ `tool_calls` of the assistant message before it
    custom_tool_call             ┘
    function_call_output         ┐ a `tool` message
    custom_tool_call_output      ┘
    item_reference               replaced by the item before the request is stored
    any other                    refused: items of tools that OpenAI runs, and what only OpenAI can read

Rule 1: Chat Completions wants all calls that are answered together in one assistant message, directly before their
outputs. What the assistant adds between a call and its output therefore joins the message of the call.
Rule 2: other fields of a call are the upstream's own, and go back to it where they were (a thought's signature).
Rule 3: reasoning is sent back within the turn that it belongs to, where models continue it between calls, and not from
earlier turns, as OpenAI does it by default; with `reasoning.context` "all_turns" from every turn.
Rule 4: the `phase` of an answer marks it as commentary or as final (Open Responses 2026-04-24). Clients send it back
with the answer. The stored item keeps it; the message has none, because Chat Completions has no field for it.
"""

from collections.abc import Callable
from typing import Any

from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json
from tailrace.translation.expect import expect_objects, expect_text, others_in, present, refuse_others
from tailrace.translation.responses_content import ASSISTANT, TEXTS, USER, Content, as_parts, content_of

MESSAGE_FIELDS = {"type", "id", "role", "content", "phase", "status"}
REASONING_FIELDS = {"type", "id", "summary", "content", "encrypted_content", "status"}
CALL_FIELDS = {"type", "id", "call_id", "name", "arguments", "status"}
CUSTOM_CALL_FIELDS = {"type", "id", "call_id", "name", "input", "status"}
OUTPUT_FIELDS = {"type", "id", "call_id", "name", "output", "status"}
PHASES = (None, "commentary", "final_answer")
OF_OPENAI = {"async", "caller", "created_by", "namespace"}
"""Fields of a call that only OpenAI's own tools give a meaning."""


def items_in(value: Any) -> list[Json]:
    """The items of an `input`: a string is one message of the user, null is no item.

    Raises:
        InvalidValue: the input is anything else but a list of objects.
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return [item for item, _ in expect_objects(value, "input")]


def type_of(item: Json) -> str:
    """The item's type, which may be left out of a message and of a reference."""
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference"
    return kind if isinstance(kind, str) else ""


def messages_of(value: Any, *, all_turns: bool = False) -> list[Json]:
    """The messages of an `input`. `all_turns`: rule 3.

    Raises:
        UnsupportedParameter: an item, a part or a field has no place in a message.
        InvalidValue: one has the wrong type.
    """
    items = items_in(value)
    turn = max((i for i, item in enumerate(items) if item.get("role") == "user"), default=-1)
    messages = _Messages()
    for i, item in enumerate(items):
        param, kind = f"input[{i}]", type_of(item)
        add = _ITEMS.get(kind)
        if add is None:
            raise UnsupportedParameter.at(param, f"a Chat Completions upstream takes no item of the type {kind[:64]!r}")
        if kind != "reasoning" or i > turn or all_turns:
            add(messages, item, param)
    return messages.finished()


class _Messages:
    """Messages, as items are added. Reasoning is a list until it is `finished`: a text that grows is copied each
    time."""

    def __init__(self) -> None:
        self._all: list[Json] = []

    def finished(self) -> list[Json]:
        for message in self._all:
            if "reasoning_content" in message:
                message["reasoning_content"] = "\n\n".join(message["reasoning_content"])
        return self._all

    def add_message(self, item: Json, param: str) -> None:
        refuse_others(item, MESSAGE_FIELDS, param)
        if item.get("phase") not in PHASES:
            raise InvalidValue.at(f"{param}.phase", "there is no such phase")
        role, content, place = item.get("role"), item.get("content"), f"{param}.content"
        match role:
            case "user":
                self._all.append({"role": "user", "content": content_of(content, place, USER)})
            case "system" | "developer":
                self._all.append({"role": "system", "content": content_of(content, place, TEXTS)})
            case "assistant":
                self._add_answer(content_of(content, place, ASSISTANT))
            case _:
                raise InvalidValue.at(f"{param}.role", "there is no such role")

    def add_reasoning(self, item: Json, param: str) -> None:
        if text := _reasoning_text(item, param):
            self._open_assistant().setdefault("reasoning_content", []).append(text)

    def add_call(self, item: Json, param: str) -> None:
        function = {name: expect_text(item.get(name), f"{param}.{name}") for name in ("name", "arguments")}
        self._add_call(item, CALL_FIELDS, param, {"type": "function", "function": function})

    def add_custom_call(self, item: Json, param: str) -> None:
        custom = {name: expect_text(item.get(name), f"{param}.{name}") for name in ("name", "input")}
        self._add_call(item, CUSTOM_CALL_FIELDS, param, {"type": "custom", "custom": custom})

    def add_output(self, item: Json, param: str) -> None:
        refuse_others(item, OUTPUT_FIELDS, param)
        content = content_of(item.get("output"), f"{param}.output", TEXTS)
        self._all.append({"role": "tool", "tool_call_id": _call_id(item, param), "content": content})

    def _add_answer(self, content: Content) -> None:
        message = self._open_assistant()
        if message["content"]:
            parts = as_parts(message["content"])
            parts += as_parts(content)
            content = parts
        message["content"] = content

    def _add_call(self, item: Json, known: set[str], param: str, call: Json) -> None:
        refuse_others(present(item, *OF_OPENAI), (), param)
        message = self._last_assistant() or self._begin_assistant()
        call = {"id": _call_id(item, param)} | call | others_in(item, known | OF_OPENAI)
        message.setdefault("tool_calls", []).append(call)
        message["content"] = message["content"] or None  # OpenAI refuses an empty list beside calls; null suits all

    def _open_assistant(self) -> Json:
        """The assistant message to which more may be added: it has no text yet, or it has calls (rule 1)."""
        message = self._last_assistant()
        if message is None or (message["content"] and "tool_calls" not in message):
            return self._begin_assistant()
        return message

    def _last_assistant(self) -> Json | None:
        return self._all[-1] if self._all and self._all[-1]["role"] == "assistant" else None

    def _begin_assistant(self) -> Json:
        self._all.append({"role": "assistant", "content": ""})
        return self._all[-1]


_ITEMS: dict[str, Callable[[_Messages, Json, str], None]] = {
    "message": _Messages.add_message,
    "reasoning": _Messages.add_reasoning,
    "function_call": _Messages.add_call,
    "custom_tool_call": _Messages.add_custom_call,
    "function_call_output": _Messages.add_output,
    "custom_tool_call_output": _Messages.add_output,
}


def _call_id(item: Json, param: str) -> str:
    return expect_text(item.get("call_id"), f"{param}.call_id")


def _reasoning_text(item: Json, param: str) -> str:
    """The model's own text, else its summary.

    Raises:
        UnsupportedParameter: there is nothing but what its provider has encrypted.
    """
    refuse_others(item, REASONING_FIELDS, param)
    name = "content" if item.get("content") else "summary"
    parts = expect_objects(item.get(name) or [], f"{param}.{name}")
    text = "\n\n".join(expect_text(part.get("text"), f"{place}.text") for part, place in parts)
    if not text and item.get("encrypted_content"):
        raise UnsupportedParameter.at(f"{param}.encrypted_content", "only the provider that encrypted it can read it")
    return text
