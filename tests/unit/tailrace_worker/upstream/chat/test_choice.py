"""Choice: items, the fields that entries carry, halves of surrogate pairs."""

import pytest

from support.chat_chunks import Json, call_chunk, choice, chunk, citation, end, fragment, logprob, role, text_chunk
from support.chat_streams import STREAMS
from support.translation import Translation
from tailrace import jsoncodec
from tailrace.events import (
    NO_EXTRA,
    Delta,
    Extra,
    Item,
    ItemClosed,
    ItemOpened,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
)
from tailrace_worker.upstream.fields import MAX_ITEMS

# items


def test_plain_answer_is_one_text_that_stays_open() -> None:
    answer = Translation(role(), text_chunk("Hel"), text_chunk("lo"), end())
    assert answer.events == [ItemOpened(0, "text", choices=[0]), Text(0, "Hel"), Text(0, "lo")]
    assert all(extra is NO_EXTRA for _, extra in answer.translated)


def test_change_of_kind_closes_the_open_item_with_its_whole_text() -> None:
    answer = Translation(
        chunk(choice({"reasoning_content": "h"})), chunk(choice({"reasoning_content": "m"})), text_chunk("Yes")
    )
    assert answer.events == [
        ItemOpened(0, "reasoning", choices=[0]),
        Reasoning(0, "h"),
        Reasoning(0, "m"),
        ItemClosed(Item(0, "reasoning", text="hm")),
        ItemOpened(1, "text"),
        Text(1, "Yes"),
    ]


def test_kind_that_returns_is_another_item() -> None:
    answer = Translation(*STREAMS["reasoning_between_texts"])
    assert [(item.type, item.text) for item in answer.items] == [
        ("text", "First this."), ("reasoning", "Then what?"), ("text", "Then that."),
    ]  # fmt: skip


def test_refusal_and_content_are_two_items() -> None:
    answer = Translation(text_chunk("Well, "), chunk(choice({"refusal": "no."})))
    assert [(item.type, item.text) for item in answer.items] == [("text", "Well, "), ("refusal", "no.")]


def test_message_without_deltas_is_the_whole_answer() -> None:
    whole = chunk({"index": 0, "message": {"content": "all"}, "finish_reason": "stop"})
    assert Translation(whole).items[0].text == "all"


def test_message_beside_or_after_deltas_is_ignored() -> None:
    repeated = {"index": 0, "message": {"content": "abc"}}
    first, second = ({**repeated, "delta": {"content": text}} for text in ("a", "bc"))
    answer = Translation(chunk(first), chunk(second), chunk(repeated))
    assert answer.events[1:] == [Text(0, "a"), Text(0, "bc")]


# fields beside the text


def test_chunk_fields_go_with_the_first_entry_and_changes_with_the_next() -> None:
    answer = Translation(*STREAMS["changing_fingerprints"])
    assert [extra.chunk_fields for _, extra in answer.translated] == [
        {"system_fingerprint": "fp_1"}, {"system_fingerprint": "fp_2"}, {},
    ]  # fmt: skip
    assert answer.translator.extra == Extra(chunk_fields={"system_fingerprint": "fp_3"})


def test_chunk_fields_that_the_first_chunk_lacked_go_with_the_second_entry() -> None:
    assert [
        extra.chunk_fields for _, extra in Translation(role(), text_chunk("a", x=1), text_chunk("b", x=1)).translated
    ] == [
        {},
        {"x": 1},
        {},
    ]


def test_value_overwritten_before_the_next_entry_is_not_written() -> None:
    answer = Translation(
        text_chunk("a", x=1), chunk(x=2), chunk(x=3), text_chunk("b"), chunk(x=4), chunk(x=3), text_chunk("c")
    )
    assert [extra.chunk_fields for _, extra in answer.translated] == [{"x": 1}, {}, {"x": 3}, {}]


def test_changed_fields_never_go_with_item_closed() -> None:
    answer = Translation(text_chunk("a"), chunk(choice({"refusal": "no"}, filtered=True), x=1))
    assert answer.kinds == ["item_opened", "text", "item_closed", "item_opened", "refusal"]
    assert [extra for _, extra in answer.translated] == [
        NO_EXTRA, NO_EXTRA, NO_EXTRA, Extra(chunk_fields={"x": 1}, choice={"filtered": True}), NO_EXTRA,
    ]  # fmt: skip


