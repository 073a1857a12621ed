"""ToolCalls: which call a fragment belongs to, and what a call becomes."""

from typing import Any

from support.chat_chunks import call_chunk, end, fragment, text_chunk
from support.chat_streams import STREAMS
from support.translation import Translation
from tailrace.events import NO_EXTRA, Extra, Item, ItemClosed, ItemOpened, ToolArguments
from tailrace_worker.upstream.chat.choice import MAX_HELD_CHARACTERS
from tailrace_worker.upstream.chat.tool_calls import ToolCalls
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.fields import MAX_ITEMS


def test_calls_stay_open_and_their_fragments_may_interleave() -> None:
    answer = Translation(*STREAMS["openai_interleaved_calls"])
    assert answer.calls == [("call_a", "look", '{"q":1}'), ("call_b", "look", '{"q":2}')]
    assert "item_closed" not in answer.kinds
    assert {(each.tool, each.call) for each in answer.events if isinstance(each, ToolArguments)} == {
        (0, "call_a"), (1, "call_b"),
    }  # fmt: skip


def test_call_closes_the_text_before_it() -> None:
    answer = Translation(text_chunk("Let me look."), call_chunk(fragment(0, "call_a", "look", "{}")))
    assert answer.events[2:] == [
        ItemClosed(Item(0, "text", text="Let me look.")),
        ItemOpened(1, "call", id="call_a", name="look"),
        ToolArguments(1, "{}", call="call_a"),
    ]


def test_new_id_and_a_name_at_the_same_index_begin_a_new_call() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "1")),
        call_chunk(fragment(0, "b", "f", "2")),
        call_chunk(fragment(0, None, None, "3")),
    )
    assert answer.calls == [("a", "f", "1"), ("b", "f", "23")]


def test_new_id_alone_begins_no_new_call() -> None:
    assert Translation(call_chunk(fragment(0, "a", "f", "1")), call_chunk(fragment(0, "b", None, "2"))).calls == [
        ("a", "f", "12")
    ]


def test_repeated_name_and_an_empty_id_begin_no_new_call() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "1")),
        call_chunk(fragment(0, "", "f", "2")),
        call_chunk(fragment(0, "a", "f", "3")),
    )
    assert answer.calls == [("a", "f", "123")]


def test_another_name_at_the_same_index_begins_a_new_call() -> None:
    answer = Translation(call_chunk(fragment(0, "a", "f", "1")), call_chunk(fragment(0, None, "g", "2")))
    assert [call[1:] for call in answer.calls] == [("f", "1"), ("g", "2")]


def test_fragment_without_index_belongs_to_its_id_else_to_the_last_call() -> None:
    answer = Translation(
        call_chunk(fragment(None, "a", "f", "1"), fragment(None, "b", "f", "2")),
        call_chunk(fragment(None, "a", None, "3")),
        call_chunk(fragment(None, "b", "f", "4")),
        call_chunk(fragment(None, None, None, "5")),
        call_chunk(fragment(None, "c", None, "6")),
    )
    assert answer.calls == [("a", "f", "13"), ("b", "f", "2456")]


def test_fragments_without_index_and_id_belong_to_the_calls_at_their_places() -> None:
    answer = Translation(
        call_chunk(fragment(None, "z", "f", "0")),
        call_chunk(fragment(None, "a", "f", ""), fragment(None, "b", "g", "")),
        call_chunk(fragment(None, None, None, "1"), fragment(None, None, None, "2")),
        call_chunk(fragment(None, None, None, "3"), fragment(None, None, None, "4"), fragment(None, None, None, "5")),
    )
    assert answer.calls == [("z", "f", "0"), ("a", "f", "13"), ("b", "g", "245")]


def test_calls_without_index_and_id_are_kept_apart_within_a_chunk() -> None:
    answer = Translation(
        call_chunk(fragment(None, None, "f", "1"), fragment(None, None, "f", "2")),
        call_chunk(fragment(None, None, "f", "3")),
    )
    assert [call[1:] for call in answer.calls] == [("f", "1"), ("f", "23")]


def test_index_that_arrives_late_is_matched_by_the_id() -> None:
    answer = Translation(
        call_chunk(fragment(None, "a", "f", "1")),
        call_chunk(fragment(0, "a", None, "2")),
        call_chunk(fragment(0, None, None, "3")),
    )
    assert answer.calls == [("a", "f", "123")]


def test_call_is_held_until_its_name_arrives() -> None:
    translator = ChatTranslator()
    assert translator.translate(call_chunk(fragment(0, "a", None, '{"q"', extra_content=1))) == []
    assert translator.translate(call_chunk(fragment(0, None, None, ":"))) == []
    assert translator.translate(call_chunk(fragment(0, None, "f", "1}"))) == [
        (ItemOpened(0, "call", choices=[0], id="a", name="f"), Extra(call={"extra_content": 1})),
        (ToolArguments(0, '{"q":1}', call="a"), NO_EXTRA),
    ]


def test_call_without_a_name_is_emitted_at_the_end() -> None:
    assert Translation(text_chunk("x"), call_chunk(fragment(0, "a", None, "{}")), end("tool_calls")).calls == [
        ("a", "", "{}")
    ]


