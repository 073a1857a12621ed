"""ChatTranslator: whole answers against an oracle that adds chunks up, choices, and how an answer ends."""

import copy
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chat_chunks import USAGE, Json, call_chunk, choice, chunk, end, fragment, role, text_chunk
from support.chat_streams import STREAMS
from support.chunk_fold import fold_chunks
from support.random_streams import random_streams
from support.translation import Translation, coalesced, numbered
from tailrace.events import (
    NO_EXTRA,
    Delta,
    Entry,
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
)
from tailrace.ids import EntryId
from tailrace.log import codec
from tailrace.log.output import Output
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Translated


def folded(answer: Translation, translated: list[Translated]) -> Json:
    """The answer as its events give it, in the shape of the oracle."""
    items = Output(numbered(translated)).items()
    translator = answer.translator
    choices = {each.index: _folded_choice(each, items, translated) for each in translator.finish}
    by_choice = sorted(items, key=lambda item: item.choice)
    extras = [*(extra for _, extra in translated), translator.extra]
    return {
        "choices": choices,
        "usage": translator.usage,
        "error": translator.failure and translator.failure.message,
        "chunk_fields": fold_chunks(chunk(**extra.chunk_fields) for extra in extras)["chunk_fields"],
        "items": [_folded_item(item) for item in by_choice if item.type == "call" or item.text],
    }


def _folded_item(item: Item) -> Json:
    if item.type != "call":
        return {"choice": item.choice, "type": item.type, "text": item.text}
    return {"choice": item.choice, "type": "call", **_folded_call(item)}


def _folded_call(item: Item) -> Json:
    return {
        "id": item.id,
        "name": item.name,
        "arguments": item.arguments,
        "call": item.call or {},
        "is_custom": item.custom,
    }


def _folded_choice(finish: Finish, items: list[Item], translated: list[Translated]) -> Json:
    mine = [item for item in items if item.choice == finish.index]
    extras = [extra for event, extra in translated if getattr(event, "choice", None) == finish.index]

    def text_of(kind: str) -> str | None:
        return "".join(item.text or "" for item in mine if item.type == kind) or None

    # Fields in `extra.choice` and `extra.delta` are added up as chunks are.
    passed = [chunk(choice(extra.delta, **extra.choice)) for extra in extras]
    carried = fold_chunks(passed)["choices"].get(0) or fold_chunks([chunk(choice({}))])["choices"][0]
    return {
        **carried,
        "content": text_of("text"),
        "reasoning": text_of("reasoning"),
        "refusal": text_of("refusal"),
        "tool_calls": [_folded_call(item) for item in mine if item.type == "call"],
        "finish_reason": finish.finish_reason,
    }


def oracle(chunks: list[Json]) -> Json:
    folded = fold_chunks(chunks)
    return {**folded, "error": folded["error"] and folded["error"]["message"]}


# answers as a whole


@pytest.mark.parametrize("name", STREAMS)
def test_folded_events_equal_folded_chunks(name: str) -> None:
    answer = Translation(*STREAMS[name])
    assert folded(answer, answer.translated) == folded(answer, coalesced(answer.translated)) == oracle(STREAMS[name])
    assert answer.translator.malformed == 0


@given(random_streams())
def test_folded_events_equal_folded_chunks_for_any_stream(chunks: list[Json]) -> None:
    answer = Translation(*chunks)
    assert folded(answer, answer.translated) == folded(answer, coalesced(answer.translated)) == oracle(chunks)
    assert answer.translator.malformed == 0
    assert answer.translator.is_complete


@given(random_streams())
def test_events_of_any_stream_are_in_their_places(chunks: list[Json]) -> None:
    answer = Translation(*chunks, logprobs=True)
    open_items: dict[int, ItemOpened] = {}
    introduced: list[int] = []
    fold = Output(logprobs=True)
    for entry in answer.entries:
        event, extra = entry.event, entry.extra
        assert entry.is_contiguous_after(fold.last_id)
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


