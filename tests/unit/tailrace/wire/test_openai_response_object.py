"""Parts of the Response object; whole answers are in the contract tests."""

from typing import Any

import pytest

from support.logs import record
from tailrace.wire.openai_response_object import (
    REASONING,
    REFUSAL,
    SUMMARY,
    TEXT,
    Context,
    Part,
    annotation,
    part_of,
)


@pytest.mark.parametrize(
    ("item_type", "summary", "part"),
    [
        ("text", False, TEXT),
        ("text", True, TEXT),
        ("refusal", True, REFUSAL),
        ("reasoning", False, REASONING),
        ("reasoning", True, SUMMARY),
    ],
)
def test_part_of_an_item_follows_its_type_and_the_request(item_type: str, summary: bool, part: Part) -> None:
    assert part_of(Context.of(record(reasoning_summary=summary), {}), item_type) is part


@pytest.mark.parametrize(
    ("chat", "flat"),
    [
        ({"type": "file_citation", "file_citation": {"file_id": "f"}}, {"type": "file_citation", "file_id": "f"}),
        ({"type": "file_path", "index": 3}, {"type": "file_path", "index": 3}),
        (
            {"type": "url_citation", "url_citation": {"url": "u"}},
            {"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 0},
        ),
    ],
)
def test_annotation_of_another_kind_is_flattened_and_gets_no_fields_of_a_citation(chat: Any, flat: Any) -> None:
    assert annotation(chat) == flat
