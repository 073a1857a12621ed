"""Wires are pure: whoever reads, from wherever, on any node, is told the same bytes; and clients understand them.

Foreign peers judge the OpenAI wires: the openai package's own types (strictly), its SSE reader and its accumulators.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from openai import APIError, OpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from support.logs import HEADS, LOGS, caught_up, done_of, head, stored
from tailrace import json
from tailrace.events import Arguments, Delta, Entry, Head, Item, Opened, Reasoning, Refusal, Restarted, Text
from tailrace.output import Output
from tailrace.wire import WIRES, Wire, openai_chat, openai_responses

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts" / "wire"

EVENTS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])
}
"""The package's models of Responses events, by what they call themselves."""

CHUNK = TypeAdapter(ChatCompletionChunk)

WHOLE = ["completed", "incomplete"]


class Case:
    """One log as one head tells it."""

    def __init__(self, name: str, how: str) -> None:
        self.head = head(**HEADS[how])
        self.entries = LOGS[name](self.head)
        self.done = done_of(self.entries)

    @property
    def attempt(self) -> list[Entry]:
        """What a fresh reader gets whose wire has no word for `restarted`: what follows the last of them."""
        last = max((i for i, entry in enumerate(self.entries) if _begins_anew(entry)), default=-1)
        return self.entries[last + 1 :]


@pytest.fixture(params=list(HEADS))
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(LOGS))
def case(request: pytest.FixtureRequest, how: str) -> Case:
    return Case(request.param, how)


@pytest.fixture(params=list(WIRES))
def wire(request: pytest.FixtureRequest) -> Wire:
    return WIRES[request.param]


# Every wire


def test_every_cut_tells_the_same_bytes(case: Case, wire: Wire) -> None:
    told = [wire.encode(case.head, entry) for entry in case.entries]
    for cut in range(len(case.entries) + 1):
        rest = b"".join(wire.encode(case.head, entry) for entry in stored(case.entries[cut:]))
        assert b"".join(told[:cut]) + rest == b"".join(told)


def test_a_merged_catch_up_says_the_same(case: Case, wire: Wire) -> None:
    if not wire.merges:
        pytest.skip("tells one entry as one set of frames, always")
    full = _said_on(wire, case.head, case.entries)
    for cut in range(len(case.entries) + 1):
        assert _said_on(wire, case.head, case.entries[:cut] + caught_up(case.entries[cut:])) == full


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("log", ["text", "calls", "reasoning", "failed", "cancelled", "restarted", "annotations"])
def test_transcript(name: str, log: str) -> None:
    case = Case(log, "asking")
    told = b"".join(WIRES[name].encode(case.head, entry) for entry in case.entries)
    assert told == (TRANSCRIPTS / name / log).read_bytes()


def test_logs_are_dense(case: Case) -> None:
    assert case.entries[0].id.n == case.entries[0].width - 1
    assert all(after.follows(before.id) for before, after in pairwise(case.entries))
    fold = Output(case.entries[:-1], logprobs=case.head.logprobs)
    if case.done.status == "completed":
        assert fold.items() == case.done.output


# Chat Completions


def test_chat_chunks_are_valid(case: Case) -> None:
    for chunk in _chunks(case.head, case.attempt):
        if "error" not in chunk:
            CHUNK.validate_json(json.dumps(chunk), strict=True)
            assert (chunk["id"], chunk["model"]) == ("chatcmpl-abcdefghijklmnopqrstuvwxyz", "demo")
            assert chunk["created"] == case.head.created // 1000


def test_chat_ends_with_done_or_an_error(case: Case) -> None:
    told = b"".join(openai_chat.encode(case.head, entry) for entry in case.attempt)
    whole = case.done.status in WHOLE and case.done.error is None
    assert told.endswith(b"data: [DONE]\n\n") is whole
    assert (b'data: {"error":{' in told) is not whole
    assert told.count(b"[DONE]") + told.count(b'data: {"error":') == 1


def test_chat_is_understood(case: Case) -> None:
    state = ChatCompletionStreamState()
    bytes_told = b"".join(openai_chat.encode(case.head, entry) for entry in case.attempt)
    with _client(bytes_told) as client:
        stream = client.chat.completions.create(model="demo", messages=[], stream=True)
        if case.done.status not in WHOLE or case.done.error:
            with pytest.raises(APIError):
                list(map(state.handle_chunk, stream))
            return
        list(map(state.handle_chunk, stream))
    told = state.get_final_completion()
    for choice in told.choices:
        assert _said_by_peer(choice.message.to_dict()) == _said_in(case.attempt, choice.index)
        assert {choice.index: choice.finish_reason}.items() <= {
            f.index: f.finish_reason for f in case.done.finish
        }.items()
    usage = told.usage.to_dict() if told.usage else None
    estimated = bool(case.done.usage and case.done.usage.get("estimated"))
    assert usage == (case.done.usage if case.head.include_usage and not estimated else None)


