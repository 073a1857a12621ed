"""What the demo models say, written as scripts: role, one delta a token, finish, usage, `[DONE]`."""

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
    """The fields that matter to an answer; all others are welcome and ignored."""

    model: str = "demo"
    messages: list[dict[str, Any]] = []
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None


def answer(chat: ChatRequest) -> list[Step]:
    """The script for one request. A model of another name behaves like `demo`."""
    said = list(MODELS.get(chat.model, demo)(chat))
    limit = chat.max_completion_tokens or chat.max_tokens or len(said)
    told = said[:limit]
    finish_reason = "length" if len(told) < len(said) else finish(said)
    choices = chat.n or 1
    steps: list[Step] = [
        *(Delta({"role": "assistant", "content": ""}, choice) for choice in range(choices)),
        Deltas(told, chat.tokens_per_second or TOKENS_PER_SECOND, choices),
        *(Delta({}, choice, finish_reason) for choice in range(choices)),
    ]
    if wants_usage(chat):
        steps.append(Usage(usage(chat, told, choices)))
    return [*steps, Done()]


def demo(chat: ChatRequest) -> Iterator[TokenDelta]:
    return tokens("content", prose.answer_to(question(chat)))


def demo_reasoning(chat: ChatRequest) -> Iterator[TokenDelta]:
    asked = question(chat)
    return itertools.chain(
        tokens("reasoning_content", prose.thoughts_on(asked)), tokens("content", prose.answer_to(asked))
    )


def demo_long(chat: ChatRequest) -> Iterator[TokenDelta]:
    return tokens("content", prose.long_answer_to(question(chat)))


def demo_tools(chat: ChatRequest) -> Iterator[TokenDelta]:
    """Two calls at once; told their results, it answers in words."""
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


def finish(said: list[TokenDelta]) -> str:
    return "tool_calls" if said and "tool_calls" in said[-1] else "stop"


def question(chat: ChatRequest) -> str:
    asked = (text_of(message) for message in reversed(chat.messages) if message.get("role") == "user")
    return next(asked, "")


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def wants_usage(chat: ChatRequest) -> bool:
    options = chat.stream_options
    return not chat.stream or bool(options and options.include_usage)


def usage(chat: ChatRequest, told: list[TokenDelta], choices: int) -> dict[str, Any]:
    prompt = sum(len(PIECE.findall(text_of(message))) for message in chat.messages)
    completion = len(told) * choices
    reasoning = sum("reasoning_content" in delta for delta in told) * choices
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
