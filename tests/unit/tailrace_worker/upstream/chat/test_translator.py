import copy
import json as standard_json
import sys
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.upstreams import (
    STREAMS,
    USAGE,
    Json,
    calling,
    choice,
    chunk,
    citation,
    end,
    fold_chunks,
    fragment,
    logprob,
    random_streams,
    role,
    said,
)
from tailrace import jsoncodec
from tailrace.events import (
    NO_EXTRA,
    Delta,
    Entry,
    Event,
    Extra,
    Failure,
    Finish,
    Item,
    ItemClosed,
    ItemOpened,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    Upstream,
    seq_span,
)
from tailrace.ids import EntryId
from tailrace.log import codec
from tailrace.log.output import Output
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated

# ── what the tests say ──────────────────────────────────────────────────────────────────────────────────────────────


class Told:
    """A whole stream, translated. `pieces` include those of `close`; every entry goes through the codec."""

    def __init__(self, *chunks: Json, **options: Any) -> None:
        self.translator = ChatTranslator(**options)
        self.pieces = [piece for each in chunks for piece in self.translator.translate(each)]
        self.pieces += self.translator.close()
        self.entries = list(numbered(self.pieces))

    @property
    def events(self) -> list[Event]:
        return [event for event, _ in self.pieces]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def items(self) -> list[Item]:
        return Output(self.entries, logprobs=True).items()

    @property
    def calls(self) -> list[tuple[str | None, str | None, str | None]]:
        return [(item.id, item.name, item.arguments) for item in self.items if item.type == "call"]

    def extras(self, kind: type[Event] = Event) -> list[Extra]:
        return [extra for event, extra in self.pieces if isinstance(event, kind) and extra is not NO_EXTRA]


def numbered(pieces: list[Translated]) -> list[Entry]:
    """Entries as the writer makes them, each stored and read again."""
    entries, n = [], -1
    for event, extra in pieces:
        n += seq_span(event, extra)
        row = codec.to_row(Entry(EntryId(1, n), event, extra))
        entries.append(codec.from_row(row))
        assert codec.to_row(entries[-1]) == row
    return entries


def merged(pieces: list[Translated]) -> list[Translated]:
    """All that the writer may merge, merged."""
    result: list[Translated] = []
    for event, extra in pieces:
        last, last_extra = result[-1] if result else (None, NO_EXTRA)
        plain = extra is last_extra is NO_EXTRA
        if plain and isinstance(event, Delta) and isinstance(last, Delta) and event.continues(last):
            result[-1] = Translated(last.with_text(last.text + event.text), NO_EXTRA)
        else:
            result.append(Translated(event, extra))
    return result


def folded(told: Told, pieces: list[Translated]) -> Json:
    """What the events say, in the oracle's words."""
    items = Output(numbered(pieces)).items()
    translator = told.translator
    choices = {each.index: _folded_choice(each, items, pieces) for each in translator.finish}
    return {
        "choices": choices,
        "usage": translator.usage,
        "error": translator.failure and translator.failure.message,
        "top": translator.extra.chunk_fields,
    }


def _folded_choice(finish: Finish, items: list[Item], pieces: list[Translated]) -> Json:
    mine = [item for item in items if item.choice == finish.index]
    extras = [extra for event, extra in pieces if getattr(event, "choice", None) == finish.index]

    def text_of(kind: str) -> str | None:
        return "".join(item.text or "" for item in mine if item.type == kind) or None

    # What rides in `extra.choice` and `extra.delta` is added up as chunks are.
    riding = [chunk(choice(extra.delta, **extra.choice)) for extra in extras]
    carried = fold_chunks(riding)["choices"].get(0) or fold_chunks([chunk(choice({}))])["choices"][0]
    return {
        **carried,
        "content": text_of("text"),
        "reasoning": text_of("reasoning"),
        "refusal": text_of("refusal"),
        "tool_calls": [
            {"id": item.id, "name": item.name, "arguments": item.arguments, "call": item.call or {}}
            for item in mine
            if item.type == "call"
        ],
        "finish_reason": finish.finish_reason,
    }


def oracle(chunks: list[Json]) -> Json:
    folded = fold_chunks(chunks)
    return {**folded, "error": folded["error"] and folded["error"]["message"]}


# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STREAMS)
def test_folding_the_events_gives_what_folding_the_chunks_gives(name: str) -> None:
    told = Told(*STREAMS[name])
    assert folded(told, told.pieces) == folded(told, merged(told.pieces)) == oracle(STREAMS[name])
    assert told.translator.malformed == 0


@given(random_streams())
def test_folding_the_events_of_any_stream_gives_what_folding_its_chunks_gives(chunks: list[Json]) -> None:
    told = Told(*chunks)
    assert folded(told, told.pieces) == folded(told, merged(told.pieces)) == oracle(chunks)
    assert told.translator.malformed == 0
    assert told.translator.is_complete


@given(random_streams())
def test_every_event_of_any_stream_is_in_its_place(chunks: list[Json]) -> None:
    told = Told(*chunks, logprobs=True)
    open_items: dict[int, ItemOpened] = {}
    introduced: list[int] = []
    fold = Output(logprobs=True)
    for entry in told.entries:
        event, extra = entry.event, entry.extra
        assert entry.is_contiguous_after(EntryId(1, fold.last_seq))
        fold.add(entry)
        if isinstance(event, ItemOpened):
            assert event.item == fold.next_item - 1
            introduced += event.choices
            assert event.choice in introduced
            open_items[event.item] = event
        elif isinstance(event, Delta):
            opened = open_items[event.item]
            assert (opened.choice, opened.type) == (event.choice, _type_of(event))
            assert event.text or extra is not NO_EXTRA
            assert isinstance(event, Text) or not extra.annotations
        elif isinstance(event, ItemClosed):
            assert extra is NO_EXTRA
            assert event.whole == fold.items()[event.whole.item]
            assert open_items.pop(event.whole.item).type != "call"
        beside_calls = Counter(each.choice for each in open_items.values() if each.type != "call")
        assert all(count == 1 for count in beside_calls.values())
    assert introduced == list(range(len(introduced)))


def _type_of(event: Delta) -> str:
    return {Text: "text", Reasoning: "reasoning", Refusal: "refusal", ToolArguments: "call"}[type(event)]


ODD_VALUES: list[Any] = [None, True, False, 0, -1, 7, 10**30, 1.5, float("nan"), "", "x", "\ud83d", "\ude00", [], {},
                         [None], [[]], ["x"], [1], [{}], {"x": "\ud800"}, {"content": 1}, {"text": 1}]  # fmt: skip


