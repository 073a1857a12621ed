from typing import Any

import pytest

from tailrace.prompt_size import prompt_bytes


@pytest.mark.parametrize(
    ("messages", "size"),
    [
        (None, 0),
        ([], 0),
        ([{"role": "user", "content": "abcde"}], 5),
        ([{"role": "user", "content": "äö"}, {"role": "user", "content": "abcd"}], 8),
        ([{"content": [{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {"url": "x" * 99}}]}], 4),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}], 0),
        ([{"parts": [{"type": "text", "text": "abcd"}, {"type": "file", "url": "data:,x"}]}], 4),
        ([{"content": "\ud83d"}], 1),
        ("abcd", 4),
    ],
)
def test_prompt_bytes_counts_the_text_of_the_messages(messages: Any, size: int) -> None:
    assert prompt_bytes({"messages": messages}) == size


def test_prompt_bytes_counts_the_text_of_instructions_and_items() -> None:
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "abcd"}, {"type": "input_image", "image_url": "x"}],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "ef"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "g"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hij"}]},
    ]
    assert prompt_bytes({"instructions": "Be.", "input": items}) == 3 + 4 + 2 + 1 + 3
    assert prompt_bytes({"input": "Hello?"}) == 6


def test_prompt_bytes_of_a_request_without_messages_is_zero() -> None:
    assert prompt_bytes({}) == 0