def test_chat_cuts_a_live_reader_at_a_restart() -> None:
    case = Case("restarted", "plain")
    at = next(i for i, entry in enumerate(case.entries) if _begins_anew(entry))
    told = b"".join(openai_chat.encode(case.head, entry) for entry in case.entries[: at + 1])
    with _client(told) as client, pytest.raises(APIError, match="begins anew"):
        list(client.chat.completions.create(model="demo", messages=[], stream=True))


def test_chat_puts_back_what_else_a_chunk_had() -> None:
    case = Case("unknown", "plain")
    first, audio, *_, last = [chunk for chunk in _chunks(case.head, case.entries) if "choices" in chunk]
    assert first["x_vendor"] == {"id": 1}
    assert first["choices"][0]["seed"] == 7
    assert audio["choices"][0]["delta"] == {"audio": {"id": "a", "data": "AAAA"}}
    assert last["x_vendor"] == {"id": 3}


def test_chat_gives_a_signature_back_with_its_call() -> None:
    case = Case("call-alone", "plain")
    call = _chunks(case.head, case.entries)[0]["choices"][0]["delta"]["tool_calls"][0]
    assert call["extra_content"] == {"google": {"thought_signature": "c2lnbmVk"}}


# Responses


def test_responses_tell_as_many_frames_as_an_entry_is_wide(case: Case) -> None:
    for entry in case.entries:
        numbers = [event["sequence_number"] for event in _events(openai_responses.encode(case.head, entry))]
        assert numbers == list(range(entry.id.n - entry.width + 1, entry.id.n + 1))


def test_responses_frames_are_valid(case: Case) -> None:
    for event in _told(case):
        EVENTS[event["type"]].model_validate_json(json.dumps(event), strict=True)


def test_responses_after_every_number(case: Case) -> None:
    full = b"".join(openai_responses.encode(case.head, entry) for entry in case.entries)
    frames = full.removesuffix(openai_responses.END).split(b"\n\n")[:-1]
    for after in range(-1, len(frames) + 1):
        rest = b"".join(openai_responses.encode_after(case.head, entry, after) for entry in stored(case.entries))
        assert b"".join(frame + b"\n\n" for frame in frames[: after + 1]) + rest == full


def test_responses_are_understood(case: Case) -> None:
    told = b"".join(openai_responses.encode(case.head, entry) for entry in case.entries)
    seen = []
    with _client(told) as client, client.responses.stream(model="demo", input=[]) as stream:
        if case.done.status == "failed":
            with pytest.raises(APIError, match=case.done.error.message if case.done.error else ""):
                seen += list(stream)
            return
        seen += list(stream)
        if case.done.status == "completed":
            assert stream.get_final_response().status == "completed"
    response = seen[-1].response
    assert response.status == case.done.status
    assert len(response.output) == len(case.done.output)
    for item, said in zip(response.output, case.done.output, strict=True):
        assert _said_by_item(item) == (said.text if said.type != "call" else said.arguments)
        assert item.status == (said.status or "completed")


def test_responses_say_what_they_announced(case: Case) -> None:
    """Ids stay, indexes are dense, every item is closed once and told whole at the end, unless discarded or failed."""
    added, closed, said, events = {}, {}, {}, _told(case)
    for event in events:
        match event["type"].split("."):
            case [_, "output_item", "added"]:
                assert event["output_index"] == len(added)
                added[event["output_index"]] = event["item"]
            case [_, "output_item", "done"]:
                assert event["output_index"] not in closed
                closed[event["output_index"]] = event["item"]
            case [*_, "delta"]:
                assert event["item_id"] == added[event["output_index"]]["id"]
                said[event["output_index"]] = said.get(event["output_index"], "") + event["delta"]
            case [*_, "done"] if full := {"text", "refusal", "arguments"} & event.keys():
                assert event[full.pop()] == said.get(event["output_index"], "")
    for index, item in closed.items():
        assert (item["id"], item["type"]) == (added[index]["id"], added[index]["type"])
    final = events[-1]["response"]
    assert final["usage"] is not None
    if case.done.status != "failed":
        assert closed.keys() == added.keys()
        assert all(item in closed.values() for item in final["output"])


@pytest.mark.parametrize(
    ("log", "last", "status", "details"),
    [
        ("text", "response.completed", "completed", None),
        ("length", "response.incomplete", "incomplete", {"reason": "max_output_tokens"}),
        ("filtered", "response.incomplete", "incomplete", {"reason": "content_filter"}),
        ("truncated", "response.incomplete", "incomplete", None),
        ("cancelled", "response.incomplete", "cancelled", None),
        ("failed", "response.failed", "failed", None),
    ],
)
def test_responses_end(log: str, last: str, status: str, details: Any) -> None:
    event = _told(Case(log, "plain"))[-1]
    assert event["type"] == last
    response = event["response"]
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert (response["completed_at"] is None) is (status != "completed")


