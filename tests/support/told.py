"""What wires told, read again: logs as cases, frames taken apart, clients that are given bytes."""

from collections.abc import Iterator
from typing import Any

import httpx2
from openai import OpenAI

from support.logs import COALESCE, RECORDS, REQUEST, done_of, log_of, record
from support.named_logs import LOGS
from support.upstreams import STREAMS
from tailrace import jsoncodec
from tailrace.events import Entry, GenerationRecord, Restarted
from tailrace.wire import Wire, openai_chat, openai_responses
from tailrace.wire.openai_response_object import Context

CASES = [f"{name}, {how}" for how in RECORDS for name in (*LOGS, *STREAMS)]


class Case:
    """One log as one head tells it: made by hand, or of an upstream's stream."""

    def __init__(self, name: str) -> None:
        self.name, how = name.split(", ")
        self.record = record(**RECORDS[how])
        if self.name in LOGS:
            self.entries = LOGS[self.name](self.record)
        else:
            self.entries = log_of(STREAMS[self.name], self.record, COALESCE[how])
        self.done = done_of(self.entries)

    @property
    def is_whole(self) -> bool:
        """Whether it ends in what every wire tells as an end."""
        return self.done.status in ("completed", "incomplete") and self.done.error is None

    @property
    def last_attempt(self) -> list[Entry]:
        """What a fresh reader gets whose wire has no word for `restarted`: what follows the last of them."""
        last = max((i for i, entry in enumerate(self.entries) if begins_anew(entry)), default=-1)
        return self.entries[last + 1 :]


def begins_anew(entry: Entry) -> bool:
    return isinstance(entry.event, Restarted)


def chunks_of(record: GenerationRecord, entries: list[Entry]) -> list[dict[str, Any]]:
    """The chat chunks, error objects among them."""
    return list(_data(b"".join(openai_chat.encode(record, entry) for entry in entries)))


def events_of(record: GenerationRecord, entries: list[Entry]) -> list[dict[str, Any]]:
    """The Responses events; what SSE calls them is what they call themselves."""
    told = b"".join(openai_responses.encode(Context(record, REQUEST), entry) for entry in entries)
    events = list(_data(told))
    names = [line.removeprefix("event: ") for line in told.decode().split("\n") if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    return events


def _data(told: bytes) -> Iterator[Any]:
    assert b"\nid:" not in told
    assert b"retry:" not in told
    for frame in told.decode().split("\n\n")[:-1]:
        data = frame.split("\n")[-1].removeprefix("data: ")
        if data != "[DONE]":
            yield jsoncodec.loads(data)


def client_given(told: bytes) -> OpenAI:
    """A strict client whose every request is answered by this stream."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=told)

    return OpenAI(
        api_key="sk-test",
        base_url="http://tailrace.test/v1",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
        max_retries=0,
        _strict_response_validation=True,
    )


def said_on(wire: Wire, record: GenerationRecord, entries: list[Entry]) -> Any:
    """A wire's bytes with adjacent pieces of one place put together, whatever frames they came in."""
    told = b"".join(wire.bind(record, REQUEST)(entry) for entry in entries).decode()
    if not wire.media_type.startswith("text/event-stream") and "json" not in wire.media_type:
        return told
    said: list[tuple[Any, str]] = []
    for frame in told.split("\n"):
        data = frame.removeprefix("data: ")
        if data.startswith("{"):
            place, text = _piece(jsoncodec.loads(data))
            if said and said[-1][0] == place:
                place, text = place, said.pop()[1] + text
            said.append((place, text))
    return said


def _piece(value: Any) -> tuple[Any, str]:
    """A frame as its place (all of it but the text and the id) and its text."""
    texts: list[str] = []

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(each) for each in value]
        if not isinstance(value, dict):
            return value
        texts.extend(str(value[key]) for key in SPOKEN & value.keys())
        return {key: key if key in SPOKEN else without(each) for key, each in value.items() if key != "id"}

    return jsoncodec.dumps(without(value)), "".join(texts)


SPOKEN = {"text", "content", "refusal", "reasoning_content", "reasoning", "arguments"}
