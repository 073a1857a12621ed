"""Messages in, items out."""

from typing import Any

import pytest

from tailrace.translation.chat_messages import items_of
from tailrace.translation.responses_input import messages_of

USER = {"role": "user", "content": "Weather?"}
USER_ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CALL_ITEM = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT_ITEM = {"type": "function_call_output", "call_id": "c1", "output": "rain"}


@pytest.mark.parametrize(
    ("messages", "items"),
    [
        ([], []),
        (None, []),
        ([USER], [USER_ITEM]),
        (
            [{"role": "system", "content": "Be."}],
            [{"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be."}]}],
        ),
        (
            [{"role": "assistant", "content": "Rain."}],
            [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}],
        ),
        (
            [{"role": "assistant", "content": None, "refusal": "No."}],
            [{"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
        ),
        (
            [{"role": "assistant", "content": None, "tool_calls": [CALL]},
             {"role": "tool", "tool_call_id": "c1", "content": "rain"}],
            [CALL_ITEM, OUTPUT_ITEM],
        ),
        (
            [{"role": "assistant", "tool_calls": [
                {"id": "c1", "type": "custom", "custom": {"name": "n", "input": "i"}}]}],
            [{"type": "custom_tool_call", "call_id": "c1", "name": "n", "input": "i"}],
        ),
        (
            [{"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}},
             {"role": "function", "name": "look", "content": "rain"}],
            [CALL_ITEM | {"call_id": "look"}, OUTPUT_ITEM | {"call_id": "look"}],
        ),
        (
            [{"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "rain"}]}],
            [OUTPUT_ITEM | {"output": [{"type": "input_text", "text": "rain"}]}],
        ),
        (
            [{"role": "user", "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "u"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "input_audio", "input_audio": {"data": "A"}},
                {"type": "video_url", "video_url": {"url": "v"}},
            ]}],
            [{"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "u", "detail": "low"},
                {"type": "input_image", "image_url": "u", "detail": "auto"},
                {"type": "input_file", "file_id": "f"},
                {"type": "input_audio", "input_audio": {"data": "A"}},
                {"type": "video_url", "video_url": {"url": "v"}},
            ]}],
        ),
    ],
)  # fmt: skip
def test_messages_become_items(messages: Any, items: Any) -> None:
    assert items_of(messages) == items


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [{"role": "system", "content": "Be."}, USER, {"role": "assistant", "content": "Rain."}, USER],
        [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
         {"role": "tool", "tool_call_id": "c1", "content": "rain"}],
        [USER, {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
         {"role": "tool", "tool_call_id": "c1", "content": "rain"}],
        [{"role": "user", "content": [
            {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "u", "detail": "auto"}}]}],
    ],
)  # fmt: skip
def test_messages_are_the_same_after_there_and_back(messages: Any) -> None:
    assert messages_of(items_of(messages)) == messages


@pytest.mark.parametrize(
    "messages",
    [3, "x", ["x"], [{}], [{"role": 3, "content": 3}], [{"role": "assistant", "tool_calls": [{}, 3]}],
     [{"role": "assistant", "tool_calls": [{"function": 3}], "function_call": 3, "content": [3]}],
     [{"role": "user", "content": [{"type": "image_url", "image_url": 3}, {"type": "file", "file": 3}]}],
     [{"role": "tool"}]],
)  # fmt: skip
def test_malformed_messages_raise_nothing(messages: Any) -> None:
    assert isinstance(items_of(messages), list)
