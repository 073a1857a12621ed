"""The OpenAI formats, judged by the openai package (its types, strictly; its SSE reader; its accumulators), and by an
oracle that adds up chunks, both the upstreams' and ours.
"""

from random import Random
from typing import Any, cast, get_args

import pytest
from openai import APIError
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from support.chat_streams import STREAMS
from support.chunk_fold import fold_chunks
from support.for_each import for_each
from support.logs import COALESCE, REQUEST, done_of, log_of, record, stored
from support.named_logs import AUDIO
from support.random_streams import random_stream
from support.wire_parsing import Case, chunks_of, client_receiving, each_case, events_of, is_restart
from tailrace import jsoncodec
from tailrace.events import Entry, GenerationRecord, ItemOpened, Reasoning, Refusal, Text, ToolArguments
from tailrace.wire import openai_chat, openai_responses, sse
from tailrace.wire import openai_response_object as response_object
from tailrace.wire.openai_response_object import Context

EVENTS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])
}
"""The package's models of Responses events, by type."""

CHUNK = TypeAdapter(ChatCompletionChunk)

UNTYPED = {"custom-calls", "openai_custom_call", "openai_moderation", "openrouter_error"}
"""Streams in which the upstream itself sends fields that the package has no type for."""

UNSUMMED = {"annotations-again", "openai_search", "openrouter_encrypted_reasoning"}
"""Answers with a second list of objects without `index`, which the package cannot add up from any sender."""


# Chat Completions


@each_case
def test_chat_chunks_are_valid(case: Case) -> None:
    if case.name in UNTYPED:
        return
    for chunk in chunks_of(case.record, case.last_attempt):
        if "error" not in chunk:
            CHUNK.validate_json(jsoncodec.dumps(chunk), strict=True)
            assert (chunk["id"], chunk["model"]) == ("chatcmpl-abcdefghijklmnopqrstuvwxyz", "demo")
            assert chunk["created"] == case.record.created // 1000


@pytest.mark.parametrize("name", sorted((UNTYPED | UNSUMMED) & STREAMS.keys()))
def test_chat_that_the_package_cannot_read_is_unreadable_from_the_upstream_too(name: str) -> None:
    stream = b"".join(b"data: %b\n\n" % jsoncodec.dumps(chunk) for chunk in STREAMS[name])
    state = ChatCompletionStreamState()
    with client_receiving(stream) as client, pytest.raises((APIError, RuntimeError)):
        list(map(state.handle_chunk, client.chat.completions.create(model="demo", messages=[], stream=True)))


@each_case
def test_chat_ends_with_done_or_an_error(case: Case) -> None:
    stream = b"".join(openai_chat.encode(case.record, entry) for entry in case.last_attempt)
    assert stream.endswith(b"data: [DONE]\n\n") is case.is_whole
    assert (b'data: {"error":{' in stream) is not case.is_whole
    assert stream.count(b"[DONE]") + stream.count(b'data: {"error":') == 1


@each_case
def test_chat_is_accumulated_by_the_package(case: Case) -> None:
    if case.name in UNTYPED | UNSUMMED:
        return
    state = ChatCompletionStreamState()
    sent = b"".join(openai_chat.encode(case.record, entry) for entry in case.last_attempt)
    with client_receiving(sent) as client:
        stream = client.chat.completions.create(model="demo", messages=[], stream=True)
        if not case.is_whole:
            with pytest.raises(APIError):
                list(map(state.handle_chunk, stream))
            return
        list(map(state.handle_chunk, stream))
    snapshot = state.current_completion_snapshot
    for choice in snapshot.choices:
        assert _content_of_message(choice.message.to_dict()) == _content_of_choice(case.last_attempt, choice.index)
        assert {choice.index: choice.finish_reason}.items() <= {
            f.index: f.finish_reason for f in case.done.finish
        }.items()
    usage = snapshot.usage.to_dict() if snapshot.usage else None
    estimated = bool(case.done.usage and case.done.usage.get("estimated"))
    assert usage == (case.done.usage if case.record.include_usage and not estimated else None)


def test_chat_ends_a_live_stream_with_an_error_at_a_restart() -> None:
    case = Case("restarted, plain")
    at = next(i for i, entry in enumerate(case.entries) if is_restart(entry))
    stream = b"".join(openai_chat.encode(case.record, entry) for entry in case.entries[: at + 1])
    with client_receiving(stream) as client, pytest.raises(APIError, match="has restarted"):
        list(client.chat.completions.create(model="demo", messages=[], stream=True))


