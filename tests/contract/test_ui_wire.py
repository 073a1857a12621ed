"""The UI message stream, judged by a reader that is as strict as the AI SDK, and by what a page keeps of it."""

from typing import Any

import pytest

from support.logs import REQUEST, stored
from support.ui_message_reader import UiMessageReader
from support.wire_parsing import Case, each_case, encoded, is_restart
from tailrace.events import Entry, ItemOpened
from tailrace.wire import WIRE_FORMATS, ui_message_object

WIRE = WIRE_FORMATS["ui-messages"]
OWN_ID = "msg_abcdefghijklmnopqrstuvwxyz"


def read(case: Case, entries: list[Entry]) -> UiMessageReader:
    return UiMessageReader.of(encoded(WIRE, case.record, entries))


def texts_of(case: Case, *types: str) -> str:
    return "".join(item.text or "" for item in case.done.output if item.choice == 0 and item.type in types)


@each_case
def test_ui_stream_is_read_without_an_error_of_the_page(case: Case) -> None:
    reader = read(case, case.last_attempt)
    assert reader.is_done
    assert (reader.error is None) is (case.is_whole or case.done.status == "cancelled")
    assert reader.types[-1] == "finish"
    assert reader.types.count("start") <= 1
    assert reader.types.count("start") == reader.types.count("start-step") == reader.types.count("finish-step")


@each_case
def test_ui_stream_has_the_whole_text_and_leaves_no_text_open(case: Case) -> None:
    reader = read(case, case.last_attempt)
    assert reader.text == texts_of(case, "text", "refusal")
    reasoning = "".join(part["text"] for part in reader.parts if part["type"] == "reasoning")
    assert reasoning == texts_of(case, "reasoning")
    assert {part["state"] for part in reader.parts if part["type"] in ("text", "reasoning")} <= {"done"}


@each_case
def test_ui_stream_and_the_messages_of_the_chat_have_the_same_parts(case: Case) -> None:
    """A page that loads the messages shows what a page shows that has read the stream."""
    reader = read(case, case.last_attempt)
    kept = [part for part in reader.parts if part.get("state") != "input-streaming"]
    context = ui_message_object.context(case.record, REQUEST)
    answer = ui_message_object.with_answer(REQUEST["messages"], context, case.done.output)[1:]
    if reader.id is None:
        assert answer == []
    else:
        assert answer == [{"id": reader.id, "role": "assistant", "parts": kept}]


@each_case
def test_ui_stream_names_the_same_message_to_every_reader(case: Case) -> None:
    for entries in (case.entries, stored(case.entries), case.last_attempt):
        assert {chunk["messageId"] for chunk in read(case, entries).chunks if chunk["type"] == "start"} <= {OWN_ID}


@each_case
def test_ui_stream_begins_with_the_first_item_of_an_attempt(case: Case) -> None:
    opened = next((k for k, entry in enumerate(case.entries) if isinstance(entry.event, ItemOpened)), None)
    before = case.entries[:-1] if opened is None else case.entries[:opened]
    assert encoded(WIRE, case.record, before) == b""
    if opened is not None:
        assert read(case, case.entries[opened : opened + 1]).types[:2] == ["start", "start-step"]


@pytest.mark.parametrize("name", ["restarted", "restarted-twice"])
def test_ui_stream_ends_a_live_response_with_an_error_at_a_restart(name: str) -> None:
    case = Case(f"{name}, plain")
    at = next(k for k, entry in enumerate(case.entries) if is_restart(entry))
    reader = read(case, case.entries[: at + 1])
    assert reader.error == "The answer was interrupted and has restarted: read it again from its beginning."
    assert reader.types[-1] == "error"
    assert {part["state"] for part in reader.parts if part["type"] in ("text", "reasoning")} <= {"done"}


@pytest.mark.parametrize(
    ("log", "reason", "error"),
    [
        ("text", "stop", None),
        ("refusal", "stop", None),
        ("calls", "tool-calls", None),
        ("length", "length", None),
        ("reasoning-by-another-key", "length", None),
        ("filtered", "content-filter", None),
        ("cancelled", "other", None),
        ("cancelled-while-queued", "other", None),
        ("truncated", None, "The upstream's answer ended early."),
        ("failed", None, "Slow down."),
        ("failed-at-once", None, "No such model."),
    ],
)
def test_ui_stream_ends_with_the_reason(log: str, reason: str | None, error: str | None) -> None:
    reader = read(Case(f"{log}, plain"), Case(f"{log}, plain").entries)
    assert (reader.finish_reason, reader.error) == (reason, error)
    assert reader.chunks[-1] == {"type": "finish", "finishReason": reason or "error"}


@pytest.mark.parametrize("log", ["cancelled", "failed"])
def test_ui_stream_neither_runs_nor_refuses_a_call_that_was_cut_short(log: str) -> None:
    reader = read(Case(f"{log}, plain"), Case(f"{log}, plain").entries)
    calls = [part for part in reader.parts if "toolCallId" in part]
    assert [call["state"] for call in calls] == ["input-streaming"]


def test_ui_stream_goes_on_with_a_message_whose_calls_have_results() -> None:
    """The page has added a result and asks again: a new id would show the whole message twice."""
    case = Case("text, plain")
    call: dict[str, Any] = {"type": "tool-search", "toolCallId": "c", "state": "output-available", "input": {}}
    last = {"id": "page-chosen", "role": "assistant", "parts": [{"type": "step-start"}, call | {"output": "found"}]}
    request = REQUEST | {"messages": [*REQUEST["messages"], last]}
    encode = WIRE.bind(case.record, request)
    reader = UiMessageReader.of(b"".join(encode(entry) or b"" for entry in case.entries), last)
    assert reader.id == "page-chosen"
    text = {"type": "text", "text": "Hello, world\u2028.", "state": "done"}
    assert reader.parts == [*last["parts"], {"type": "step-start"}, text]
    context = ui_message_object.context(case.record, request)
    messages = ui_message_object.with_answer(request["messages"], context, case.done.output)
    assert messages == [*REQUEST["messages"], last | {"parts": reader.parts}]
    assert last["parts"] == [{"type": "step-start"}, call | {"output": "found"}], "the request is not changed"
