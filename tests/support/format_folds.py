"""What each format sends of an answer, added up by its documentation: `docs/events.md`, OpenAI's API, the AI SDK's.

Nothing of Tailrace is used. The results have the shape of `chunk_fold.fold_chunks`, as far as the format carries it.
"""

import json
from collections.abc import Iterable
from typing import Any

from support.chat_chunks import Json, choice, chunk, end
from support.chunk_fold import fold_chunks
from support.sse import Parser

DONE = "[DONE]"


def data_of(stream: bytes) -> list[Json]:
    """The JSON of each event of a stream, up to `[DONE]`."""
    return [event.value for event in Parser().feed(stream) if event.data != DONE]


def native_events(stream: bytes) -> list[tuple[str, Json]]:
    return [(event.kind, event.value) for event in Parser().feed(stream)]


def ndjson_events(stream: bytes) -> list[tuple[str, Json]]:
    lines = [json.loads(line) for line in stream.decode().split("\n")[:-1]]
    return [(line["event"], line["data"]) for line in lines]


def fold_events(events: Iterable[tuple[str, Json]]) -> Json:
    """The native events, as the chunks that mean the same, added up."""
    return fold_chunks(each for kind, data in events for each in _chunks_of(kind, data))


def _chunks_of(kind: str, data: Json) -> Iterable[Json]:
    extra = data.get("extra", {})
    fields, index = extra.get("chunk_fields", {}), data.get("choice", 0)
    call = extra.get("call", {})
    match kind:
        case "item_opened" if data["type"] == "call":
            form = "custom" if data.get("custom") else "function"
            delta = {
                "tool_calls": [{"index": data.get("tool", 0), "id": data["id"], form: {"name": data["name"]}, **call}]
            }
        case "text":
            delta = {"content": data["text"]}
        case "reasoning":
            delta = {data.get("key", "reasoning_content"): data["text"]}
        case "refusal":
            delta = {"refusal": data["text"]}
        case "tool_arguments":
            form, field = ("custom", "input") if data.get("custom") else ("function", "arguments")
            delta = {"tool_calls": [{"index": data.get("tool", 0), form: {field: data["text"]}, **call}]}
        case "done":
            yield from (end(each["finish_reason"], each["index"]) for each in data.get("finish", []))
            yield chunk(usage=data.get("usage"), error=data.get("error"), **fields)
            return
        case _:
            delta = {}
    if kind in ("text", "reasoning", "refusal", "tool_arguments", "item_opened"):
        yield chunk(choice(delta | extra.get("delta", {}), None, index, **extra.get("choice", {})), **fields)


def fold_message(completion: Json) -> Json:
    """A Chat Completion object, added up as the one chunk that it is."""
    return fold_chunks([completion | {"choices": [_as_delta(each) for each in completion["choices"]]}])


def _as_delta(each: Json) -> Json:
    message = dict(each["message"])
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [call | {"index": place} for place, call in enumerate(calls)]
    return {**each, "delta": message}


def by_index(values: Json) -> Json:
    """The sum of deltas with the elements of a list that have one `index` as one: OpenAI's way to send an element in
    pieces. Texts are joined, unless they name something."""
    return {name: _elements(value) if isinstance(value, list) else value for name, value in values.items()}


def _elements(values: list[Any]) -> list[Any]:
    summed: list[Any] = []
    for value in values:
        index = value.get("index") if isinstance(value, dict) else None
        known = next((each for each in summed if index is not None and each.get("index") == index), None)
        if known is None:
            summed.append(dict(value) if isinstance(value, dict) else value)
        else:
            for key, each in value.items():
                is_text = isinstance(each, str) and key in ("text", "data", "summary", "arguments", "output")
                known[key] = known.get(key, "") + each if is_text else each
    return summed


class ResponseFold:
    """The events of a Responses stream: items by their deltas, and the final `response`."""

    def __init__(self, events: Iterable[Json]) -> None:
        self.items: list[Json] = []
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []
        self.response: Json = {}
        for event in events:
            self._read(event["type"].removeprefix("response."), event)

    def _read(self, kind: str, event: Json) -> None:
        match kind.split("."):
            case ["output_item", "added"]:
                assert event["output_index"] == len(self.items)
                self.items.append(_empty_item(event["item"]))
            case ["content_part" | "reasoning_summary_part", "added"]:
                self.items[event["output_index"]]["type"] = PARTS[event["part"]["type"]]
            case [_, "delta"]:
                self.items[event["output_index"]]["text"] += event["delta"]
                self.logprobs += event.get("logprobs", [])
            case ["output_text", "annotation", "added"]:
                self.annotations.append(event["annotation"])
            case ["completed" | "incomplete" | "failed"]:
                self.response = event["response"]

    @property
    def output(self) -> list[Json]:
        """The items of the final `response`, in the same form."""
        return [_whole_item(item) for item in self.response["output"]]


PARTS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "reasoning", "summary_text": "reasoning"}


def _empty_item(item: Json) -> Json:
    if item["type"] in ("function_call", "custom_tool_call"):
        return {"type": "call", "id": item["call_id"], "name": item["name"], "text": ""}
    return {"type": item["type"], "text": ""}


def _whole_item(item: Json) -> Json:
    if item["type"] in ("function_call", "custom_tool_call"):
        return _empty_item(item) | {"text": item.get("arguments", item.get("input"))}
    parts: list[Json] = [*item.get("content", []), *item.get("summary", [])]
    (part,) = parts
    return {"type": PARTS[part["type"]], "text": part.get("text", part.get("refusal"))}


def as_response_items(items: Iterable[Json]) -> list[Json]:
    """The reference's items in the form of a `ResponseFold`. A call's id is unique in its choice only."""
    return [
        {"type": "call", "id": _unique_id(item), "name": item["name"], "text": item["arguments"]}
        if item["type"] == "call"
        else {"type": item["type"], "text": item["text"]}
        for item in items
    ]


def _unique_id(call: Json) -> str:
    return f"{call['id']}/{call['choice']}" if call["choice"] else str(call["id"])


def as_response_usage(usage: Json) -> Json:
    """Token counts under the names of Responses."""
    prompt, completion = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens", 0), "cache_write_tokens": prompt.get("cache_write_tokens", 0)
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens", 0)},
        "total_tokens": usage["total_tokens"],
    }  # fmt: skip


def as_ui_parts(items: Iterable[Json]) -> list[Json]:
    """The reference's items of choice 0 as the parts of a UI message; a refusal is a text. Arguments are JSON."""
    kinds = {"text": "text", "refusal": "text", "reasoning": "reasoning"}
    return [
        {"id": item["id"], "name": item["name"], "input": _json_or_text(item)}
        if item["type"] == "call"
        else {"type": kinds[item["type"]], "text": item["text"]}
        for item in items
        if item["choice"] == 0
    ]


def _json_or_text(call: Json) -> Any:
    text = call["arguments"]
    try:
        return text if call["is_custom"] else json.loads(text.strip() or "{}")
    except ValueError:
        return text


def ui_parts(parts: Iterable[Json]) -> list[Json]:
    """The parts that a page has read, in the same form; sources and steps are left out."""
    kept = []
    for part in parts:
        if part["type"] in ("text", "reasoning"):
            kept.append({"type": part["type"], "text": part["text"]})
        elif "toolCallId" in part:
            name = part.get("toolName", part["type"].removeprefix("tool-"))
            kept.append({"id": part["toolCallId"], "name": name, "input": part.get("input")})
    return [part for part in kept if part.get("text") != ""]