def test_chat_puts_other_fields_of_a_chunk_back() -> None:
    case = Case("unknown, plain")
    first, audio, *_, last = [chunk for chunk in chunks_of(case.record, case.entries) if "choices" in chunk]
    assert first["x_vendor"] == {"id": 1}
    assert first["choices"][0]["seed"] == 7
    assert audio["choices"][0]["delta"] == {"audio": AUDIO}
    assert last["x_vendor"] == {"id": 3}


def test_chat_puts_a_signature_back_on_its_call() -> None:
    case = Case("call-alone, plain")
    call = chunks_of(case.record, case.entries)[0]["choices"][0]["delta"]["tool_calls"][0]
    assert call["extra_content"] == {"google": {"thought_signature": "c2lnbmVk"}}


@pytest.mark.parametrize("merge", COALESCE.values())
@pytest.mark.parametrize("name", STREAMS)
def test_chat_adds_up_to_the_upstreams_answer(name: str, merge: int) -> None:
    _assert_adds_up(STREAMS[name], merge)


@for_each("seed", range(300))
def test_formats_carry_random_streams(seed: int) -> None:
    asking, stream = record(logprobs=True), random_stream(Random(seed))
    logs = [_assert_adds_up(stream, merge) for merge in COALESCE.values()]
    entries = logs[seed % len(logs)]
    _assert_accumulated(asking, entries)
    for entry in entries:
        _assert_frames(asking, entry)


def _assert_frames(asking: GenerationRecord, entry: Entry) -> None:
    """The frames are valid, and as many as the entry's span."""
    events = events_of(asking, [entry])
    first = entry.id.seq - entry.seq_span + 1
    assert [event["sequence_number"] for event in events] == list(range(first, entry.id.seq + 1))
    for event in events:
        EVENTS[event["type"]].model_validate_json(jsoncodec.dumps(event), strict=True)


def _assert_adds_up(stream: list[dict[str, Any]], merge: int) -> list[Entry]:
    asking = record(include_usage=True, logprobs=True)
    entries = log_of(stream, asking, merge)
    received, sent = fold_chunks(stream), fold_chunks(chunks_of(asking, entries))
    assert bool(sent.pop("error")) is bool(received.pop("error") or done_of(entries).error)
    assert sent == received
    return entries


# Responses


@each_case
def test_responses_frames_are_valid_and_numbered(case: Case) -> None:
    for entry in case.entries:
        _assert_frames(case.record, entry)


@each_case
def test_responses_sequence_numbers_are_dense_over_the_whole_log(case: Case) -> None:
    events = events_of(case.record, case.entries)
    assert [event["sequence_number"] for event in events] == list(range(case.entries[-1].id.seq + 1))


@each_case
def test_responses_of_a_stored_log_are_the_same_bytes(case: Case) -> None:
    fresh, read = (
        b"".join(openai_responses.encode(Context.of(case.record, REQUEST), entry) for entry in entries)
        for entries in (case.entries, stored(case.entries))
    )
    assert read == fresh
    assert fresh.endswith(sse.END)


@each_case
def test_responses_are_accumulated_by_the_package(case: Case) -> None:
    _assert_accumulated(case.record, case.entries)


def _assert_accumulated(asking: GenerationRecord, entries: list[Entry]) -> None:
    """The package adds it up without an error, and its final response equals ours."""
    done, seen = done_of(entries), []
    sent = b"".join(openai_responses.encode(Context.of(asking, REQUEST), entry) for entry in entries)
    with client_receiving(sent) as client, client.responses.stream(model="demo", input=[]) as stream:
        if done.status == "failed":
            with pytest.raises(APIError, match=done.error.message if done.error else ""):
                seen += list(stream)
            return
        seen += list(stream)
        if done.status == "completed":
            assert stream.get_final_response().status == "completed"
    response = cast("Any", seen[-1]).response
    assert response.status == done.status
    indexes = list(dict.fromkeys(item.index for item in done.output))
    assert len(response.output) == len(indexes)
    for item, index in zip(response.output, sorted(indexes), strict=True):
        parts = [part for part in done.output if part.index == index and part.type != "other"]
        if parts:
            assert _content_of_item(item) == [part.arguments or part.text or "" for part in parts]
            assert item.status == (parts[-1].status or "completed")


