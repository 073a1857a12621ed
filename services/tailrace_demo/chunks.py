"""Chat chunks as server-sent event frames.

The fields that all chunks of one answer share are encoded once, so a token costs one concatenation.
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from tailrace_demo.completion import completion

DONE = b"data: [DONE]\n\n"

encode_json = msgspec.json.Encoder().encode


class Envelope:
    """The id, creation time and model of every chunk of one answer."""

    def __init__(self, model: str) -> None:
        self.fields: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._opening = b"data: " + encode_json(self.fields)[:-1]

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        return b"data: " + encode_json({**self.fields, **chunk}) + b"\n\n"

    def delta(self, delta: Mapping[str, Any], choice: int = 0, finish_reason: str | None = None) -> bytes:
        fragment = {"index": choice, "delta": delta, "finish_reason": finish_reason}
        return b'%b,"choices":[%b]}\n\n' % (self._opening, encode_json(fragment))

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        return b'%b,"choices":[],"usage":%b}\n\n' % (self._opening, encode_json(usage))

    def done(self) -> bytes:
        return DONE

    def folded(self, frames: bytes) -> dict[str, Any]:
        """The answer to the same request without `stream`, from these frames."""
        return completion(frames)

    def around_content(self, choice: int) -> tuple[bytes, bytes]:
        """The frame of a content delta, split where the JSON-escaped text belongs."""
        before, after = self.delta({"content": "\0"}, choice).split(rb"\u0000")
        return before, after
