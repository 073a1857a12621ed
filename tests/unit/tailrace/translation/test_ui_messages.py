"""UI messages as chat messages: what a page sends back, in every state that its parts can have."""

import base64
from typing import Any

import pytest

from support.logs import REQUEST, record
from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Item, Json
from tailrace.translation import chat_request
from tailrace.wire import ui_message_object

STEP: Json = {"type": "step-start"}
CALL: Json = {"type": "tool-search", "toolCallId": "c1", "input": {"q": 1}}


def text(value: str, **more: Any) -> Json:
    return {"type": "text", "text": value, **more}


def file(media_type: str, url: str, **more: Any) -> Json:
    return {"type": "file", "mediaType": media_type, "url": url, **more}


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def translated(role: str, *parts: Json) -> list[Json]:
    messages = [{"id": "m", "role": role, "parts": list(parts)}]
    chat: list[Json] = chat_request("ui-messages", {"model": "demo", "messages": messages})["messages"]
    return chat


def call_of(message: Json) -> Json:
    (call,) = message["tool_calls"]
    return dict(call)


def test_body_keeps_every_field_but_those_of_the_chat() -> None:
    body = {"id": "chat", "trigger": "submit-message", "messageId": "m", "model": "demo", "temperature": 0, "x": [1]}
    chat = chat_request("ui-messages", body | {"messages": [{"role": "user", "parts": [text("?")]}]})
    assert chat == {"model": "demo", "temperature": 0, "x": [1], "messages": [{"role": "user", "content": "?"}]}


@pytest.mark.parametrize("n", [None, 1])
def test_body_may_ask_for_one_answer(n: int | None) -> None:
    assert chat_request("ui-messages", {"messages": [], "n": n})["n"] == n


@pytest.mark.parametrize("n", [0, 2, "1", [1]])
def test_body_that_asks_for_several_answers_is_refused(n: Any) -> None:
    with pytest.raises(UnsupportedParameter) as error:
        chat_request("ui-messages", {"messages": [], "n": n})
    assert error.value.param == "n"


# System and user


def test_system_message_is_its_texts_as_one() -> None:
    assert translated("system", text("Be "), text("brief.")) == [{"role": "system", "content": "Be brief."}]


def test_user_message_of_one_text_is_a_string() -> None:
    assert translated("user", text("Hello?")) == [{"role": "user", "content": "Hello?"}]
    assert translated("user", {"type": "data-place", "data": 1}, text("Hello?"))[0]["content"] == "Hello?"
    assert translated("user") == [{"role": "user", "content": ""}]


def test_user_message_of_several_parts_keeps_their_order() -> None:
    (message,) = translated("user", file("image/png", "https://example.org/a.png"), text("What?"), text("Where?"))
    assert [part["type"] for part in message["content"]] == ["image_url", "text", "text"]


@pytest.mark.parametrize("url", ["https://example.org/a.png", data_url("image/png", b"\x89PNG")])
def test_image_is_sent_by_its_url(url: str) -> None:
    (message,) = translated("user", file("image/png", url))
    assert message["content"] == [{"type": "image_url", "image_url": {"url": url}}]


@pytest.mark.parametrize(
    ("media_type", "name"),
    [("audio/mpeg", "mp3"), ("audio/wav", "wav"), ("audio/x-wav", "wav"), ("audio/flac", "flac")],
)
def test_audio_is_sent_as_its_data_and_format(media_type: str, name: str) -> None:
    (message,) = translated("user", file(media_type, data_url(media_type, b"sound")))
    audio = {"data": base64.b64encode(b"sound").decode(), "format": name}
    assert message["content"] == [{"type": "input_audio", "input_audio": audio}]


@pytest.mark.parametrize("url", [data_url("text/csv", "a;ö\n".encode()), "data:text/csv,a;%C3%B6%0A"])
def test_text_file_is_sent_as_text(url: str) -> None:
    (message,) = translated("user", file("text/csv", url), text("Sum?"))
    assert message["content"] == [{"type": "text", "text": "a;ö\n"}, {"type": "text", "text": "Sum?"}]


def test_other_file_is_sent_under_its_name() -> None:
    url = data_url("application/pdf", b"%PDF")
    (message,) = translated("user", file("application/pdf", url, filename="a.pdf"))
    assert message["content"] == [{"type": "file", "file": {"filename": "a.pdf", "file_data": url}}]
    (message,) = translated("user", file("application/pdf", url))
    assert message["content"][0]["file"]["filename"] == "file"


