from typing import Any

import pytest

from tailrace import jsoncodec
from tailrace.events import Json
from tailrace.wire import ui_message_replay

ASKED: Json = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "?"}]}
CALL: Json = {"type": "tool-look", "toolCallId": "c", "input": {"q": 1}}


def replayed(*parts: Json, **fields: Any) -> list[Json]:
    """The chunks of a message with these parts, without its `start`."""
    message = {"id": "a1", "role": "assistant", "parts": [*parts], **fields}
    frames = ui_message_replay.encode("a1", {"messages": [ASKED, message]}).decode().split("\n\n")[:-1]
    start, *chunks = [jsoncodec.loads(frame.removeprefix("data: ")) for frame in frames]
    assert (start["type"], start["messageId"]) == ("start", "a1")
    return chunks


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [ASKED]},
        {"messages": [ASKED, {"id": "", "role": "assistant", "parts": [CALL]}]},
        {"messages": [ASKED, {"role": "assistant", "parts": [CALL]}]},
        {"messages": []},
        {"messages": None},
        {},
    ],
)
def test_answer_that_is_a_message_of_its_own_has_nothing_before_it(request_: Json) -> None:
    assert ui_message_replay.encode("msg_own", request_) == b""


def test_texts_and_steps_are_replayed_with_their_metadata() -> None:
    refusal = {"tailrace": {"refusal": True}}
    assert replayed(
        {"type": "step-start"},
        {"type": "reasoning", "id": "0", "text": "Hm", "state": "done"},
        {"type": "text", "text": "No", "state": "done", "providerMetadata": refusal},
    ) == [
        {"type": "start-step"},
        {"type": "reasoning-start", "id": "0"},
        {"type": "reasoning-delta", "id": "0", "delta": "Hm"},
        {"type": "reasoning-end", "id": "0"},
        {"type": "text-start", "id": "before-2", "providerMetadata": refusal},
        {"type": "text-delta", "id": "before-2", "delta": "No"},
        {"type": "text-end", "id": "before-2"},
    ]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"state": "output-available", "output": {"a": 1}}, [{"type": "tool-output-available", "output": {"a": 1}}]),
        ({"state": "output-denied"}, [{"type": "tool-output-denied"}]),
        ({"state": "input-available"}, []),
    ],
)
def test_call_is_replayed_without_being_run_again(fields: Json, end: list[Json]) -> None:
    begin, arguments, *rest = replayed(CALL | fields)
    assert begin == {"type": "tool-input-start", "toolCallId": "c", "toolName": "look"}
    assert arguments == {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '{"q":1}'}
    assert rest == [chunk | {"toolCallId": "c"} for chunk in end]


@pytest.mark.parametrize("field", ["input", "rawInput"])
def test_call_that_has_failed_is_replayed_with_its_error(field: str) -> None:
    metadata = {"tailrace": {"signature": "s"}}
    part = {"type": "dynamic-tool", "toolName": "open", "toolCallId": "c", "state": "output-error", field: "{q"}
    begin, error = replayed(part | {"errorText": "Broken.", "callProviderMetadata": metadata})
    assert begin["providerMetadata"] == metadata
    assert error == {
        "type": "tool-input-error", "toolCallId": "c", "toolName": "open", "dynamic": True, "input": "{q",
        "errorText": "Broken.",
    }  # fmt: skip


def test_decision_about_a_call_is_replayed() -> None:
    approval = {"id": "ok", "approved": False, "reason": "no"}
    *_, request, response, denied = replayed(CALL | {"state": "output-denied", "approval": approval})
    assert request == {"type": "tool-approval-request", "approvalId": "ok", "toolCallId": "c"}
    assert response == {"type": "tool-approval-response", "approvalId": "ok", "approved": False, "reason": "no"}
    assert denied["type"] == "tool-output-denied"


def test_parts_for_the_page_are_replayed_as_they_are_and_malformed_ones_left_out() -> None:
    source = {"type": "source-url", "sourceId": "s", "url": "https://example.org"}
    data = {"type": "data-mood", "data": {"glad": True}}
    assert replayed(source, {"type": "text"}, {"type": "tool-x"}, {}, data) == [source, data]


def test_metadata_of_the_message_stays() -> None:
    message = {"id": "a1", "role": "assistant", "parts": [], "metadata": {"model": "m"}}
    assert b'"messageMetadata":{"model":"m"}' in ui_message_replay.encode("a1", {"messages": [message]})
