from typing import Any

import pytest

from support.logs import REQUEST, citation, record
from tailrace.events import Item, Json
from tailrace.wire.ui_message_object import context, parts_of, with_answer

RECORD = record()
CONTEXT = context(RECORD, REQUEST)
ASKED: Json = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}
TEXT = Item(0, "text", text="Hi")


def call(arguments: str, name: str, **more: Any) -> Item:
    return Item(1, "call", tool=0, id="call_1", name=name, arguments=arguments, **more)


@pytest.mark.parametrize(
    ("last", "message_id"),
    [
        ({"id": "a1", "role": "assistant", "parts": []}, "a1"),
        ({"id": "", "role": "assistant", "parts": []}, "msg_abcdefghijklmnopqrstuvwxyz"),
        ({"id": 3, "role": "assistant", "parts": []}, "msg_abcdefghijklmnopqrstuvwxyz"),
        ({"role": "assistant", "parts": []}, "msg_abcdefghijklmnopqrstuvwxyz"),
        (ASKED, "msg_abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_message_has_the_id_of_the_one_that_it_goes_on_with_or_the_generations(last: Json, message_id: str) -> None:
    assert context(RECORD, {"messages": [ASKED, last]}).message_id == message_id


@pytest.mark.parametrize("request_", [{}, {"messages": None}, {"messages": []}, {"messages": ["x"], "tools": "all"}])
def test_context_of_another_apis_request_has_an_id_of_its_own(request_: Json) -> None:
    """`tailrace tail --wire ui-messages` prints any generation."""
    assert context(RECORD, request_) == (RECORD.id, "msg_abcdefghijklmnopqrstuvwxyz", frozenset())


def test_tools_are_known_in_the_form_of_both_apis() -> None:
    chat = [{"type": "function", "function": {"name": "a"}}, {"type": "custom", "custom": {"name": "b"}}]
    responses = [{"type": "function", "name": "c"}, {"type": "custom", "name": "d"}]
    assert context(RECORD, {"tools": [*chat, *responses, {"name": 3}, {}]}).tools == {"a", "b", "c", "d"}


def test_answer_follows_the_messages_as_one_of_its_own() -> None:
    (asked, answer) = with_answer([ASKED], CONTEXT, [TEXT])
    assert asked is ASKED
    parts = [{"type": "step-start"}, {"type": "text", "text": "Hi", "state": "done"}]
    assert answer == {"id": CONTEXT.message_id, "role": "assistant", "parts": parts}


@pytest.mark.parametrize("output", [[], [Item(0, "text", 1, text="another choice")]])
def test_answer_without_an_item_is_no_message(output: list[Item]) -> None:
    assert with_answer([ASKED], CONTEXT, output) == [ASKED]


def test_parts_of_a_text_are_itself_and_the_pages_that_it_cites() -> None:
    text, source = parts_of(CONTEXT, Item(2, "text", text="See", annotations=[citation(0)]))
    assert text == {"type": "text", "text": "See", "state": "done"}
    assert source == {
        "type": "source-url", "sourceId": f"{RECORD.id}-2-0", "url": "https://example.org/0", "title": "Page 0",
    }  # fmt: skip


def test_parts_of_a_refusal_and_of_reasoning() -> None:
    (refusal,) = parts_of(CONTEXT, Item(0, "refusal", text="No"))
    assert (refusal["type"], refusal["providerMetadata"]) == ("text", {"tailrace": {"refusal": True}})
    (reasoning,) = parts_of(CONTEXT, Item(3, "reasoning", text="Hm"))
    assert reasoning == {"type": "reasoning", "id": "3", "text": "Hm", "state": "done"}


@pytest.mark.parametrize(
    ("item", "part"),
    [
        (call('{"q":1}', "search"), {"type": "tool-search", "state": "input-available", "input": {"q": 1}}),
        (call("{", "search"), {"type": "tool-search", "state": "output-error", "input": "{"}),
        (call("", "open"), {"type": "dynamic-tool", "toolName": "open", "state": "input-available", "input": {}}),
        (call("{", "open"), {"type": "dynamic-tool", "toolName": "open", "state": "output-error", "input": "{"}),
    ],
)
def test_part_of_a_call_has_the_form_of_its_tool(item: Item, part: Json) -> None:
    (made,) = parts_of(CONTEXT, item)
    assert made.pop("errorText", None) == ("The arguments of the call are not JSON." if item.arguments == "{" else None)
    assert made == part | {"toolCallId": "call_1"}


def test_call_that_was_cut_short_is_no_part() -> None:
    assert parts_of(CONTEXT, call('{"q', "search", status="incomplete")) == []