@pytest.mark.parametrize("media_type", ["application/pdf", "audio/wav", "text/plain"])
def test_file_that_an_upstream_cannot_fetch_is_refused_by_its_place(media_type: str) -> None:
    with pytest.raises(UnsupportedParameter, match="must be sent as a data URL") as error:
        translated("user", text("?"), file(media_type, "https://example.org/x"))
    assert error.value.param == "messages[0].parts[1].url"


# Assistant


def test_answer_is_its_text_and_its_reasoning() -> None:
    (message,) = translated("assistant", STEP, {"type": "reasoning", "text": "Hm"}, text("Yes"), text("."))
    assert message == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm"}


def test_answer_that_was_stopped_comes_back_as_far_as_it_came() -> None:
    parts = [STEP, text("Once upon", state="streaming"), CALL | {"state": "input-streaming", "input": None}]
    assert translated("assistant", *parts) == [{"role": "assistant", "content": "Once upon"}]


@pytest.mark.parametrize("parts", [[], [STEP], [STEP, {"type": "reasoning", "text": "Hm"}], [STEP, text("")]])
def test_answer_that_was_stopped_before_its_text_is_left_out(parts: list[Json]) -> None:
    assert translated("assistant", *parts) == []


def test_refusal_returns_to_its_place() -> None:
    mark = {"providerMetadata": {"tailrace": {"refusal": True}}}
    (message,) = translated("assistant", STEP, text("I cannot.", **mark))
    assert message == {"role": "assistant", "content": None, "refusal": "I cannot."}


def test_parallel_calls_and_their_results_follow_each_other() -> None:
    second = {"type": "dynamic-tool", "toolName": "open", "toolCallId": "c2", "input": None}
    parts = [
        STEP,
        text("Let me look."),
        CALL | {"state": "output-available", "output": {"found": ["ö"]}},
        second | {"state": "output-available", "output": "a page"},
        STEP,
        text("Found."),
    ]
    asked, first, other, answer = translated("assistant", *parts)
    assert asked["content"] == "Let me look."
    assert [call["function"] for call in asked["tool_calls"]] == [
        {"name": "search", "arguments": '{"q":1}'},
        {"name": "open", "arguments": "{}"},
    ]
    assert [call["id"] for call in asked["tool_calls"]] == ["c1", "c2"]
    assert first == {"role": "tool", "tool_call_id": "c1", "content": '{"found":["ö"]}'}
    assert other == {"role": "tool", "tool_call_id": "c2", "content": "a page"}
    assert answer == {"role": "assistant", "content": "Found."}


@pytest.mark.parametrize(
    ("ended", "content"),
    [
        ({"state": "output-available", "output": None}, "null"),
        ({"state": "output-available"}, "null"),
        ({"state": "output-error", "errorText": "No network."}, "No network."),
        ({"state": "output-denied", "approval": {"id": "a", "approved": False, "reason": "Not now."}}, "Not now."),
        ({"state": "output-denied", "approval": {"id": "a", "approved": False}}, "Tool execution denied."),
        ({"state": "output-denied"}, "Tool execution denied."),
    ],
)
def test_result_is_sent_whatever_it_is(ended: Json, content: str) -> None:
    asked, result = translated("assistant", STEP, CALL | ended)
    assert (asked["content"], call_of(asked)["id"]) == (None, "c1")
    assert result == {"role": "tool", "tool_call_id": "c1", "content": content}


@pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested", None])
def test_call_without_a_result_is_left_out(state: str | None) -> None:
    """Upstreams refuse it: "tool_call_ids did not have response messages"."""
    assert translated("assistant", STEP, text("Wait."), CALL | {"state": state}) == [
        {"role": "assistant", "content": "Wait."}
    ]


def test_call_whose_arguments_were_not_json_comes_back_with_them() -> None:
    broken = {"input": None, "rawInput": '{"q', "state": "output-error", "errorText": "not JSON"}
    asked, _ = translated("assistant", STEP, CALL | broken)
    assert call_of(asked)["function"]["arguments"] == '"{\\"q"'