def _vandalised(random: Random, value: Any) -> Any:
    """The same value with odd ones here and there."""
    if random.random() < 0.08:
        return random.choice(ODD_VALUES)
    if isinstance(value, dict):
        return {key: _vandalised(random, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_vandalised(random, each) for each in value]
    return value


@given(st.sampled_from(sorted(STREAMS)), st.randoms(use_true_random=False))
def test_nothing_odd_inside_a_chunk_ever_raises(name: str, random: Random) -> None:
    chunks = [{key: _vandalised(random, value) for key, value in each.items()} for each in STREAMS[name]]
    told = Told(*chunks)
    done = Output(told.entries).build_done(
        told.translator.status, 1.0, finish=told.translator.finish, usage=told.translator.usage,
        error=told.translator.failure, upstream=told.translator.upstream,
    )  # fmt: skip
    codec.to_row(Entry(EntryId(1, 10**6), done, told.translator.extra))


@given(st.recursive(st.sampled_from(ODD_VALUES), lambda inner: st.lists(inner, max_size=2)), st.data())
def test_each_known_field_may_hold_anything(value: Any, data: st.DataObject) -> None:
    paths = ("id", "model", "usage", "choices", "error", "x", "index", "delta", "message", "finish_reason", "logprobs",
             "y", "role", "content", "reasoning", "reasoning_content", "refusal", "annotations", "tool_calls", "z",
             "function", "name", "arguments", "type", "custom", "extra_content", "thinking")  # fmt: skip
    field = data.draw(st.sampled_from(paths))
    whole = calling(fragment(0, "call_a", "f", "{}"))
    told_choice = whole["choices"][0]
    told_call = told_choice["delta"]["tool_calls"][0]
    part = {"type": "thinking", "thinking": "hm"}
    told_choice["delta"]["content"] = [part]
    for place in (whole, told_choice, told_choice["delta"], told_call, told_call["function"], part):
        if field in place or field in ("x", "y", "z", "usage", "error"):
            place[field] = value
    if isinstance(told_choice["delta"], dict):
        told_choice["delta"].setdefault(field, value)
    Told(copy.deepcopy(whole), said("a"), end())


# ── items and kinds ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plain_answer_is_one_text_that_stays_open() -> None:
    told = Told(role(), said("Hel"), said("lo"), end())
    assert told.events == [ItemOpened(0, "text", choices=[0]), Text(0, "Hel"), Text(0, "lo")]
    assert all(extra is NO_EXTRA for _, extra in told.pieces)


def test_a_change_of_kind_closes_what_is_open_with_the_whole_of_it() -> None:
    told = Told(chunk(choice({"reasoning_content": "h"})), chunk(choice({"reasoning_content": "m"})), said("Yes"))
    assert told.events == [
        ItemOpened(0, "reasoning", choices=[0]),
        Reasoning(0, "h"),
        Reasoning(0, "m"),
        ItemClosed(Item(0, "reasoning", text="hm")),
        ItemOpened(1, "text"),
        Text(1, "Yes"),
    ]


def test_a_kind_that_comes_back_is_another_item() -> None:
    told = Told(*STREAMS["reasoning_between_texts"])
    assert [(item.type, item.text) for item in told.items] == [
        ("text", "First this."), ("reasoning", "Then what?"), ("text", "Then that."),
    ]  # fmt: skip


def test_refusal_and_content_are_two_items() -> None:
    told = Told(said("Well, "), chunk(choice({"refusal": "no."})))
    assert [(item.type, item.text) for item in told.items] == [("text", "Well, "), ("refusal", "no.")]


def test_items_are_numbered_on_from_the_first_that_is_free() -> None:
    told = ChatTranslator(first_item=5)
    opened = [event.item for event, _ in told.translate(said("a")) if isinstance(event, ItemOpened)]
    opened += [
        event.item for event, _ in told.translate(calling(fragment(0, "c", "f"))) if isinstance(event, ItemOpened)
    ]
    assert opened == [5, 6]


def test_the_key_of_reasoning_is_the_upstreams() -> None:
    told = Told(chunk(choice({"reasoning": "a"})), chunk(choice({"reasoning_content": "b"})))
    assert told.events[1:] == [Reasoning(0, "a", key="reasoning"), Reasoning(0, "b")]


def test_reasoning_told_under_two_keys_is_told_once() -> None:
    told = Told(chunk(choice({"reasoning": "a", "reasoning_content": "a"})))
    assert told.events[1:] == [Reasoning(0, "a")]


def test_thinking_parts_are_reasoning_and_unknown_parts_ride_along() -> None:
    parts: list[Any] = [{"type": "thinking", "thinking": "a"}, {"type": "thinking", "thinking": [{"text": "b"}]},
                        {"type": "text", "text": "c"}, {"type": "reference", "ids": [1]}, "d"]  # fmt: skip
    told = Told(chunk(choice({"content": parts})))
    assert [(item.type, item.text) for item in told.items] == [("reasoning", "ab"), ("text", "cd")]
    assert told.extras(Text) == [Extra(delta={"content_parts": [{"type": "reference", "ids": [1]}]})]


def test_an_answer_told_whole_is_read_from_its_message() -> None:
    assert Told(chunk({"index": 0, "message": {"content": "all"}, "finish_reason": "stop"})).items[0].text == "all"
    repeated = {"index": 0, "message": {"content": "abc"}}
    told = Told(chunk({**repeated, "delta": {"content": "a"}}), chunk({**repeated, "delta": {"content": "bc"}}),
                chunk(repeated))  # fmt: skip
    assert told.events[1:] == [Text(0, "a"), Text(0, "bc")]


# ── choices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_choices_first_appear_in_index_order_whoever_speaks_first() -> None:
    told = Told(role(0), role(1), role(2), said("b", 1), said("a", 0), said("c", 2), said("e", 4))
    opened = [event for event in told.events if isinstance(event, ItemOpened)]
    assert [(each.choice, each.choices) for each in opened] == [(1, [0, 1, 2]), (0, []), (2, []), (4, [3, 4])]


def test_a_choice_in_which_nothing_was_opened_has_its_role_with_its_end() -> None:
    told = Told(*STREAMS["openai_two_empty_choices"]).translator
    assert told.finish == [Finish(0, "stop", role=True), Finish(1, "stop", role=True)]
    assert Told(said("a"), role(1), end(), end(index=1)).translator.finish == [
        Finish(0, "stop"), Finish(1, "stop", role=True),
    ]  # fmt: skip


def test_choices_do_not_close_each_other() -> None:
    told = Told(said("a", 0), chunk(choice({"reasoning_content": "b"}, index=1)), said("c", 0))
    assert told.kinds == ["item_opened", "text", "item_opened", "reasoning", "text"]


def test_an_absurd_index_is_passed_over() -> None:
    told = Told(said("a"), said("b", 10**9), said("c", 128))
    assert told.kinds == ["item_opened", "text"]
    assert told.translator.malformed == 2


# ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_stay_open_and_their_fragments_may_interleave() -> None:
    told = Told(*STREAMS["openai_interleaved_calls"])
    assert told.calls == [("call_a", "look", '{"q":1}'), ("call_b", "look", '{"q":2}')]
    assert "item_closed" not in told.kinds
    assert {(each.tool, each.call) for each in told.events if isinstance(each, ToolArguments)} == {
        (0, "call_a"), (1, "call_b"),
    }  # fmt: skip


def test_a_call_closes_the_text_before_it() -> None:
    told = Told(said("Let me look."), calling(fragment(0, "call_a", "look", "{}")))
    assert told.events[2:] == [
        ItemClosed(Item(0, "text", text="Let me look.")),
        ItemOpened(1, "call", id="call_a", name="look"),
        ToolArguments(1, "{}", call="call_a"),
    ]


def test_the_same_index_with_a_new_id_and_a_name_is_a_new_call() -> None:
    told = Told(
        calling(fragment(0, "a", "f", "1")), calling(fragment(0, "b", "f", "2")), calling(fragment(0, None, None, "3"))
    )
    assert told.calls == [("a", "f", "1"), ("b", "f", "23")]


def test_a_new_id_alone_is_no_new_call() -> None:
    assert Told(calling(fragment(0, "a", "f", "1")), calling(fragment(0, "b", None, "2"))).calls == [("a", "f", "12")]


def test_a_repeated_name_and_an_empty_id_say_nothing_new() -> None:
    told = Told(
        calling(fragment(0, "a", "f", "1")), calling(fragment(0, "", "f", "2")), calling(fragment(0, "a", "f", "3"))
    )
    assert told.calls == [("a", "f", "123")]


def test_another_name_at_the_same_index_is_a_new_call_even_without_an_id() -> None:
    told = Told(calling(fragment(0, "a", "f", "1")), calling(fragment(0, None, "g", "2")))
    assert [call[1:] for call in told.calls] == [("f", "1"), ("g", "2")]


def test_without_an_index_a_fragment_belongs_to_its_id_else_to_the_last_call() -> None:
    told = Told(
        calling(fragment(None, "a", "f", "1"), fragment(None, "b", "f", "2")),
        calling(fragment(None, "a", None, "3")),
        calling(fragment(None, "b", "f", "4")),
        calling(fragment(None, None, None, "5")),
        calling(fragment(None, "c", None, "6")),
    )
    assert told.calls == [("a", "f", "13"), ("b", "f", "2456")]


def test_calls_without_index_and_id_are_kept_apart_within_a_chunk() -> None:
    told = Told(
        calling(fragment(None, None, "f", "1"), fragment(None, None, "f", "2")), calling(fragment(None, None, "f", "3"))
    )
    assert [call[1:] for call in told.calls] == [("f", "1"), ("f", "23")]


def test_an_index_that_comes_late_is_bound_by_the_id() -> None:
    told = Told(
        calling(fragment(None, "a", "f", "1")),
        calling(fragment(0, "a", None, "2")),
        calling(fragment(0, None, None, "3")),
    )
    assert told.calls == [("a", "f", "123")]


def test_a_call_is_held_until_its_name_comes() -> None:
    translator = ChatTranslator()
    assert translator.translate(calling(fragment(0, "a", None, '{"q"', extra_content=1))) == []
    assert translator.translate(calling(fragment(0, None, None, ":"))) == []
    assert translator.translate(calling(fragment(0, None, "f", "1}"))) == [
        (ItemOpened(0, "call", choices=[0], id="a", name="f"), Extra(call={"extra_content": 1})),
        (ToolArguments(0, '{"q":1}', call="a"), NO_EXTRA),
    ]


def test_a_call_whose_name_never_comes_is_told_at_the_end() -> None:
    assert Told(said("x"), calling(fragment(0, "a", None, "{}")), end("tool_calls")).calls == [("a", "", "{}")]


def test_calls_without_ids_get_ids_of_their_own() -> None:
    (first, *_), (second, *_) = Told(calling(fragment(0, None, "f", "1"), fragment(1, "", "f", "2"))).calls
    assert first
    assert second
    assert first != second
    assert first.startswith("call_")


def test_what_a_call_has_beside_its_words_rides_with_the_fragment_that_had_it() -> None:
    told = Told(
        calling(fragment(0, "a", "f", "1", extra_content={"s": 1})),
        calling(fragment(0, None, None, "", extra_content={"s": 2})),
        calling({"index": 0, "function": {"arguments": "2", "signature": "x"}}),
    )
    assert [(event.kind, extra.call) for event, extra in told.pieces] == [
        ("item_opened", {"extra_content": {"s": 1}}),
        ("tool_arguments", {}),
        ("tool_arguments", {"extra_content": {"s": 2}}),
        ("tool_arguments", {"signature": "x"}),
    ]
    assert told.items[0].call == {"extra_content": {"s": 2}, "signature": "x"}


def test_arguments_told_parsed_are_written_as_json() -> None:
    told = Told(calling({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"q": 1}}}))
    assert told.calls == [("a", "f", '{"q":1}')]


