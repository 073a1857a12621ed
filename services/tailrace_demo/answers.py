"""The demo models' answers as scripts: role, one delta per token, finish reason, usage, `[DONE]`."""

import itertools
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from msgspec import Meta, Struct

from tailrace_demo import prose
from tailrace_demo.script import Delta, Deltas, Done, Step, Usage

Positive = Annotated[int, Meta(ge=1)]
TokenDelta = dict[str, Any]

TOKENS_PER_SECOND = 40.0
PIECE = re.compile(r"\s*\S{1,6}|\s+")


class StreamOptions(Struct):
    include_usage: bool | None = None


class ChatRequest(Struct):
    """The fields that affect an answer; all others are accepted and ignored."""

    model: str = "demo"
    messages: list[dict[str, Any]] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None
    response_format: dict[str, Any] | None = None


def answer(chat: ChatRequest) -> list[Step]:
    """The script for one request to one of `MODELS`."""
    complete = list(MODELS[chat.model](chat))
    limit = chat.max_completion_tokens or chat.max_tokens or len(complete)
    deltas = complete[:limit]
    finish_reason = "length" if len(deltas) < len(complete) else finish(complete)
    choices = chat.n or 1
    steps: list[Step] = [
        *(Delta({"role": "assistant", "content": ""}, choice) for choice in range(choices)),
        Deltas(deltas, chat.tokens_per_second or TOKENS_PER_SECOND, choices),
        *(Delta({}, choice, finish_reason) for choice in range(choices)),
    ]
    if wants_usage(chat):
        steps.append(Usage(usage(chat, deltas, choices)))
    return [*steps, Done()]


def demo(chat: ChatRequest) -> Iterator[TokenDelta]:
    """The same text to every question; JSON where JSON is asked for."""
    wants_json = (chat.response_format or {}).get("type") in ("json_object", "json_schema")
    return tokens("content", prose.JSON_ANSWER if wants_json else prose.ANSWER)


def demo_reasoning(_: ChatRequest) -> Iterator[TokenDelta]:
    return itertools.chain(tokens("reasoning_content", prose.THOUGHTS), tokens("content", prose.ANSWER))


def demo_long(_: ChatRequest) -> Iterator[TokenDelta]:
    return tokens("content", prose.long_answer())


def demo_tools(chat: ChatRequest) -> Iterator[TokenDelta]:
    """Two parallel tool calls; a text if the last message is a tool's result."""
    if chat.messages and chat.messages[-1].get("role") == "tool":
        return tokens("content", prose.AFTER_THE_TOOLS)
    return itertools.chain.from_iterable(
        tool_call(index, name, arguments) for index, (name, arguments) in enumerate(prose.TOOL_CALLS)
    )


def tool_call(index: int, name: str, arguments: str) -> Iterator[TokenDelta]:
    function = {"name": name, "arguments": ""}
    call_id = f"call_{uuid.uuid4().hex}"
    yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}
    for piece in PIECE.findall(arguments):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def tokens(key: str, text: str) -> Iterator[TokenDelta]:
    return ({key: piece} for piece in PIECE.findall(text))


def finish(deltas: list[TokenDelta]) -> str:
    return "tool_calls" if deltas and "tool_calls" in deltas[-1] else "stop"


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def wants_usage(chat: ChatRequest) -> bool:
    options = chat.stream_options
    return not chat.stream or bool(options and options.include_usage)


def usage(chat: ChatRequest, deltas: list[TokenDelta], choices: int) -> dict[str, Any]:
    prompt = sum(len(PIECE.findall(text_of(message))) for message in chat.messages)
    completion = len(deltas) * choices
    reasoning = sum("reasoning_content" in delta for delta in deltas) * choices
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


MODELS: dict[str, Callable[[ChatRequest], Iterator[TokenDelta]]] = {
    "demo": demo,
    "demo-reasoning": demo_reasoning,
    "demo-tools": demo_tools,
    "demo-long": demo_long,
}