def test_call_cannot_be_changed_by_its_metadata() -> None:
    metadata = {"callProviderMetadata": {"tailrace": {"id": "x", "function": {}, "extra_content": {"a": 1}}}}
    asked, _ = translated("assistant", STEP, CALL | metadata | {"state": "output-available", "output": 1})
    function = {"name": "search", "arguments": '{"q":1}'}
    assert call_of(asked) == {"id": "c1", "type": "function", "function": function, "extra_content": {"a": 1}}


def test_call_of_a_custom_tool_comes_back_as_one() -> None:
    """Its input is text, which need not be JSON."""
    tools = [{"type": "custom", "custom": {"name": "search"}}, {"type": "function", "function": {"name": "open"}}]
    parts = [STEP, CALL | {"input": "a|b", "state": "output-available", "output": 1}]
    body = {"messages": [{"role": "assistant", "parts": parts}], "tools": tools}
    asked, _ = chat_request("ui-messages", body)["messages"]
    assert call_of(asked) == {"id": "c1", "type": "custom", "custom": {"name": "search", "input": "a|b"}}


def test_parts_for_the_page_are_left_out() -> None:
    parts: list[Json] = [
        {"type": "source-url", "sourceId": "s", "url": "https://example.org"},
        {"type": "source-document", "sourceId": "s", "mediaType": "x", "title": "x"},
        {"type": "data-mood", "data": {"glad": True}},
    ]
    assert translated("assistant", STEP, text("Yes"), *parts) == [{"role": "assistant", "content": "Yes"}]
    assert translated("system", text("x"), *parts) == [{"role": "system", "content": "x"}]


def test_answer_of_tailrace_comes_back_as_the_model_wrote_it() -> None:
    """The parts of `ui_message_object`, sent by the page with the result of a call."""
    signed = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    output = [
        Item(0, "reasoning", text="Hm"),
        Item(1, "text", text="Let me look."),
        Item(2, "call", tool=0, id="c1", name="search", arguments='{"q": 1}', call=signed),
    ]
    asked = [{"id": "u", "role": "user", "parts": [text("?")]}]
    context = ui_message_object.context(record(), REQUEST)
    messages = ui_message_object.with_answer(asked, context, output)
    messages[-1]["parts"][-1] |= {"state": "output-available", "output": 1}
    _, answer, result = chat_request("ui-messages", {"messages": messages})["messages"]
    function = {"name": "search", "arguments": '{"q":1}'}
    assert answer == {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning_content": "Hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": function, **signed}],
    }
    assert result["content"] == "1"


# Refusals


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ({}, "messages"),
        (["x"], "messages[0]"),
        ([{}], "messages[0].parts"),
        ([{"role": "user", "content": "?"}], "messages[0].parts"),
        ([{"role": "user", "parts": {}}], "messages[0].parts"),
        ([{"role": "user", "parts": ["?"]}], "messages[0].parts[0]"),
        ([{"role": "tool", "parts": []}], "messages[0].role"),
        ([{"role": ["user"], "parts": []}], "messages[0].role"),
        ([{"parts": []}], "messages[0].role"),
        ([{"role": "user", "parts": [file("text/plain", "data:text/plain;base64,x")]}], "messages[0].parts[0].url"),
        ([{"role": "user", "parts": [file("text/plain", "data:text/plain;base64,@@@@")]}], "messages[0].parts[0].url"),
    ],
)
def test_malformed_message_is_refused_by_its_place(messages: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as error:
        chat_request("ui-messages", {"messages": messages})
    assert error.value.param == param


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize(
    "part",
    [
        {},
        {"type": "text"},
        {"type": "text", "text": 1},
        {"type": ["text"], "text": "x"},
        {"type": "custom", "kind": "x.y"},
        {"type": "reasoning-file", "mediaType": "image/png", "url": "data:,"},
        {"type": "file", "url": "data:,"},
        {"type": "tool-search"},
        {"type": "tool-search", "toolCallId": 1},
    ],
)
def test_part_without_a_place_is_refused_by_its_place(role: str, part: Json) -> None:
    with pytest.raises(UnsupportedParameter) as error:
        translated(role, text("x"), part)
    assert error.value.param == "messages[0].parts[1]"


def test_file_of_an_answer_is_refused() -> None:
    with pytest.raises(UnsupportedParameter):
        translated("assistant", STEP, file("image/png", "data:,"))