def test_custom_calls_ride_verbatim_at_their_place_among_the_calls() -> None:
    custom = {"index": 0, "id": "b", "type": "custom", "custom": {"name": "run", "input": ""}}
    told = Told(
        calling(fragment(0, "a", "f", "1")),
        calling(custom),
        calling({"index": 0, "custom": {"input": "ls"}}),
        calling(fragment(2, "c", "f", "2")),
    )
    assert [extra.delta["tool_calls"] for extra in told.extras(Text)] == [
        [{**custom, "index": 1}],
        [{"index": 1, "custom": {"input": "ls"}}],
    ]
    assert [event.tool for event in told.events if isinstance(event, ItemOpened) and event.type == "call"] == [0, 2]


def test_tool_ordinals_count_within_a_choice() -> None:
    told = Told(calling(fragment(7, "a", "f", "1")), calling(fragment(9, "b", "f", "2"), index=1),
                calling(fragment(8, "c", "f", "3")))  # fmt: skip
    assert [(e.choice, e.tool) for e in told.events if isinstance(e, ItemOpened)] == [(0, 0), (1, 0), (0, 1)]


# ── what rides along ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_came_first_rides_on_the_first_entry_and_changes_on_the_next() -> None:
    told = Told(*STREAMS["changing_fingerprints"])
    assert [extra.chunk_fields for _, extra in told.pieces] == [
        {"system_fingerprint": "fp_1"}, {"system_fingerprint": "fp_2"}, {},
    ]  # fmt: skip
    assert told.translator.extra == Extra(chunk_fields={"system_fingerprint": "fp_3"})


