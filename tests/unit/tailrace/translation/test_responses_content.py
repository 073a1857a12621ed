"""Parts of content."""

from typing import Any

import pytest

from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.translation.responses_content import ASSISTANT, TEXTS, USER, Parts, as_parts, content_of

BREAKPOINT = {"mode": "explicit"}
IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}
FILE = {"type": "input_file", "file_data": "data:,x", "filename": "x.txt"}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}


def text(content: str, kind: str = "input_text", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "text": content} | fields


@pytest.mark.parametrize(
    ("content", "translated"),
    [
        ("Hi", "Hi"),
        ("", ""),
        ([], ""),
        ([text("Hi")], "Hi"),
        ([text("Hi"), text("you")], [text("Hi", "text"), text("you", "text")]),
        (
            [text("Hi", prompt_cache_breakpoint=BREAKPOINT)],
            [text("Hi", "text", prompt_cache_breakpoint=BREAKPOINT)],
        ),
        ([IMAGE], [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]),
        (
            [IMAGE | {"detail": "low", "file_id": None, "prompt_cache_breakpoint": BREAKPOINT}],
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "https://example.org/a.png", "detail": "low"},
                    "prompt_cache_breakpoint": BREAKPOINT,
                }
            ],
        ),
        ([FILE], [{"type": "file", "file": {"file_data": "data:,x", "filename": "x.txt"}}]),
        ([{"type": "input_file", "file_id": "f", "detail": "auto"}], [{"type": "file", "file": {"file_id": "f"}}]),
        ([AUDIO], [AUDIO]),
    ],
)  # fmt: skip
def test_content_of_a_user(content: Any, translated: Any) -> None:
    assert content_of(content, "c", USER) == translated


def test_content_of_an_answer_has_texts_and_refusals() -> None:
    content = [
        text("Yes", "output_text", annotations=[{"type": "file_path"}], logprobs=[{}]),
        text("and", "input_text"),
    ]
    assert content_of(content, "c", ASSISTANT) == [text("Yes", "text"), text("and", "text")]
    refusal = [{"type": "refusal", "refusal": "No"}]
    assert content_of(refusal, "c", ASSISTANT) == refusal


@pytest.mark.parametrize(
    ("parts", "part", "param"),
    [
        (TEXTS, IMAGE, "c[0].type"),
        (TEXTS, FILE, "c[0].type"),
        (TEXTS, text("x", "output_text"), "c[0].type"),
        (ASSISTANT, IMAGE, "c[0].type"),
        (USER, text("x", "output_text"), "c[0].type"),
        (USER, {"type": ["x"]}, "c[0].type"),
        (USER, {}, "c[0].type"),
        (USER, {"type": "input_image", "file_id": "file_1"}, "c[0].file_id"),
        (USER, FILE | {"file_url": "https://example.org"}, "c[0].file_url"),
        (USER, FILE | {"detail": "high"}, "c[0].detail"),
        (USER, text("x", language="en"), "c[0].language"),
        (USER, AUDIO | {"transcript": "x"}, "c[0].transcript"),
        (ASSISTANT, {"type": "refusal", "refusal": "x", "why": "y"}, "c[0].why"),
    ],
)
def test_part_without_a_place_is_refused_by_name(parts: Parts, part: Any, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        content_of([part], "c", parts)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (None, "c"),
        ({}, "c"),
        ([3], "c[0]"),
        ([text(3)], "c[0].text"),  # type: ignore[arg-type]
        ([{"type": "input_image"}], "c[0].image_url"),
        ([{"type": "input_image", "image_url": {"url": "x"}}], "c[0].image_url"),
        ([{"type": "input_file", "filename": "x"}], "c[0]"),
        ([{"type": "input_audio", "input_audio": "AAAA"}], "c[0].input_audio"),
        ([text("x"), {"type": "input_text"}], "c[1].text"),
    ],
)
def test_malformed_content_is_named(content: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        content_of(content, "c", USER)
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("content", "parts"),
    [(None, []), ("", []), ("Hi", [text("Hi", "text")]), ([text("Hi", "text")], [text("Hi", "text")])],
)
def test_content_as_parts(content: Any, parts: Any) -> None:
    assert as_parts(content) == parts
