"""decode_delta: fragments of text and calls out of one delta."""

from typing import Any

from support.chat_chunks import call_chunk, choice, chunk
from support.translation import Translation
from tailrace.events import Extra, Reasoning, Text


def test_reasoning_keeps_the_upstreams_field_name() -> None:
    answer = Translation(chunk(choice({"reasoning": "a"})), chunk(choice({"reasoning_content": "b"})))
    assert answer.events[1:] == [Reasoning(0, "a", key="reasoning"), Reasoning(0, "b")]


def test_reasoning_under_two_field_names_is_one_fragment() -> None:
    answer = Translation(chunk(choice({"reasoning": "a", "reasoning_content": "a"})))
    assert answer.events[1:] == [Reasoning(0, "a")]


def test_content_parts_are_text_reasoning_or_passed_through() -> None:
    parts: list[Any] = [{"type": "thinking", "thinking": "a"}, {"type": "thinking", "thinking": [{"text": "b"}]},
                        {"type": "text", "text": "c"}, {"type": "reference", "ids": [1]}, "d"]  # fmt: skip
    answer = Translation(chunk(choice({"content": parts})))
    assert [(item.type, item.text) for item in answer.items] == [("reasoning", "ab"), ("text", "cd")]
    assert answer.extras(Text) == [Extra(delta={"content_parts": [{"type": "reference", "ids": [1]}]})]


def test_content_parts_without_text_open_no_item() -> None:
    parts: list[Any] = [{"type": "thinking", "thinking": []}, {"type": "thinking", "thinking": ""},
                        {"type": "text", "text": ""}, "", {}]  # fmt: skip
    answer = Translation(chunk(choice({"content": parts})), chunk(choice({"content": "a"})))
    assert [(item.type, item.text) for item in answer.items] == [("text", "a")]
    assert answer.translator.malformed == 0


def test_parsed_arguments_are_written_as_json() -> None:
    answer = Translation(call_chunk({"index": 0, "id": "a", "function": {"name": "f", "arguments": {"q": 1}}}))
    assert answer.calls == [("a", "f", '{"q":1}')]