def test_what_the_first_chunk_did_not_have_never_rides_on_the_first_entry() -> None:
    assert [extra.chunk_fields for _, extra in Told(role(), said("a", x=1), said("b", x=1)).pieces] == [
        {},
        {"x": 1},
        {},
    ]


def test_a_value_overwritten_before_the_next_entry_is_not_told() -> None:
    told = Told(said("a", x=1), chunk(x=2), chunk(x=3), said("b"), chunk(x=4), chunk(x=3), said("c"))
    assert [extra.chunk_fields for _, extra in told.pieces] == [{"x": 1}, {}, {"x": 3}, {}]


def test_sticky_fields_never_ride_on_closed() -> None:
    told = Told(said("a"), chunk(choice({"refusal": "no"}, filtered=True), x=1))
    assert told.kinds == ["item_opened", "text", "item_closed", "item_opened", "refusal"]
    assert [extra for _, extra in told.pieces] == [
        NO_EXTRA, NO_EXTRA, NO_EXTRA, Extra(chunk_fields={"x": 1}, choice={"filtered": True}), NO_EXTRA,
    ]  # fmt: skip


def test_a_choices_fields_stick_to_that_choice() -> None:
    told = Told(chunk(choice({"content": "a"}, safe=1)), chunk(choice({"content": "b"}, index=1, safe=2)),
                chunk(choice({"content": "c"}, safe=1)), chunk(choice({"content": "d"}, index=1, safe=3)))  # fmt: skip
    assert [(event.choice, extra.choice) for event, extra in told.pieces] == [  # type: ignore[attr-defined]
        (0, {"safe": 1}), (0, {}), (1, {"safe": 2}), (1, {}), (0, {}), (1, {"safe": 3}),
    ]  # fmt: skip