def test_choice_fields_go_with_their_own_choice() -> None:
    answer = Translation(chunk(choice({"content": "a"}, safe=1)), chunk(choice({"content": "b"}, index=1, safe=2)),
                chunk(choice({"content": "c"}, safe=1)), chunk(choice({"content": "d"}, index=1, safe=3)))  # fmt: skip
    assert [(event.choice, extra.choice) for event, extra in answer.translated] == [  # type: ignore[attr-defined]
        (0, {"safe": 1}), (0, {}), (1, {"safe": 2}), (1, {}), (0, {}), (1, {"safe": 3}),
    ]  # fmt: skip


def test_choice_fields_that_arrive_last_go_with_an_empty_delta() -> None:
    answer = Translation(*STREAMS["vllm_stop_reason"])
    assert answer.translated[-1] == (Text(0, ""), Extra(choice={"stop_reason": "###"}))
    called = Translation(call_chunk(fragment(0, "a", "f", "{}")), chunk(choice({}, "tool_calls", why="so")))
    assert called.translated[-1] == (ToolArguments(0, "", call="a"), Extra(choice={"why": "so"}))


def test_unknown_fields_of_a_delta_are_written_once_per_occurrence() -> None:
    answer = Translation(
        text_chunk("a"), chunk(choice({"x": 1})), chunk(choice({"x": 1, "content": "b"})), text_chunk("c")
    )
    assert answer.translated[1:] == [
        (Text(0, "a"), NO_EXTRA), (Text(0, ""), Extra(delta={"x": 1})), (Text(0, "b"), Extra(delta={"x": 1})),
        (Text(0, "c"), NO_EXTRA),
    ]  # fmt: skip


@pytest.mark.parametrize(("before", "delta"), [
    ({"reasoning": "a"}, Reasoning(0, "", key="reasoning")),
    ({"refusal": "a"}, Refusal(0, "")),
    ({"content": "a"}, Text(0, "")),
    ({"tool_calls": [fragment(0, "c", "f", "{}")]}, ToolArguments(0, "", call="c")),
    ({}, Text(0, "")),
])  # fmt: skip
def test_fields_without_a_text_go_with_the_open_item(before: Json, delta: Delta) -> None:
    assert Translation(chunk(choice(before)), chunk(choice({"x": 1}))).translated[-1] == (delta, Extra(delta={"x": 1}))


def test_fields_of_a_chunk_of_several_kinds_go_with_its_text() -> None:
    answer = Translation(chunk(choice({"reasoning_content": "r", "content": "t", "refusal": "n", "x": 1})))
    assert [event.kind for event, extra in answer.translated if extra.delta] == ["text"]


def test_fields_beside_a_call_go_with_its_first_arguments() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f"), fragment(1, "b", "f", "{}")), call_chunk(fragment(1, None, None, "2"))
    )
    assert answer.kinds == ["item_opened", "item_opened", "tool_arguments", "tool_arguments"]
    call = chunk(choice({"x": 1, "tool_calls": [fragment(0, "a", "f")]}))
    assert Translation(call).translated[1:] == [(ToolArguments(0, "", call="a"), Extra(delta={"x": 1}))]


def test_annotations_of_a_chunk_stay_together_and_count_those_before() -> None:
    answer = Translation(*STREAMS["openai_search"], text_chunk("more"), chunk(choice({"refusal": "no"})))
    assert [(len(extra.annotations), extra.before) for extra in answer.extras(Text)] == [(2, 0), (1, 2)]
    assert answer.items[0].annotations == [citation(1), citation(2), citation(3)]
    assert [event.whole.annotations for event in answer.events if isinstance(event, ItemClosed)] == [
        answer.items[0].annotations
    ]


def test_annotations_belong_to_a_text() -> None:
    answer = Translation(chunk(choice({"reasoning_content": "r"})), chunk(choice({"annotations": [citation(1)]})))
    assert [item.type for item in answer.items] == ["reasoning", "text"]
    after = Translation(
        text_chunk("t"), call_chunk(fragment(0, "a", "f", "{}")), chunk(choice({"annotations": [citation(1)]}))
    )
    assert [(item.type, item.annotations) for item in after.items][2] == ("text", [citation(1)])


def test_empty_text_with_logprobs_is_kept() -> None:
    answer = Translation(chunk(choice({"content": ""}, logprobs={"content": [logprob("x")], "refusal": None})))
    assert answer.translated[1:] == [
        (Text(0, ""), Extra(choice={"logprobs": {"content": [logprob("x")], "refusal": None}}))
    ]  # fmt: skip


