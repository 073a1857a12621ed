"""Single frames of the UI message stream; whole answers are in the contract tests."""

from typing import Any

import pytest

from support.logs import EPOCH, REQUEST, LogBuilder, call_opened, citation, record, text_opened, token
from support.ui_message_reader import Json, UiMessageReader
from tailrace.events import (
    NO_EXTRA,
    Done,
    Entry,
    Event,
    Extra,
    Finish,
    Item,
    ItemClosed,
    ItemOpened,
    Reasoning,
    Text,
    ToolArguments,
)  # fmt: skip
from tailrace.ids import EntryId
from tailrace.wire import sse
from tailrace.wire.ui_message_object import context
from tailrace.wire.ui_messages import FINISH_REASONS, encode, encode_gone

RECORD = record()
CONTEXT = context(RECORD, REQUEST)


def chunks_of(event: Event, extra: Extra = NO_EXTRA) -> list[Json]:
    reader = UiMessageReader()
    frames = encode(CONTEXT, Entry(EntryId(EPOCH, 5), event, extra))
    return list(reader._chunks(frames))


def call(arguments: str, name: str = "search", **more: Any) -> Item:
    return Item(1, "call", tool=0, id="call_1", name=name, arguments=arguments, **more)


def ended(*items: Item, **fields: Any) -> list[Json]:
    """What `done` sends before `finish-step`."""
    done = Done("completed", 1.0, [Finish(0, "stop")], output=list(items), **fields)
    chunks = chunks_of(done)
    assert [chunk["type"] for chunk in chunks[-2:]] == ["finish-step", "finish"]
    return chunks[:-2]


def test_text_has_one_frame_whatever_characters_it_has() -> None:
    text = 'a\n\ndata: x\r\u2028\u0085"\\💧'
    frame = encode(CONTEXT, Entry(EntryId(EPOCH, 5), Text(3, text)))
    assert frame.count(b"\n") == 2
    assert frame.endswith(b"\n\n")
    assert chunks_of(Text(3, text)) == [{"type": "text-delta", "id": "3", "delta": text}]


def test_text_with_other_fields_has_the_same_form_as_one_without() -> None:
    extra = Extra(choice={"logprobs": {"content": [token("Hi")]}})
    assert chunks_of(Text(3, "Hi"), extra) == chunks_of(Text(3, "Hi"))


def test_text_that_only_carries_citations_is_their_sources() -> None:
    extra = Extra(delta={"annotations": [citation(0), {"type": "file_citation"}, citation(1)]}, before=2)
    urls = {"type": "source-url", "url": "https://example.org/0", "title": "Page 0"}
    first, second = chunks_of(Text(0, ""), extra)
    assert first == urls | {"sourceId": f"{RECORD.id}-0-2"}
    assert (second["sourceId"], second["url"]) == (f"{RECORD.id}-0-4", "https://example.org/1")


@pytest.mark.parametrize("cited", [{"type": "url_citation", "url_citation": {"url": 3}}, {"type": "url_citation"}])
def test_citation_without_an_address_is_no_source(cited: Json) -> None:
    assert chunks_of(Text(0, ""), Extra(delta={"annotations": [cited]})) == []


@pytest.mark.parametrize(
    "event",
    [
        Text(1, "b", choice=1),
        Reasoning(1, "b", choice=1),
        ToolArguments(1, "b", choice=1, call="call_1"),
        ItemClosed(Item(1, "text", 1, text="b")),
        ItemOpened(1, "text", 1, [1]),
        ToolArguments(1, "", call="call_1"),
    ],
)
def test_event_of_another_choice_and_empty_arguments_are_not_sent(event: Event) -> None:
    assert chunks_of(event) == []


def test_message_begins_with_the_item_in_which_choice_0_appears_of_whichever_owner() -> None:
    begin = [{"type": "start", "messageId": CONTEXT.message_id}, {"type": "start-step"}]
    assert chunks_of(ItemOpened(0, "text", 1, [0, 1])) == begin
    assert chunks_of(text_opened(0)) == [*begin, {"type": "text-start", "id": "0"}]
    assert chunks_of(text_opened(0, choices=())) == [{"type": "text-start", "id": "0"}]