def test_a_choices_field_that_comes_last_rides_on_an_empty_delta_at_the_end() -> None:
    told = Told(*STREAMS["vllm_stop_reason"])
    assert told.pieces[-1] == (Text(0, ""), Extra(choice={"stop_reason": "###"}))
    called = Told(calling(fragment(0, "a", "f", "{}")), chunk(choice({}, "tool_calls", why="so")))
    assert called.pieces[-1] == (ToolArguments(0, "", call="a"), Extra(choice={"why": "so"}))


def test_null_and_empty_fields_say_nothing() -> None:
    nothing: list[Any] = [None, "", [], {}]
    told = Told(*(chunk(choice({"content": "", "x": each, "audio": each}, None, y=each), z=each) for each in nothing))
    assert told.pieces == []
    assert told.translator.extra is NO_EXTRA


def test_zero_and_false_do_say_something() -> None:
    told = Told(chunk(choice({"content": "a", "x": 0}, y=False), z=0))
    assert told.extras() == [Extra(chunk_fields={"z": 0}, choice={"y": False}), Extra(delta={"x": 0})]


def test_padding_is_dropped() -> None:
    told = Told(chunk(choice({"content": "a", "obfuscation": "xx"}), obfuscation="yyy"))
    assert told.extras() == []


def test_unknown_fields_of_a_delta_are_told_once_per_occurrence() -> None:
    told = Told(said("a"), chunk(choice({"x": 1})), chunk(choice({"x": 1, "content": "b"})), said("c"))
    assert told.pieces[1:] == [
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
def test_what_has_no_text_of_its_own_rides_on_the_open_item(before: Json, delta: Delta) -> None:
    assert Told(chunk(choice(before)), chunk(choice({"x": 1}))).pieces[-1] == (delta, Extra(delta={"x": 1}))


def test_in_a_chunk_of_several_kinds_the_text_carries() -> None:
    told = Told(chunk(choice({"reasoning_content": "r", "content": "t", "refusal": "n", "x": 1})))
    assert [event.kind for event, extra in told.pieces if extra.delta] == ["text"]


def test_beside_a_call_the_first_arguments_carry() -> None:
    told = Told(calling(fragment(0, "a", "f"), fragment(1, "b", "f", "{}")), calling(fragment(1, None, None, "2")))
    assert told.kinds == ["item_opened", "item_opened", "tool_arguments", "tool_arguments"]
    call = chunk(choice({"x": 1, "tool_calls": [fragment(0, "a", "f")]}))
    assert Told(call).pieces[1:] == [(ToolArguments(0, "", call="a"), Extra(delta={"x": 1}))]


def test_the_annotations_of_a_chunk_stay_together_and_know_how_many_came_before() -> None:
    told = Told(*STREAMS["openai_search"], said("more"), chunk(choice({"refusal": "no"})))
    assert [(len(extra.annotations), extra.before) for extra in told.extras(Text)] == [(2, 0), (1, 2)]
    assert told.items[0].annotations == [citation(1), citation(2), citation(3)]
    assert [event.whole.annotations for event in told.events if isinstance(event, ItemClosed)] == [
        told.items[0].annotations
    ]


def test_annotations_are_about_a_text() -> None:
    told = Told(chunk(choice({"reasoning_content": "r"})), chunk(choice({"annotations": [citation(1)]})))
    assert [item.type for item in told.items] == ["reasoning", "text"]
    after = Told(said("t"), calling(fragment(0, "a", "f", "{}")), chunk(choice({"annotations": [citation(1)]})))
    assert [(item.type, item.annotations) for item in after.items][2] == ("text", [citation(1)])


def test_a_text_with_logprobs_is_kept_though_it_is_empty() -> None:
    told = Told(chunk(choice({"content": ""}, logprobs={"content": [logprob("x")], "refusal": None})))
    assert told.pieces[1:] == [
        (Text(0, ""), Extra(choice={"logprobs": {"content": [logprob("x")], "refusal": None}}))
    ]  # fmt: skip


def test_closed_repeats_logprobs_only_where_they_are_asked_for() -> None:
    chunks = [*STREAMS["openai_logprobs"], chunk(choice({"refusal": "no"}))]
    for asked, count in ((True, 4), (False, 0)):
        (closed,) = (event for event in Told(*chunks, logprobs=asked).events if isinstance(event, ItemClosed))
        assert len(closed.whole.logprobs) == count


def test_logprobs_beside_a_call_do_not_count_for_the_text() -> None:
    told = Told(
        calling(fragment(0, "a", "f", "1")),
        said("t"),
        chunk(choice({"tool_calls": [fragment(0, None, None, "2")]}, logprobs={"content": [logprob("2")]})),
        chunk(choice({"refusal": "no"})),
        logprobs=True,
    )
    assert [event.whole for event in told.events if isinstance(event, ItemClosed)] == [Item(1, "text", text="t")]
    assert told.items[1].logprobs == []


# ── half characters ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_halves_of_a_pair_meet_across_deltas() -> None:
    told = Told(said("a\ud83d"), said(""), said("\ude00b"))
    assert told.events[1:] == [Text(0, "a"), Text(0, "😀b")]


@pytest.mark.parametrize("texts", [["\ud83d", "b"], ["\ud83d\ud83d", "\ude00"], ["\ude00"], ["é\ud83d", "é"]])
def test_orphaned_halves_become_replacement_characters(texts: list[str]) -> None:
    told = Told(*map(said, texts))
    assert told.items[0].text == jsoncodec.replace_lone_surrogates("".join(texts))
    jsoncodec.dumps(told.items[0].text)


def test_a_half_waits_in_its_own_item() -> None:
    told = Told(
        calling(fragment(0, "a", "f", "\ud83d"), fragment(1, "b", "f", "\ud83d")),
        said("\ud83d", 1),
        calling(fragment(1, None, None, "\ude00"), fragment(0, None, None, "\ude01")),
        said("\ude02", 1),
    )
    assert [item.arguments or item.text for item in told.items] == ["😁", "😀", "😂"]


def test_a_half_is_given_up_when_its_item_closes() -> None:
    told = Told(said("a\ud83d"), chunk(choice({"refusal": "\ude00"})), calling(fragment(0, "c", "f", "\ud83d")))
    assert [item.arguments or item.text for item in told.items] == ["a\ufffd", "\ufffd", "\ufffd"]
    assert [event.whole.text for event in told.events if isinstance(event, ItemClosed)] == ["a\ufffd", "\ufffd"]


def test_halves_beside_the_text_are_mended_too() -> None:
    half = "x\ud83d"
    told = Told(
        chunk(
            choice({"content": "a", half: half}, half, y=[half]), z={"k": half}, id=half, model=half, usage={"u": half}
        ),
        calling(fragment(0, half, half, "{}", more=half)),
    )
    for entry in told.entries:
        standard_json.dumps(codec.to_row(entry), ensure_ascii=False).encode()
    translator = told.translator
    assert translator.upstream == Upstream("x\ufffd", "x\ufffd")
    assert (translator.usage, translator.finish[0].finish_reason) == ({"u": "x\ufffd"}, "x\ufffd")


# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("reasons", "status"), [
    (["stop"], "completed"),
    (["tool_calls"], "completed"),
    (["function_call"], "completed"),
    (["length"], "incomplete"),
    (["content_filter"], "incomplete"),
    (["stop", "length"], "incomplete"),
    (["eos"], "completed"),
    ([None], "completed"),
    ([], "completed"),
])  # fmt: skip
def test_finish_reasons_imply_the_status(reasons: list[str | None], status: str) -> None:
    translator = ChatTranslator()
    translator.translate(chunk(*(choice({}, reason, index) for index, reason in enumerate(reasons))))
    assert translator.status == status