def test_item_closed_repeats_logprobs_only_on_request() -> None:
    chunks = [*STREAMS["openai_logprobs"], chunk(choice({"refusal": "no"}))]
    for asked, count in ((True, 4), (False, 0)):
        (closed,) = (event for event in Translation(*chunks, logprobs=asked).events if isinstance(event, ItemClosed))
        assert len(closed.whole.logprobs) == count


def test_logprobs_beside_a_call_do_not_belong_to_the_text() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "1")),
        text_chunk("t"),
        chunk(choice({"tool_calls": [fragment(0, None, None, "2")]}, logprobs={"content": [logprob("2")]})),
        chunk(choice({"refusal": "no"})),
        logprobs=True,
    )
    assert [event.whole for event in answer.events if isinstance(event, ItemClosed)] == [Item(1, "text", text="t")]
    assert answer.items[1].logprobs == []


# surrogates


def test_surrogate_halves_are_joined_across_deltas() -> None:
    answer = Translation(text_chunk("a\ud83d"), text_chunk(""), text_chunk("\ude00b"))
    assert answer.events[1:] == [Text(0, "a"), Text(0, "😀b")]


@pytest.mark.parametrize("texts", [["\ud83d", "b"], ["\ud83d\ud83d", "\ude00"], ["\ude00"], ["é\ud83d", "é"]])
def test_lone_surrogates_become_replacement_characters(texts: list[str]) -> None:
    answer = Translation(*map(text_chunk, texts))
    assert answer.items[0].text == jsoncodec.replace_lone_surrogates("".join(texts))
    jsoncodec.dumps(answer.items[0].text)


def test_pending_surrogate_waits_in_its_own_item() -> None:
    answer = Translation(
        call_chunk(fragment(0, "a", "f", "\ud83d"), fragment(1, "b", "f", "\ud83d")),
        text_chunk("\ud83d", 1),
        call_chunk(fragment(1, None, None, "\ude00"), fragment(0, None, None, "\ude01")),
        text_chunk("\ude02", 1),
    )
    assert [item.arguments or item.text for item in answer.items] == ["😁", "😀", "😂"]


def test_pending_surrogate_is_replaced_when_its_item_closes() -> None:
    answer = Translation(
        text_chunk("a\ud83d"), chunk(choice({"refusal": "\ude00"})), call_chunk(fragment(0, "c", "f", "\ud83d"))
    )
    assert [item.arguments or item.text for item in answer.items] == ["a\ufffd", "\ufffd", "\ufffd"]
    assert [event.whole.text for event in answer.events if isinstance(event, ItemClosed)] == ["a\ufffd", "\ufffd"]


def test_lists_of_a_choice_belong_to_their_chunk_also_where_they_are_equal() -> None:
    ha = chunk(choice({"content": "ha"}, token_ids=[7], seed=1))
    answer = Translation(role(), ha, ha, chunk(choice({}, token_ids=[8])), end())
    first, again = {"seed": 1, "token_ids": [7]}, {"token_ids": [7]}
    assert [extra.choice for _, extra in answer.translated] == [{}, first, again, {"token_ids": [8]}]
    assert answer.items[0].text == "haha"


# limits


def test_items_beyond_the_limit_count_as_malformed() -> None:
    kinds = ("reasoning_content", "content")
    chunks = [chunk(choice({kinds[number % 2]: "x"})) for number in range(MAX_ITEMS + 5)]
    answer = Translation(*chunks, chunk(choice({}, vendor="late")), end())
    assert len(answer.items) == MAX_ITEMS
    assert answer.translator.malformed == 3  # of 5; those of the last item's kind continue it


def test_choice_without_room_for_an_item_ends() -> None:
    """Its fields would need an empty text."""
    calls = [fragment(number, f"call_{number}", "f", "{}") for number in range(MAX_ITEMS)]
    answer = Translation(call_chunk(*calls), chunk(choice({}, index=1, vendor=1)), end(), end(index=1))
    assert len(answer.items) == MAX_ITEMS
    assert answer.translator.status == "completed"


def test_choices_of_a_chunk_beyond_the_limit_count_as_malformed() -> None:
    answer = Translation(chunk(*(choice({"content": "x"}) for _ in range(MAX_ITEMS + 2))))
    assert (answer.items[0].text, answer.translator.malformed) == ("x" * MAX_ITEMS, 2)