def test_call_of_a_tool_that_the_request_lacks_is_dynamic() -> None:
    """A page has types for the tools that it has sent, and handles all others alike."""
    (declared,) = chunks_of(call_opened(1))
    assert declared == {"type": "tool-input-start", "toolCallId": "functions.search:0", "toolName": "search"}
    (other,) = chunks_of(call_opened(1, name="open"))
    assert other["dynamic"] is True
    (declared,), (other,) = ended(call("{}")), ended(call("{}", "open"))
    assert "dynamic" not in declared
    assert other["dynamic"] is True


@pytest.mark.parametrize(
    ("arguments", "value"), [('{"q":1}', {"q": 1}), ("", {}), (" ", {}), ("[1]", [1]), ("null", None), ('"x"', "x")]
)
def test_call_is_available_with_its_arguments_as_json(arguments: str, value: Any) -> None:
    (chunk,) = ended(call(arguments))
    assert (chunk["type"], chunk["input"]) == ("tool-input-available", value)


@pytest.mark.parametrize("arguments", ['{"q":', "x", "{}{}", "NaN", "[" * 5000])
def test_call_whose_arguments_are_not_json_is_an_error(arguments: str) -> None:
    (chunk,) = ended(call(arguments))
    assert (chunk["type"], chunk["input"]) == ("tool-input-error", arguments)
    assert chunk["errorText"] == "The arguments of the call are not JSON."


def test_call_of_a_custom_tool_is_available_with_its_text() -> None:
    (chunk,) = ended(call("a|b", custom=True))
    assert (chunk["type"], chunk["input"]) == ("tool-input-available", "a|b")


def test_call_carries_the_upstreams_own_fields() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    (chunk,) = ended(call("{}", call=signed))
    assert chunk["providerMetadata"] == {"tailrace": signed}
    assert "providerMetadata" not in ended(call("{}"))[0]


def test_call_that_was_cut_short_is_left_open() -> None:
    assert ended(call('{"q', status="incomplete")) == []


def test_refusal_is_a_text_with_a_mark() -> None:
    (*_, start) = chunks_of(ItemOpened(0, "refusal", choices=[0]))
    assert start["type"] == "text-start"
    assert start["providerMetadata"] == {"tailrace": {"refusal": True}}


def test_done_closes_what_is_open_and_nothing_twice() -> None:
    closed, left = Item(0, "reasoning", text="Hm"), Item(1, "text", text="Yes")
    assert ended(closed, left, open=[1]) == [{"type": "text-end", "id": "1"}]
    cut = Item(1, "text", text="Ye", status="incomplete")
    assert ended(closed, cut) == [{"type": "text-end", "id": "1"}], "`done` of a failed generation has no `open`"


@pytest.mark.parametrize("reason", [*sorted(filter(None, FINISH_REASONS)), None, "eos", "error"])
def test_done_has_a_finish_reason_that_the_sdk_knows(reason: str | None) -> None:
    done = Done("completed", 1.0, [Finish(0, reason), Finish(1, "length")])
    assert chunks_of(done) == [{"type": "finish", "finishReason": FINISH_REASONS.get(reason, "other")}]


def test_done_of_a_failed_generation_without_an_error_has_one() -> None:
    """A sweeper that completes an end begun by another process knows the status alone."""
    *_, done = LogBuilder(RECORD).start().end("failed")
    error, finish = chunks_of(done.event)
    assert error == {"type": "error", "errorText": "The generation failed."}
    assert finish["finishReason"] == "error"


@pytest.mark.parametrize("reason", ["deleted", "expired", "lost"])
def test_log_that_is_gone_is_an_error(reason: str) -> None:
    frames = encode_gone(reason)
    assert frames.endswith(sse.END)
    assert UiMessageReader.of(frames).error == f"This generation is no longer stored ({reason})."