def test_an_answer_is_finished_when_each_of_its_choices_is() -> None:
    translator = ChatTranslator()
    assert not translator.is_complete
    for told, finished in ((said("a"), False), (role(1), False), (end(), False), (end("length", 1), True)):
        translator.translate(told)
        assert translator.is_complete is finished
    assert translator.finish == [Finish(0, "stop"), Finish(1, "length", role=True)]


def test_an_empty_finish_reason_is_none_and_the_last_one_counts() -> None:
    told = Told(chunk(choice({"content": "a"}, "")), end("stop"), end("tool_calls"), said("b")).translator
    assert told.finish == [Finish(0, "tool_calls")]
    assert Told(chunk(choice({"content": "a"}, ""))).translator.finish == [Finish(0, None)]


def test_the_last_usage_counts_wherever_it_stands() -> None:
    assert Told(chunk(usage={"a": 1}), chunk(usage=None), chunk(usage={"a": 2}), chunk(usage={})).translator.usage == {
        "a": 2
    }
    assert Told(chunk(choice({}, "stop", usage=USAGE))).translator.usage == USAGE
    assert Told(chunk(choice({}, "stop", usage={"a": 1}), usage=USAGE)).translator.usage == USAGE
    assert Told(said("a"), end()).translator.usage is None


def test_the_upstreams_id_and_model_are_the_first_that_say_anything() -> None:
    told = Told(chunk(id="", model=""), chunk(id="a", model=None), chunk(id="b", model="m"), chunk(id="c", model="n"))
    assert told.translator.upstream == Upstream("a", "m")
    assert Told({"choices": []}).translator.upstream == Upstream()


