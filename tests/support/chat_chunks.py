"""Chunks of Chat Completions streams, as upstreams send them."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

USAGE: Json = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "completion_tokens_details": {"reasoning_tokens": 2},
}
OBFUSCATION = "xY3k"


def chunk(*choices: Json, **fields: Any) -> Json:
    """A chunk as most upstreams send it; `fields` replaces or adds top-level fields."""
    known = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1_750_000_000, "model": "m-1"}
    return {**known, "choices": list(choices), **fields}


def choice(delta: Json | None, finish: str | None = None, index: int = 0, **more: Any) -> Json:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def text_chunk(content: str, index: int = 0, **fields: Any) -> Json:
    return chunk(choice({"content": content}, index=index), **fields)


def role(index: int = 0, **fields: Any) -> Json:
    return chunk(choice({"role": "assistant", "content": ""}, index=index), **fields)


def end(finish: str = "stop", index: int = 0, **fields: Any) -> Json:
    return chunk(choice({}, finish, index), **fields)


def tokens(text: str) -> Iterator[str]:
    """The text cut before each space, like tokens."""
    first, *rest = text.split(" ")
    yield first
    yield from (" " + word for word in rest)


def text_chunks(text: str, **fields: Any) -> list[Json]:
    return [text_chunk(word, **fields) for word in tokens(text)]


def fragment(
    index: int | None = None,
    id: str | None = None,  # noqa: A002 - the name on the wire
    name: str | None = None,
    arguments: str | None = None,
    **more: Any,
) -> Json:
    """One element of `tool_calls`, with only the fields that are given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields: Json = {
        "index": index,
        "id": id,
        "type": "function" if name else None,
        "function": function or None,
        **more,
    }
    return {key: value for key, value in fields.items() if value is not None}


def call_chunk(*fragments: Json, index: int = 0, **fields: Any) -> Json:
    return chunk(choice({"tool_calls": list(fragments)}, index=index), **fields)


def logprob(token: str) -> Json:
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}


def citation(number: int) -> Json:
    page = {"url": f"https://example.org/{number}", "title": f"Page {number}", "start_index": number, "end_index": 9}
    return {"type": "url_citation", "url_citation": page}
