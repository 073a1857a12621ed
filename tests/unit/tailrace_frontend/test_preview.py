from typing import Any

import pytest

from tailrace_frontend.preview import CHARACTERS, preview_of, question_of


def asked(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("request_", "preview"),
    [
        ({"messages": [asked("Why?")]}, "Why?"),
        ({"messages": [asked("First"), {"role": "assistant", "content": "A"}, asked("Last")]}, "Last"),
        ({"messages": [asked("Call"), {"role": "tool", "content": "3"}]}, "Call"),
        ({"messages": [asked([{"type": "image_url"}, {"type": "text", "text": "What is this?"}])]}, "What is this?"),
        ({"messages": [{"role": "user", "parts": [{"type": "text", "text": "A UI message"}]}]}, "A UI message"),
        ({"input": "A Responses input"}, "A Responses input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "An item"}]}]}, "An item"),
        ({"input": [{"type": "function_call_output", "output": "3"}]}, ""),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, ""),
        ({"messages": [asked(None)]}, ""),
        ({"messages": [asked([{"type": "text", "text": 3}, "text", None])]}, ""),
        ({"messages": [None, "x"]}, ""),
        ({"messages": 3}, ""),
        ({}, ""),
    ],
)
def test_preview_is_the_text_of_the_last_user_message_of_every_api(request_: dict[str, Any], preview: str) -> None:
    assert preview_of(request_) == preview


def test_preview_is_one_line_of_bounded_length() -> None:
    text = " \n a\n\n b\tc\x00\x1b[31m\u202e d " + "x" * 200
    assert preview_of({"input": text}) == ("a b c [31m d " + "x" * 200)[:CHARACTERS]
    assert len(preview_of({"input": "x" * 10_000})) == CHARACTERS
    assert preview_of({"input": " " * 10_000 + "late"}) == "late"


def test_preview_can_be_encoded() -> None:
    assert preview_of({"input": "half \ud83d of a pair"}) == "half � of a pair"


@pytest.mark.parametrize(
    ("request_", "question"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]}, "a"),
        ({"messages": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]}, "a\nb"),
        ({"input": "a"}, "a"),
        ({"input": [{"role": "user", "content": "a"}, {"type": "message"}]}, "a"),
        ({"messages": [{"role": "system", "content": "a"}]}, ""),
        ({}, ""),
    ],
)
def test_question_is_the_last_message_of_the_user(request_: dict[str, object], question: str) -> None:
    assert question_of(request_) == question