def _part_of(event: dict[str, Any]) -> tuple[int, int]:
    return event["output_index"], event.get("content_index", event.get("summary_index", 0))


@each_case
def test_responses_send_every_item_that_they_announce(case: Case) -> None:
    """Ids are stable, indexes dense; every item is closed once and is whole at the end, unless discarded or failed."""
    added: dict[int, Any] = {}
    closed: dict[int, Any] = {}
    texts: dict[tuple[int, int], str] = {}
    events = _events(case)
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
                texts[_part_of(event)] = texts.get(_part_of(event), "") + event["delta"]
            case [*_, "done"] if full := {"text", "refusal", "arguments", "input"} & event.keys():
                assert event[full.pop()] == texts.get(_part_of(event), "")
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
def test_responses_end_in_the_status(log: str, last: str, status: str, details: Any) -> None:
    event = _events(Case(f"{log}, plain"))[-1]
    assert event["type"] == last
    response = event["response"]
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert (response["completed_at"] is None) is (status != "completed")


def test_responses_send_an_error_that_every_parser_reads() -> None:
    error, failed = _events(Case("failed, plain"))[-2:]
    fields = {"code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    assert error.items() >= (fields | {"type": "error"}).items()
    assert error["error"] == fields | {"type": "requests"}
    assert failed["response"]["error"] == fields | {"type": "requests"}
    other = _events(Case("failed-at-once, plain"))[-1]["response"]["error"]
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
    response = response_object.response(Context.of(record(reasoning_summary=True), asked), "in_progress")
    tool = {"type": "function", "name": "f", "description": None, "parameters": None, "strict": True}
    assert response["tools"] == [tool]
    assert response["tool_choice"] == {"type": "function", "name": "f"}
    form = {"type": "json_schema", "name": "s", "description": None, "schema": schema, "strict": False}
    assert response["text"] == {"format": form}
    assert response["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (response["max_output_tokens"], response["temperature"], response["metadata"]) == (9, 0, {})


def test_responses_echo_a_malformed_request() -> None:
    asked = {"tools": "all", "tool_choice": {"type": 3}, "response_format": [], "metadata": 4}
    assert response_object.response(Context.of(record(), asked), "in_progress")["tools"] == []


def _content_of_choice(entries: list[Entry], choice: int) -> dict[Any, str]:
    """The texts of a choice in the events, by the chat format's names."""
    content: dict[Any, str] = {}
    for entry in entries:
        match entry.event:
            case Text(text=text, choice=c) if c == choice:
                key: Any = "content"
            case Refusal(text=text, choice=c) if c == choice:
                key = "refusal"
            case Reasoning(text=text, choice=c, key=name) if c == choice:
                key = name
            case ToolArguments(text=text, choice=c, tool=tool) if c == choice:
                key = tool
            case ItemOpened(type="reasoning", choice=c, further=True) if c == choice:
                key, text = "reasoning_content", openai_chat.PARAGRAPH
            case ItemOpened(type="call", choice=c, tool=tool, id=call, name=name) if c == choice:
                content[tool, "call"], key, text = f"{call} {name}", tool, ""
            case _:
                continue
        content[key] = content.get(key, "") + text
    return {key: text for key, text in content.items() if text or isinstance(key, int)}


def _content_of_message(message: dict[str, Any]) -> dict[Any, str]:
    content: dict[Any, str] = {
        key: message[key] for key in ("content", "refusal", "reasoning", "reasoning_content") if message.get(key)
    }
    for tool, call in enumerate(message.get("tool_calls") or []):
        content[tool] = call["function"]["arguments"]
        content[tool, "call"] = f"{call['id']} {call['function']['name']}"
    return content


def _content_of_item(item: Any) -> list[str]:
    """The texts of an item's parts."""
    match item.type:
        case "message":
            return [str(part.text if part.type == "output_text" else part.refusal) for part in item.content]
        case "reasoning":
            return [str(part.text) for part in (*item.summary, *(item.content or ()))]
    return [str(item.input if item.type == "custom_tool_call" else item.arguments)]


def _events(case: Case) -> list[dict[str, Any]]:
    return events_of(case.record, case.entries)
