"""Parsing of what wire formats send: logs as cases, frames as JSON, the OpenAI client on given bytes."""

from collections.abc import Iterator
from typing import Any

import httpx2
from openai import OpenAI

from support.chat_streams import STREAMS
from support.for_each import for_each
from support.logs import COALESCE, RECORDS, REQUEST, done_of, log_of, record
from support.named_logs import LOGS
from support.responses_streams import STREAMS as RESPONSES_STREAMS
from tailrace import jsoncodec
from tailrace.events import Entry, GenerationRecord, Restarted
from tailrace.wire import WireFormat, openai_chat, openai_responses
from tailrace.wire.openai_response_object import Context
from tailrace_worker.upstream.responses.translator import ResponsesTranslator

OF_RESPONSES = {
    f"responses_{name}": RESPONSES_STREAMS[name]
    for name in (
        "annotations", "encrypted_summary", "failed", "hosted_tools", "interleaved_calls", "logprobs",
        "overtaken_message", "summary", "text_then_refusal", "truncated", "unknown_fields",
    )
}  # fmt: skip
"""Logs of Responses upstreams, whose items have parts."""

CASES = [f"{name}, {how}" for how in RECORDS for name in (*LOGS, *STREAMS, *OF_RESPONSES)]


class Case:
    """A log and the record under which it is encoded: built by hand, or from an upstream's stream."""

    def __init__(self, name: str) -> None:
        self.name, how = name.split(", ")
        self.record = record(**RECORDS[how])
        if self.name in LOGS:
            self.entries = LOGS[self.name](self.record)
        elif self.name in OF_RESPONSES:
            self.entries = log_of(OF_RESPONSES[self.name], self.record, COALESCE[how], ResponsesTranslator)
        else:
            self.entries = log_of(STREAMS[self.name], self.record, COALESCE[how])
        self.done = done_of(self.entries)

    @property
    def is_whole(self) -> bool:
        """Whether every format shows it as a regular end."""
        return self.done.status in ("completed", "incomplete") and self.done.error is None

    @property
    def last_attempt(self) -> list[Entry]:
        """The entries after the last restart: a fresh reader's share in a format that cannot express `restarted`."""
        last = max((i for i, entry in enumerate(self.entries) if is_restart(entry)), default=-1)
        return self.entries[last + 1 :]


each_case = for_each("case", CASES, Case)
"""Runs a test for every case."""


def is_restart(entry: Entry) -> bool:
    return isinstance(entry.event, Restarted)


def encoded(wire: WireFormat, record: GenerationRecord, entries: list[Entry]) -> bytes:
    """The entries' frames; an entry that aborts the connection has none."""
    encode = wire.bind(record, REQUEST)
    return b"".join(encode(entry) or b"" for entry in entries)


def chunks_of(record: GenerationRecord, entries: list[Entry]) -> list[dict[str, Any]]:
    """The chat chunks, error objects among them."""
    return list(_data(b"".join(openai_chat.encode(record, entry) for entry in entries)))


def events_of(record: GenerationRecord, entries: list[Entry]) -> list[dict[str, Any]]:
    """The Responses events; each has the same name in its SSE field and in its type."""
    frames = b"".join(openai_responses.encode(Context.of(record, REQUEST), entry) for entry in entries)
    events = list(_data(frames))
    names = [line.removeprefix("event: ") for line in frames.decode().split("\n") if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    return events


def _data(frames: bytes) -> Iterator[Any]:
    assert b"\nid:" not in frames
    assert b"retry:" not in frames
    for frame in frames.decode().split("\n\n")[:-1]:
        data = frame.split("\n")[-1].removeprefix("data: ")
        if data != "[DONE]":
            yield jsoncodec.loads(data)


def client_receiving(stream: bytes) -> OpenAI:
    """A strict client that receives this stream in answer to every request."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return OpenAI(
        api_key="sk-test",
        base_url="http://tailrace.test/v1",
        http_client=httpx2.Client(transport=httpx2.MockTransport(respond)),
        max_retries=0,
        _strict_response_validation=True,
    )


def content_of(wire: WireFormat, record: GenerationRecord, entries: list[Entry]) -> Any:
    """A format's frames with adjacent texts of one place joined, so that the division into frames does not matter."""
    frames = encoded(wire, record, entries).decode()
    if wire.media_type == "text/plain":
        return frames
    content: list[tuple[Any, str]] = []
    for line in frames.split("\n"):
        data = line.removeprefix("data: ")
        if data.startswith("{"):
            place, text = _place_and_text(jsoncodec.loads(data))
            if content and content[-1][0] == place:
                text = content.pop()[1] + text
            content.append((place, text))
    return content


def _place_and_text(value: Any) -> tuple[Any, str]:
    """A frame without its text and its place in the log, and the text."""
    texts: list[str] = []

    def without_text(value: Any) -> Any:
        if isinstance(value, list):
            return [without_text(each) for each in value]
        if not isinstance(value, dict):
            return value
        found = {key for key in TEXT_FIELDS & value.keys() if isinstance(value[key], str)}
        texts.extend(value[key] for key in found)
        kept = {key: each for key, each in value.items() if key not in PLACES}
        return {key: key if key in found else without_text(each) for key, each in kept.items()}

    return jsoncodec.dumps(without_text(value)), "".join(texts)


PLACES = {"id", "sequence_number"}

TEXT_FIELDS = {
    "text", "content", "refusal", "reasoning_content", "reasoning", "arguments", "delta", "inputTextDelta",
}  # fmt: skip
