"""The request for the rest of an answer, and the translation of that rest."""

import json
from typing import Any

import pytest

from support.chat_chunks import choice, chunk, end, role, text_chunk
from tailrace.events import Extra, Item, ItemOpened, Text
from tailrace.upstreams import PROFILES, Continuation
from tailrace_worker.upstream.chat.continued_request import continued_request, joined_usage
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import PartialAnswer

ASKED = {"role": "user", "content": "Hello?"}
CHAT = {"model": "m", "messages": [ASKED], "temperature": 0}
PARTIAL = PartialAnswer(Item(3, "text", text="Once upon"), 2)


def how(profile: str) -> Continuation:
    continuation = PROFILES[profile].continues
    assert continuation
    return continuation


@pytest.mark.parametrize(
    ("profile", "fields", "message"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("llama.cpp", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("mistral", {}, {"prefix": True}),
        ("moonshot", {}, {"partial": True}),
    ],
)
def test_request_ends_with_the_text_as_its_upstream_wants_it(
    profile: str, fields: dict[str, Any], message: dict[str, Any]
) -> None:
    partial = {"role": "assistant", "content": "Once upon ", **message}
    assert continued_request(CHAT, how(profile), "Once upon ") == {**CHAT, **fields, "messages": [ASKED, partial]}
    assert CHAT["messages"] == [ASKED]


@pytest.mark.parametrize(
    ("limits", "lowered"),
    [
        ({"max_tokens": 50}, {"max_tokens": 47}),
        ({"max_completion_tokens": 4}, {"max_completion_tokens": 1}),
        ({"max_tokens": 2}, {"max_tokens": 1}),
        ({"max_tokens": None}, {"max_tokens": None}),
    ],
)
def test_limits_of_tokens_are_for_the_whole_answer(limits: dict[str, Any], lowered: dict[str, Any]) -> None:
    body = continued_request(CHAT | limits, how("vllm"), "twelve bytes")
    assert {name: body[name] for name in limits} == lowered


def test_usage_counts_the_text_as_completion() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {}}
    joined = usage | {"prompt_tokens": 7, "completion_tokens": 7, "estimated": True}
    assert joined_usage(usage, "twelve bytes") == joined
    assert joined_usage({"total_tokens": "many"}, "twelve bytes") == {"total_tokens": "many"}


def test_translator_continues_the_item() -> None:
    translator = ChatTranslator(first_item=4, continued=PARTIAL)
    read = [translator.read(json.dumps(chunk).encode()) for chunk in (role(), text_chunk(" a"), text_chunk(" time"))]
    (mark, extra), *texts = [translated for events in read for translated in events]
    assert (mark, extra) == (Text(3, ""), Extra(continued=2))
    events = [event for event, _ in texts]
    assert events == [Text(3, " a"), Text(3, " time")]
    assert not any(isinstance(event, ItemOpened) for event in events)
    states = [translator.is_complete, bool(translator.read(json.dumps(end()).encode())), translator.is_complete]
    assert states == [False, False, True]
    assert [finish.finish_reason for finish in translator.finish] == ["stop"]


def test_translator_of_a_rest_that_never_began_has_no_events() -> None:
    translator = ChatTranslator(first_item=4, continued=PARTIAL)
    assert translator.read(json.dumps(role(native_finish_reason="x")).encode()) == []
    assert translator.close() == []


def test_translator_of_a_rest_without_text_has_what_came_with_its_end() -> None:
    translator = ChatTranslator(first_item=4, continued=PARTIAL)
    read = translator.read(json.dumps(chunk(choice({}, "stop", content_filter_results={"a": 1}))).encode())
    (_, extra), *rest = [*read, *translator.close()]
    assert extra.continued == 2
    assert [extra.choice for _, extra in rest] == [{"content_filter_results": {"a": 1}}]


def test_further_choices_appear_after_the_first() -> None:
    translator = ChatTranslator(first_item=4, continued=PARTIAL)
    (_, (opened, _), *_) = translator.read(json.dumps(text_chunk("b", index=1)).encode())
    assert opened == ItemOpened(4, "text", 1, [1])
