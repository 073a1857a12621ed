"""The events of Responses for the steps of an answer, which are written in deltas of Chat Completions."""

import itertools
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from tailrace_demo.chunks import Envelope, encode_json
from tailrace_demo.completion import objects_in

TEXTS = {
    "content": ("message", "output_text", "text"),
    "refusal": ("message", "refusal", "refusal"),
    "reasoning_content": ("reasoning", "reasoning_text", "text"),
}
"""A delta's field → the type of the item, that of its part (and of the events), and the part's field of the text."""

REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons with which a Response is incomplete."""


def frame(event: Mapping[str, Any]) -> bytes:
    """An event of Responses; an object without a type is data alone."""
    data = b"data: %b\n\n" % encode_json(event)
    return b"event: %b\n%b" % (event["type"].encode(), data) if "type" in event else data


def folded(frames: bytes) -> dict[str, Any]:
    """The Response of the last event that has one."""
    response: dict[str, Any] = [event["response"] for event in objects_in(frames) if "response" in event][-1]
    return response


class ResponseEnvelope(Envelope):
    """The Response of one answer, and its events. Choices behind the first have no place in it."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._response: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": model,
            "output": [],
        }
        self._numbers = itertools.count()
        self._has_begun = False
        self._item: dict[str, Any] = {}  # the one that is open
        self._key: Any = None  # what it is of: a field of the deltas, or a call's index
        self._reason: str | None = None

    def delta(self, delta: Mapping[str, Any], choice: int = 0, finish_reason: str | None = None) -> bytes:
        return b"" if choice else b"".join(self._events(delta, finish_reason))

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        self._response["usage"] = {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": usage["completion_tokens_details"],
            "total_tokens": usage["total_tokens"],
        }
        return b""

    def done(self) -> bytes:
        """The event that ends the answer; Responses have no `[DONE]`."""
        reason = REASONS.get(self._reason or "")
        self._response["status"] = "incomplete" if reason else "completed"
        self._response["incomplete_details"] = {"reason": reason} if reason else None
        return b"".join([*self._close(), self._event(self._response["status"], response=self._response)])

    def folded(self, frames: bytes) -> dict[str, Any]:
        return folded(frames)

    def _events(self, delta: Mapping[str, Any], finish_reason: str | None) -> Iterator[bytes]:
        if not self._has_begun:
            self._has_begun = True
            yield self._event("created", response=self._response)
            yield self._event("in_progress", response=self._response)
        for field in TEXTS:
            if text := delta.get(field):
                yield from self._text(field, text)
        for call in delta.get("tool_calls", ()):
            yield from self._call(call)
        if finish_reason:
            self._reason = finish_reason
            yield from self._close()

    def _text(self, field: str, text: str) -> Iterator[bytes]:
        kind, part_type, name = TEXTS[field]
        if self._key != field:
            part: dict[str, Any] = {"type": part_type, name: ""} | ({"annotations": []} if field == "content" else {})
            own: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
            yield from self._open(field, {"type": kind, **own, "content": []})
            self._item["content"].append(part)
            yield self._item_event("content_part.added", content_index=0, part=part)
        self._item["content"][0][name] += text
        yield self._item_event(f"{part_type}.delta", content_index=0, delta=text)

    def _call(self, call: Mapping[str, Any]) -> Iterator[bytes]:
        function = call.get("function", {})
        if self._key != call["index"]:
            item = {"type": "function_call", "call_id": call["id"], "name": function["name"], "arguments": ""}
            yield from self._open(call["index"], item)
        if arguments := function.get("arguments"):
            self._item["arguments"] += arguments
            yield self._item_event("function_call_arguments.delta", delta=arguments)

    def _open(self, key: Any, item: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        self._key, self._item = key, {"id": f"item_{uuid.uuid4().hex}", "status": "in_progress", **item}
        self._response["output"].append(self._item)
        yield self._event("output_item.added", output_index=self._index, item=self._item)

    def _close(self) -> Iterator[bytes]:
        if not self._item:
            return
        for part in self._item.get("content", ()):
            _, part_type, name = TEXTS[self._key]
            yield self._item_event(f"{part_type}.done", content_index=0, **{name: part[name]})
            yield self._item_event("content_part.done", content_index=0, part=part)
        if "arguments" in self._item:
            yield self._item_event("function_call_arguments.done", arguments=self._item["arguments"])
        self._item["status"] = "incomplete" if self._reason in REASONS else "completed"
        yield self._event("output_item.done", output_index=self._index, item=self._item)
        self._item, self._key = {}, None

    @property
    def _index(self) -> int:
        return len(self._response["output"]) - 1

    def _item_event(self, name: str, **fields: Any) -> bytes:
        return self._event(name, item_id=self._item["id"], output_index=self._index, **fields)

    def _event(self, name: str, **fields: Any) -> bytes:
        return frame({"type": f"response.{name}", "sequence_number": next(self._numbers), **fields})