def test_responses_tell_an_error_to_every_parser() -> None:
    error, failed = _told(Case("failed", "plain"))[-2:]
    told = {"code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    assert error.items() >= (told | {"type": "error"}).items()
    assert error["error"] == told | {"type": "requests"}
    assert failed["response"]["error"] == told | {"type": "requests"}
    other = _told(Case("failed-at-once", "plain"))[-1]["response"]["error"]
    assert (other["code"], other["type"]) == ("server_error", "invalid_request_error")


def test_responses_echo_the_request() -> None:
    schema = {"type": "object", "properties": {}}
    asked = {
        "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        "max_tokens": 9,
        "reasoning_effort": "low",
        "temperature": 0,
        "metadata": None,
    }
    response = openai_responses.response(head(request=asked, reasoning_summary=True), "in_progress")
    tool = {"type": "function", "name": "f", "description": None, "parameters": None, "strict": True}
    assert response["tools"] == [tool]
    assert response["tool_choice"] == {"type": "function", "name": "f"}
    assert response["text"] == {"format": {"type": "json_schema", "name": "s", "schema": schema}}
    assert response["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (response["max_output_tokens"], response["temperature"], response["metadata"]) == (9, 0, {})


def test_a_request_that_is_nonsense_is_still_told() -> None:
    asked = {"tools": "all", "tool_choice": {"type": 3}, "response_format": [], "metadata": 4}
    assert openai_responses.response(head(request=asked), "in_progress")["tools"] == []


# How these tests read


def _chunks(head: Head, entries: list[Entry]) -> list[dict[str, Any]]:
    return list(_data(b"".join(openai_chat.encode(head, entry) for entry in entries)))


def _told(case: Case) -> list[dict[str, Any]]:
    return _events(b"".join(openai_responses.encode(case.head, entry) for entry in case.entries))


def _events(told: bytes) -> list[dict[str, Any]]:
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
            yield json.loads(data)


def _client(told: bytes) -> OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=told)

    return OpenAI(
        api_key="sk-test",
        base_url="http://tailrace.test/v1",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
        max_retries=0,
        _strict_response_validation=True,
    )


def _begins_anew(entry: Entry) -> bool:
    return isinstance(entry.event, Restarted) and not entry.event.keep


def _said_in(entries: list[Entry], choice: int) -> dict[Any, str]:
    """What the events say in a choice, by the chat wire's names."""
    said: dict[Any, str] = {}
    for entry in entries:
        match entry.event:
            case Text(text=text, choice=c) if c == choice:
                key: Any = "content"
            case Refusal(text=text, choice=c) if c == choice:
                key = "refusal"
            case Reasoning(text=text, choice=c, key=name) if c == choice:
                key = name
            case Arguments(text=text, choice=c, tool=tool) if c == choice:
                key = tool
            case Opened(type="call", choice=c, tool=tool, id=call, name=name) if c == choice:
                said[tool, "call"], key, text = f"{call} {name}", tool, ""
            case _:
                continue
        said[key] = said.get(key, "") + text
    return {key: text for key, text in said.items() if text or isinstance(key, int)}


def _said_by_peer(message: dict[str, Any]) -> dict[Any, str]:
    said: dict[Any, str] = {
        key: message[key] for key in ("content", "refusal", "reasoning", "reasoning_content") if message.get(key)
    }
    for tool, call in enumerate(message.get("tool_calls") or []):
        said[tool] = call["function"]["arguments"]
        said[tool, "call"] = f"{call['id']} {call['function']['name']}"
    return said


def _said_by_item(item: Any) -> str:
    match item.type:
        case "message":
            part = item.content[0]
            return str(part.text if part.type == "output_text" else part.refusal)
        case "reasoning":
            return str((item.summary or item.content)[0].text)
    return str(item.arguments)


def _said_on(wire: Wire, head: Head, entries: list[Entry]) -> Any:
    """A wire's bytes with adjacent pieces of one place put together, whatever frames they came in."""
    told = b"".join(wire.encode(head, entry) for entry in entries).decode()
    if not wire.media_type.startswith("text/event-stream") and "json" not in wire.media_type:
        return told
    said: list[tuple[Any, str]] = []
    for frame in told.split("\n"):
        data = frame.removeprefix("data: ")
        if data.startswith("{"):
            place, text = _piece(json.loads(data))
            if said and said[-1][0] == place:
                place, text = place, said.pop()[1] + text
            said.append((place, text))
    return said


def _piece(value: Any, path: tuple[Any, ...] = ()) -> tuple[Any, str]:
    """A frame as its place (all of it but the text and the id) and its text."""
    texts: list[str] = []

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(each) for each in value]
        if not isinstance(value, dict):
            return value
        texts.extend(str(value[key]) for key in SPOKEN & value.keys())
        return {key: key if key in SPOKEN else without(each) for key, each in value.items() if key != "id"}

    return json.dumps(without(value)), "".join(texts)


SPOKEN = {"text", "content", "refusal", "reasoning_content", "reasoning", "arguments"}
