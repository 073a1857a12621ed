"""decode_chunk: typed values out of any JSON."""

import json as standard_json
import sys
from typing import Any

import pytest
from msgspec import structs

from support.chat_chunks import USAGE, Json, call_chunk, choice, chunk, citation, end, fragment, logprob, text_chunk
from support.translation import Translation
from tailrace.events import NO_EXTRA, Extra, Upstream
from tailrace.log import codec
from tailrace_worker.upstream.chat.chunk import ChatChoice, ChatChunk, decode_chunk
from tailrace_worker.upstream.chat.fragments import ChatDelta, Fragment, ToolCallFragment
from tailrace_worker.upstream.fields import LenientReader


def test_chunk_is_decoded_into_typed_values() -> None:
    reader = LenientReader()
    call = fragment(0, "call_a", "look", "{}", signature="x")
    citations = {"annotations": [citation(1)]}
    delta = {"role": "assistant", "content": "Hi", "reasoning": "Hm", "mood": "glad", **citations, "tool_calls": [call]}
    logprobs = {"content": [logprob("Hi")], "refusal": None}
    parsed = chunk(choice(delta, "stop", 1, logprobs=logprobs, seed=7), usage=USAGE, service_tier="default")
    assert decode_chunk(parsed, reader) == ChatChunk(
        id="chatcmpl-9",
        model="m-1",
        choices=[
            ChatChoice(
                index=1,
                delta=ChatDelta(
                    fragments=[Fragment("reasoning", "Hm", "reasoning"), Fragment("text", "Hi")],
                    tool_calls=[ToolCallFragment(0, "call_a", "look", "{}", {"signature": "x"})],
                    fields={"mood": "glad", **citations},
                ),
                is_message=False,
                logprobs=logprobs,
                finish_reason="stop",
                usage={},
                failure=None,
                fields={"seed": 7},
            )
        ],
        usage=USAGE,
        failure=None,
        fields={"service_tier": "default"},
        is_whole=False,
    )
    assert reader.malformed == 0


def test_empty_chunk_has_empty_values() -> None:
    assert decode_chunk({}, LenientReader()) == ChatChunk("", "", [], {}, None, {}, is_whole=False)


@pytest.mark.parametrize("malformed", [
    {"choices": {"index": 0}}, {"choices": "x"}, {"choices": [1]}, {"choices": [{"index": "0"}]},
    {"choices": [{"delta": "x"}]}, {"choices": [{"delta": {"content": 5}}]}, {"choices": [{"delta": {"refusal": []}}]},
    {"choices": [{"delta": {"reasoning": {"a": 1}}}]}, {"choices": [{"delta": {"tool_calls": {"index": 0}}}]},
    {"choices": [{"delta": {"tool_calls": ["x"]}}]}, {"choices": [{"delta": {"annotations": "x"}}]},
    {"choices": [{"delta": {"annotations": [1]}}]}, {"choices": [{"logprobs": 1}]},
    {"choices": [{"logprobs": {"content": "x"}}]}, {"choices": [{"finish_reason": 3}]}, {"usage": 3}, {"model": 3},
    {"choices": [{"delta": {"content": [{"type": "text", "text": 3}]}}]},
])  # fmt: skip
def test_malformed_values_are_skipped_and_counted(malformed: Json) -> None:
    answer = Translation(malformed, text_chunk("a"))
    assert answer.kinds == ["item_opened", "text"]
    assert answer.extras() == []
    assert answer.translator.malformed == 1


def test_choice_index_out_of_range_is_malformed() -> None:
    answer = Translation(text_chunk("a"), text_chunk("b", 10**9), text_chunk("c", 128))
    assert answer.kinds == ["item_opened", "text"]
    assert answer.translator.malformed == 2


def test_fields_nested_too_deeply_are_malformed() -> None:
    deep: Any = "x\ud83d"
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    answer = Translation(chunk(choice({"content": "a", "x": deep}), y=deep, usage={"z": deep}), end())
    assert [item.text for item in answer.items] == ["a"]
    assert answer.translator.malformed == 3


def test_null_and_empty_fields_count_as_absent() -> None:
    nothing: list[Any] = [None, "", [], {}]
    answer = Translation(
        *(chunk(choice({"content": "", "x": each, "audio": each}, None, y=each), z=each) for each in nothing)
    )
    assert answer.translated == []
    assert answer.translator.extra is NO_EXTRA


def test_zero_and_false_are_values() -> None:
    answer = Translation(chunk(choice({"content": "a", "x": 0}, y=False), z=0))
    assert answer.extras() == [Extra(chunk_fields={"z": 0}, choice={"y": False}), Extra(delta={"x": 0})]


def test_padding_is_dropped() -> None:
    answer = Translation(chunk(choice({"content": "a", "obfuscation": "xx"}), obfuscation="yyy"))
    assert answer.extras() == []


def test_lone_surrogates_in_fields_become_replacement_characters() -> None:
    half = "x\ud83d"
    answer = Translation(
        chunk(
            choice({"content": "a", half: half}, half, y=[half]), z={"k": half}, id=half, model=half, usage={"u": half}
        ),
        call_chunk(fragment(0, half, half, "{}", more=half)),
    )
    for entry in answer.entries:
        standard_json.dumps(structs.astuple(codec.to_row(entry)), ensure_ascii=False).encode()
    translator = answer.translator
    assert translator.upstream == Upstream("x\ufffd", "x\ufffd")
    assert (translator.usage, translator.finish[0].finish_reason) == ({"u": "x\ufffd"}, "x\ufffd")
