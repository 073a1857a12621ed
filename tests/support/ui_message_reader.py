"""A reader of the AI SDK's UI message stream, as strict as the SDK: what puts its page into the error state fails here.

Written from the SDK's documentation of the protocol (version 1) and from its behaviour; `tests/browser/ai_sdk` has the
SDK itself read the same streams.
"""

from collections.abc import Iterator
from typing import Any, get_args

from tailrace import jsoncodec
from tailrace.wire.ui_messages import FinishReason

Json = dict[str, Any]

ITEM: Json = {"id": str}
CALL: Json = {"toolCallId": str, "toolName": str}
METADATA: Json = {"providerMetadata": dict}
DYNAMIC: Json = METADATA | {"dynamic": bool}

CHUNKS: dict[str, tuple[Json, Json]] = {
    "start": ({}, {"messageId": str}),
    "start-step": ({}, {}),
    "text-start": (ITEM, METADATA),
    "text-delta": (ITEM | {"delta": str}, METADATA),
    "text-end": (ITEM, METADATA),
    "reasoning-start": (ITEM, METADATA),
    "reasoning-delta": (ITEM | {"delta": str}, METADATA),
    "reasoning-end": (ITEM, METADATA),
    "tool-input-start": (CALL, DYNAMIC),
    "tool-input-delta": ({"toolCallId": str, "inputTextDelta": str}, {}),
    "tool-input-available": (CALL | {"input": object}, DYNAMIC),
    "tool-input-error": (CALL | {"input": object, "errorText": str}, DYNAMIC),
    "source-url": ({"sourceId": str, "url": str}, {"title": str}),
    "error": ({"errorText": str}, {}),
    "finish-step": ({}, {}),
    "finish": ({}, {"finishReason": str}),
}
"""The types that Tailrace may send: their required and their optional fields."""


class UiMessageReader:
    """A page's message while it reads a stream. `error` is the page's; nothing is read after it."""

    def __init__(self, message: Json | None = None) -> None:
        self.id: str | None = message["id"] if message else None
        self.parts: list[Json] = [dict(part) for part in message["parts"]] if message else []
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.chunks: list[Json] = []
        self.is_done = False
        self._texts: dict[str, Json] = {}
        self._calls: dict[str, Json] = {}

    @classmethod
    def of(cls, stream: bytes, message: Json | None = None) -> "UiMessageReader":
        """The reader of a whole stream; `message`: the page's last one, if it is the assistant's."""
        reader = cls(message)
        reader.feed(stream)
        return reader

    @property
    def types(self) -> list[str]:
        return [chunk["type"] for chunk in self.chunks]

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    def feed(self, stream: bytes) -> None:
        for chunk in self._chunks(stream):
            self.chunks.append(_checked(chunk))
            if self.error is None:
                self._read(chunk)

    def _chunks(self, stream: bytes) -> Iterator[Json]:
        *frames, rest = stream.decode().split("\n\n")
        assert rest == ""
        for frame in frames:
            assert not self.is_done, "nothing follows [DONE]"
            if frame.startswith(":"):
                continue
            assert frame.startswith("data: ")
            assert "\n" not in frame
            if frame == "data: [DONE]":
                self.is_done = True
            else:
                yield jsoncodec.loads(frame.removeprefix("data: "))

    def _read(self, chunk: Json) -> None:
        match chunk["type"]:
            case "start":
                self.id = chunk["messageId"]
            case "start-step":
                self.parts.append({"type": "step-start"})
            case "finish-step":
                self._texts.clear()
            case "finish":
                self.finish_reason = chunk["finishReason"]
            case "error":
                self.error = chunk["errorText"]
            case "source-url":
                self.parts.append(chunk)
            case kind if kind.startswith("tool-"):
                self._read_call(kind.removeprefix("tool-input-"), chunk)
            case _:
                self._read_text(chunk)

    def _read_text(self, chunk: Json) -> None:
        kind, _, what = chunk["type"].partition("-")
        if what == "start":
            metadata = {key: chunk[key] for key in METADATA.keys() & chunk.keys()}
            kept_id = {"id": chunk["id"]} if kind == "reasoning" else {}
            part = {"type": kind, **kept_id, "text": "", "state": "streaming"} | metadata
            self._texts[chunk["id"]] = part
            self.parts.append(part)
            return
        part = self._texts[chunk["id"]]  # a delta or an end of a part that is not open is an error of the page
        assert part["type"] == kind
        if what == "delta":
            part["text"] += chunk["delta"]
        else:
            part["state"] = "done"
            del self._texts[chunk["id"]]

    def _read_call(self, what: str, chunk: Json) -> None:
        call_id = chunk["toolCallId"]
        if what == "start":
            dynamic = chunk.get("dynamic", False)
            name = {"type": "dynamic-tool", "toolName": chunk["toolName"]}
            part = name if dynamic else {"type": f"tool-{chunk['toolName']}"}
            self._calls[call_id] = part | {"toolCallId": call_id, "state": "input-streaming"}
            self.parts.append(self._calls[call_id])
            return
        part = self._calls[call_id]
        if what == "delta":
            return
        assert (part["type"] == "dynamic-tool") is chunk.get("dynamic", False)
        if metadata := chunk.get("providerMetadata"):
            part["callProviderMetadata"] = metadata
        if what == "available":
            part |= {"state": "input-available", "input": chunk["input"]}
        else:
            part |= {"state": "output-error", "input": chunk["input"], "errorText": chunk["errorText"]}


def _checked(chunk: Json) -> Json:
    required, optional = CHUNKS[chunk["type"]]
    assert required.keys() <= chunk.keys() - {"type"} <= required.keys() | optional.keys()
    for name, kind in (required | optional).items():
        assert name not in chunk or isinstance(chunk[name], kind)
    if chunk["type"] == "finish":
        assert chunk["finishReason"] in get_args(FinishReason)
    for of_vendor in chunk.get("providerMetadata", {}).values():
        assert isinstance(of_vendor, dict)
    return chunk