MALFORMED_VALUES: list[Any] = [
    None, True, False, 0, -1, 7, 10**30, 1.5, float("nan"), "", "x", "\ud83d", "\ude00", [], {}, [None], [[]], ["x"],
    [1], [{}], {"x": "\ud800"}, {"content": 1}, {"text": 1},
]  # fmt: skip


def _vandalized(random: Random, value: Any) -> Any:
    """The same value with malformed ones here and there."""
    if random.random() < 0.08:
        return random.choice(MALFORMED_VALUES)
    if isinstance(value, dict):
        return {key: _vandalized(random, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_vandalized(random, each) for each in value]
    return value


@given(st.sampled_from(sorted(STREAMS)), st.randoms(use_true_random=False))
def test_malformed_values_inside_a_chunk_never_raise(name: str, random: Random) -> None:
    chunks = [{key: _vandalized(random, value) for key, value in each.items()} for each in STREAMS[name]]
    answer = Translation(*chunks)
    done = Output(answer.entries).build_done(
        answer.translator.status, 1.0, finish=answer.translator.finish, usage=answer.translator.usage,
        error=answer.translator.failure, upstream=answer.translator.upstream,
    )  # fmt: skip
    codec.to_row(Entry(EntryId(1, 10**6), done, answer.translator.extra))


@given(st.recursive(st.sampled_from(MALFORMED_VALUES), lambda inner: st.lists(inner, max_size=2)), st.data())
def test_known_fields_may_hold_any_value(value: Any, data: st.DataObject) -> None:
    paths = ("id", "model", "usage", "choices", "error", "x", "index", "delta", "message", "finish_reason", "logprobs",
             "y", "role", "content", "reasoning", "reasoning_content", "refusal", "annotations", "tool_calls", "z",
             "function", "name", "arguments", "type", "custom", "extra_content", "thinking")  # fmt: skip
    field = data.draw(st.sampled_from(paths))
    whole = call_chunk(fragment(0, "call_a", "f", "{}"))
    first_choice = whole["choices"][0]
    first_call = first_choice["delta"]["tool_calls"][0]
    part = {"type": "thinking", "thinking": "hm"}
    first_choice["delta"]["content"] = [part]
    for place in (whole, first_choice, first_choice["delta"], first_call, first_call["function"], part):
        if field in place or field in ("x", "y", "z", "usage", "error"):
            place[field] = value
    if isinstance(first_choice["delta"], dict):
        first_choice["delta"].setdefault(field, value)
    Translation(copy.deepcopy(whole), text_chunk("a"), end())


def test_chunks_are_not_modified() -> None:
    for chunks in STREAMS.values():
        before = copy.deepcopy(chunks)
        Translation(*chunks)
        assert chunks == before


def test_item_numbers_begin_at_first_item() -> None:
    answer = Translation(text_chunk("a"), call_chunk(fragment(0, "c", "f")), first_item=5)
    assert [event.item for event, _ in answer.translated if isinstance(event, ItemOpened)] == [5, 6]


# choices


def test_choices_first_appear_in_index_order_whichever_begins() -> None:
    answer = Translation(
        role(0), role(1), role(2), text_chunk("b", 1), text_chunk("a", 0), text_chunk("c", 2), text_chunk("e", 4)
    )
    opened = [event for event in answer.events if isinstance(event, ItemOpened)]
    assert [(each.choice, each.choices) for each in opened] == [(1, [0, 1, 2]), (0, []), (2, []), (4, [3, 4])]


def test_choice_without_items_has_its_role_with_its_finish() -> None:
    answer = Translation(*STREAMS["openai_two_empty_choices"]).translator
    assert answer.finish == [Finish(0, "stop", role=True), Finish(1, "stop", role=True)]
    assert Translation(text_chunk("a"), role(1), end(), end(index=1)).translator.finish == [
        Finish(0, "stop"), Finish(1, "stop", role=True),
    ]  # fmt: skip


def test_choices_do_not_close_each_others_items() -> None:
    answer = Translation(text_chunk("a", 0), chunk(choice({"reasoning_content": "b"}, index=1)), text_chunk("c", 0))
    assert answer.kinds == ["item_opened", "text", "item_opened", "reasoning", "text"]


# the end


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


def test_answer_is_complete_when_each_of_its_choices_is() -> None:
    translator = ChatTranslator()
    assert not translator.is_complete
    for each, complete in ((text_chunk("a"), False), (role(1), False), (end(), False), (end("length", 1), True)):
        translator.translate(each)
        assert translator.is_complete is complete
    assert translator.finish == [Finish(0, "stop"), Finish(1, "length", role=True)]


def test_done_marks_the_end_of_an_answer_without_finish_reasons() -> None:
    translator = ChatTranslator()
    translator.translate(text_chunk("a"))
    assert translator.read(b"[DONE]") == []
    assert translator.is_complete
    assert translator.finish == [Finish(0, None)]
    assert translator.malformed == 0


@pytest.mark.parametrize(
    ("chunks", "complete"),
    [
        ([], False),
        ([role()], False),
        ([chunk(usage=USAGE)], False),
        ([chunk(choice({"reasoning_content": "So"}))], False),
        ([chunk(choice({"reasoning_content": "So"})), text_chunk("Hi")], True),
        ([chunk(choice({"refusal": "No"}))], True),
        ([call_chunk(fragment(0, "c", "look"))], True),
        ([call_chunk(fragment(0, "c", "look", '{"a":'))], False),
        ([call_chunk(fragment(0, "c", "look", '{"a":')), call_chunk(fragment(0, arguments="1}"))], True),
        ([chunk(choice({"tool_calls": [{"index": 0, "custom": {"name": "run", "input": "ls {"}}]}))], True),
        ([text_chunk("a"), text_chunk("b", 1), end()], False),
    ],
)
def test_done_without_finish_reason_ends_an_answer_that_is_whole(chunks: list[Json], complete: bool) -> None:
    translator = Translation(*chunks).translator
    assert not translator.is_complete
    translator.read(b"[DONE]")
    assert translator.is_complete is complete


def test_completion_in_place_of_a_stream_is_a_complete_answer() -> None:
    message = {"role": "assistant", "content": "Hi"}
    completion = chunk({"index": 0, "message": message}, usage=USAGE) | {"object": "chat.completion"}
    answer = Translation(completion)
    assert answer.translator.is_complete
    assert [item.text for item in answer.items] == ["Hi"]
    assert answer.translator.usage == USAGE


def test_completion_with_deltas_is_a_chunk() -> None:
    translator = ChatTranslator()  # Perplexity sends its chunks as `chat.completion`, with the message so far
    both = {"index": 0, "delta": {"content": "Hi"}, "message": {"role": "assistant", "content": "Hi"}}
    assert [event.kind for event, _ in translator.translate({"object": "chat.completion", "choices": [both]})] == [
        "item_opened", "text",
    ]  # fmt: skip
    assert not translator.is_complete


def test_empty_finish_reason_is_none_and_the_last_one_counts() -> None:
    answer = Translation(
        chunk(choice({"content": "a"}, "")), end("stop"), end("tool_calls"), text_chunk("b")
    ).translator
    assert answer.finish == [Finish(0, "tool_calls")]
    assert Translation(chunk(choice({"content": "a"}, ""))).translator.finish == [Finish(0, None)]


def test_last_usage_counts_on_chunk_and_choice() -> None:
    assert Translation(
        chunk(usage={"a": 1}), chunk(usage=None), chunk(usage={"a": 2}), chunk(usage={})
    ).translator.usage == {"a": 2}
    assert Translation(chunk(choice({}, "stop", usage=USAGE))).translator.usage == USAGE
    assert Translation(chunk(choice({}, "stop", usage={"a": 1}), usage=USAGE)).translator.usage == USAGE
    assert Translation(text_chunk("a"), end()).translator.usage is None


def test_upstreams_id_and_model_are_the_first_non_empty_ones() -> None:
    answer = Translation(
        chunk(id="", model=""), chunk(id="a", model=None), chunk(id="b", model="m"), chunk(id="c", model="n")
    )
    assert answer.translator.upstream == Upstream("a", "m")
    assert Translation({"choices": []}).translator.upstream == Upstream()


@pytest.mark.parametrize(("error", "failure"), [
    ({"error": {"message": "Busy", "type": "overloaded", "code": "busy", "param": "model"}},
     Failure("Busy", "busy", "overloaded", "model")),
    ({"error": {"message": "Busy", "type": "overloaded", "code": None}}, Failure("Busy", "overloaded", "overloaded")),
    ({"error": {"message": "Busy", "code": 503}}, Failure("Busy", "upstream_error", status=503)),
    ({"error": "Busy"}, Failure("Busy", "upstream_error")),
    ({"error": {"code": 1}}, Failure("The upstream failed.", "1")),
    ({"error": True}, Failure("true", "upstream_error")),
    ({"error": ["Busy"]}, Failure('["Busy"]', "upstream_error")),
    ({"error": {"message": {"detail": "Busy"}}}, Failure('{"detail":"Busy"}', "upstream_error")),
    ({"error": {"message": "Half \ud83d", "param": 1}}, Failure("Half \ufffd", "upstream_error")),
    ({"object": "error", "message": "Busy", "type": "BadRequestError", "code": 400},
     Failure("Busy", "BadRequestError", "BadRequestError", status=400)),
    (chunk(choice({}, "error")), Failure("The upstream aborted the answer (finish reason `error`).", "upstream_error")),
    (chunk(choice({}, "network_error")),
     Failure("The upstream aborted the answer (finish reason `network_error`).", "network_error")),
    (chunk(choice({}, "error"), error={"message": "Gone", "code": 502}),
     Failure("Gone", "upstream_error", status=502)),
    ({"code": "InternalError", "message": "Busy", "request_id": "7d"}, Failure("Busy", "InternalError")),
    (chunk(choice({}, "error", error={"message": "Gone", "code": 502})), Failure("Gone", "upstream_error", status=502)),
    (chunk(choice({}, error={"message": "Half \ud83d"})), Failure("Half \ufffd", "upstream_error")),
])  # fmt: skip
def test_error_in_the_stream_is_a_failure_in_any_shape(error: Json, failure: Failure) -> None:
    translator = ChatTranslator()
    translator.translate(text_chunk("Half of"))
    assert translator.failure is None
    translator.translate(error)
    assert translator.failure == failure


def test_empty_error_is_no_failure() -> None:
    assert (
        Translation(
            text_chunk("a", error=None), text_chunk("b", error={}), text_chunk("c", error="")
        ).translator.failure
        is None
    )


@pytest.mark.parametrize("error", [
    {"object": "error", "message": "Key sk-1 is wrong", "type": "auth", "code": 1, "request_id": "7d"},
    {"message": "Key sk-1 is wrong", "type": "auth", "code": 1, "param": "key", "request_id": "7d"},
    chunk(choice({}, "error", error={"message": "Key sk-1 is wrong"}), request_id="7d"),
])  # fmt: skip
def test_error_is_in_the_failure_alone_where_it_is_redacted(error: Json) -> None:
    answer = Translation(text_chunk("a"), error)
    assert answer.translator.failure is not None
    assert answer.translator.extra.chunk_fields == {"request_id": "7d"}
    assert all("sk-1" not in repr(entry) for entry in answer.entries)


@pytest.mark.parametrize("progress", [
    {"message": "ping"}, {"code": 1}, {"type": "progress", "message": "Searching"}, {"code": 200, "message": "OK"},
    {"code": "0", "message": "success", "type": "status"}, {"code": 5, "message": {"a": 1}},
])  # fmt: skip
def test_report_of_a_gateway_is_no_error(progress: Json) -> None:
    assert Translation(progress, text_chunk("a"), end()).translator.failure is None