@pytest.mark.parametrize(("told", "failure"), [
    ({"error": {"message": "Busy", "type": "overloaded", "code": "busy", "param": "model"}},
     Failure("Busy", "busy", "overloaded", "model")),
    ({"error": {"message": "Busy", "type": "overloaded", "code": None}}, Failure("Busy", "overloaded", "overloaded")),
    ({"error": {"message": "Busy", "code": 503}}, Failure("Busy", "503")),
    ({"error": "Busy"}, Failure("Busy", "upstream_error")),
    ({"error": {"code": 1}}, Failure("The upstream failed.", "1")),
    ({"error": True}, Failure("true", "upstream_error")),
    ({"error": ["Busy"]}, Failure('["Busy"]', "upstream_error")),
    ({"error": {"message": {"detail": "Busy"}}}, Failure('{"detail":"Busy"}', "upstream_error")),
    ({"error": {"message": "Half \ud83d", "param": 1}}, Failure("Half \ufffd", "upstream_error")),
    ({"object": "error", "message": "Busy", "type": "BadRequestError", "code": 400},
     Failure("Busy", "400", "BadRequestError")),
    (chunk(choice({}, "error")), Failure("The upstream aborted the answer.", "error")),
    (chunk(choice({}, "error"), error={"message": "Gone", "code": 502}), Failure("Gone", "502")),
])  # fmt: skip
def test_an_error_in_the_stream_is_a_failure_whatever_its_shape(told: Json, failure: Failure) -> None:
    translator = ChatTranslator()
    translator.translate(said("Half of"))
    assert translator.failure is None
    translator.translate(told)
    assert translator.failure == failure


def test_an_error_that_says_nothing_is_none() -> None:
    assert Told(said("a", error=None), said("b", error={}), said("c", error="")).translator.failure is None


@pytest.mark.parametrize("odd", [
    {"choices": {"index": 0}}, {"choices": "x"}, {"choices": [1]}, {"choices": [{"index": "0"}]},
    {"choices": [{"delta": "x"}]}, {"choices": [{"delta": {"content": 5}}]}, {"choices": [{"delta": {"refusal": []}}]},
    {"choices": [{"delta": {"reasoning": {"a": 1}}}]}, {"choices": [{"delta": {"tool_calls": {"index": 0}}}]},
    {"choices": [{"delta": {"tool_calls": ["x"]}}]}, {"choices": [{"delta": {"annotations": "x"}}]},
    {"choices": [{"delta": {"annotations": [1]}}]}, {"choices": [{"logprobs": 1}]},
    {"choices": [{"logprobs": {"content": "x"}}]}, {"choices": [{"finish_reason": 3}]}, {"usage": 3}, {"model": 3},
    {"choices": [{"delta": {"content": [{"type": "text", "text": 3}]}}]},
])  # fmt: skip
def test_what_makes_no_sense_is_passed_over_and_counted(odd: Json) -> None:
    told = Told(odd, said("a"))
    assert told.kinds == ["item_opened", "text"]
    assert told.extras() == []
    assert told.translator.malformed == 1


def test_a_chunk_may_be_nested_as_deep_as_the_parser_goes() -> None:
    deep: Any = "x\ud83d"
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    told = Told(chunk(choice({"content": "a", "x": deep}), y=deep, usage={"z": deep}), end())
    assert [item.text for item in told.items] == ["a"]
    assert told.translator.malformed == 3


def test_chunks_are_not_changed() -> None:
    for chunks in STREAMS.values():
        before = copy.deepcopy(chunks)
        Told(*chunks)
        assert chunks == before