def test_calls_without_ids_get_generated_ids() -> None:
    (first, *_), (second, *_) = Translation(call_chunk(fragment(0, None, "f", "1"), fragment(1, "", "f", "2"))).calls
    assert first
    assert second
    assert first != second
    assert first.startswith("call_")


def test_unknown_fields_of_a_call_stay_with_their_fragment() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "1", extra_content={"s": 1})),
        call_chunk(fragment(0, None, None, "", extra_content={"s": 2})),
        call_chunk({"index": 0, "function": {"arguments": "2", "signature": "x"}}),
    )
    assert [(event.kind, extra.call) for event, extra in answer.translated] == [
        ("item_opened", {"extra_content": {"s": 1}}),
        ("tool_arguments", {}),
        ("tool_arguments", {"extra_content": {"s": 2}}),
        ("tool_arguments", {"signature": "x"}),
    ]
    assert answer.items[0].call == {"extra_content": {"s": 2}, "signature": "x"}


def test_custom_call_is_a_call_with_text_for_arguments() -> None:
    custom = {"index": 1, "id": "b", "type": "custom", "custom": {"name": "run", "input": ""}}
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "1")),
        call_chunk(custom),
        call_chunk({"index": 1, "custom": {"input": "ls"}}),
        call_chunk({"index": 1, "custom": {"input": " -l"}}),
        call_chunk(fragment(2, "c", "f", "2")),
    )
    assert answer.calls == [("a", "f", "1"), ("b", "run", "ls -l"), ("c", "f", "2")]
    assert [item.custom for item in answer.items] == [False, True, False]
    assert answer.events[2:5] == [
        ItemOpened(1, "call", tool=1, id="b", name="run", custom=True),
        ToolArguments(1, "ls", tool=1, call="b", custom=True),
        ToolArguments(1, " -l", tool=1, call="b", custom=True),
    ]


def test_unknown_fields_of_a_custom_call_stay_with_their_fragment() -> None:
    custom = {"index": 0, "id": "b", "type": "custom", "custom": {"name": "run", "input": "x", "mood": 1}, "note": 2}
    answer = Translation(call_chunk(custom))
    assert answer.extras(ItemOpened)[0].call == {"mood": 1, "note": 2}
    assert answer.items[0].call == {"mood": 1, "note": 2}


def test_custom_call_is_held_until_its_name_arrives() -> None:
    answer = Translation(
        call_chunk({"index": 0, "id": "b", "custom": {"input": "l"}}),
        call_chunk({"index": 0, "custom": {"name": "run", "input": "s"}}),
    )
    assert answer.events == [
        ItemOpened(0, "call", choices=[0], id="b", name="run", custom=True),
        ToolArguments(0, "ls", call="b", custom=True),
    ]


def test_custom_that_is_null_makes_no_custom_call() -> None:
    answer = Translation(call_chunk({**fragment(0, "a", "f", "{}"), "custom": None}))
    assert [(item.arguments, item.custom) for item in answer.items] == [("{}", False)]


def test_tool_ordinals_count_within_a_choice() -> None:
    answer = Translation(
        call_chunk(fragment(7, "a", "f", "1")),
        call_chunk(fragment(9, "b", "f", "2"), index=1),
        call_chunk(fragment(8, "c", "f", "3")),
    )
    assert [(e.choice, e.tool) for e in answer.events if isinstance(e, ItemOpened)] == [(0, 0), (1, 0), (0, 1)]


def test_custom_input_of_another_type_is_malformed() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    answer = Translation(text_chunk("a"), call_chunk({"index": 0, "id": "c", "custom": {"input": deep}}), end())
    assert answer.kinds == ["item_opened", "text", "item_closed", "item_opened"]
    assert answer.calls == [("c", "", "")]
    assert answer.translator.malformed == 1


class ComparedId(str):
    """An id that counts how often ids are compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        ComparedId.comparisons += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_work_for_a_fragment_does_not_grow_with_the_number_of_calls() -> None:
    calls = ToolCalls()
    for number in range(1000):
        calls.chunk += 1
        call = calls.find(None, ComparedId(f"call_{number}"), "f")
        assert call
        assert calls.find(None, ComparedId(f"call_{number}"), "") is call
    assert len(calls.all) == 1000
    assert ComparedId.comparisons <= 5000


def test_calls_beyond_the_limit_count_as_malformed() -> None:
    answer = Translation(
        call_chunk(*(fragment(number, f"call_{number}", "f", "{}") for number in range(MAX_ITEMS))),
        call_chunk(fragment(MAX_ITEMS, "last", "f", "{}")),
        call_chunk(fragment(0, None, None, " ")),
    )
    assert len(answer.calls) == MAX_ITEMS
    assert answer.calls[0] == ("call_0", "f", "{} ")
    assert answer.translator.malformed == 1


def test_arguments_without_a_name_are_held_to_a_limit() -> None:
    translator, size = ChatTranslator(), 1000
    events = [translator.translate(call_chunk(fragment(0, "call_a", None, "x" * size))) for _ in range(200)]
    written = sum(len(event.text) for each in events for event, _ in each if isinstance(event, ToolArguments))
    assert 200 * size - written <= MAX_HELD_CHARACTERS
