"""Strings of an error object: work that the length of the text bounds, whatever an upstream sends."""

from typing import Any

import pytest

from tailrace_worker.upstream import error_texts as module
from tailrace_worker.upstream.error_texts import MAX_MESSAGE_CHARACTERS, details_of, encodable, message_in


def test_text_is_cut_before_any_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(text: str) -> str:
        seen.append(len(text))
        return text

    monkeypatch.setattr(module, "without_controls", noted)
    assert encodable("\0" * 1_000_000) == "\0" * MAX_MESSAGE_CHARACTERS
    assert message_in({"error": {"message": "x" * 1_000_000}}) == "x" * MAX_MESSAGE_CHARACTERS
    assert max(seen) <= 2 * MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize(("text", "shown"), [("\r\n", "\n"), ("\ud83d\ude00", "😀"), ("x\ud83d\ude00", "x😀")])
def test_text_of_pairs_is_as_long_as_any_other(text: str, shown: str) -> None:
    expected = (shown * MAX_MESSAGE_CHARACTERS)[:MAX_MESSAGE_CHARACTERS]
    assert encodable(text * MAX_MESSAGE_CHARACTERS) == expected


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_details_that_are_nested_too_deeply_are_none() -> None:
    deepest = nested(module.MAX_DETAILS_DEPTH - 1)
    assert details_of({"metadata": deepest}) == {"metadata": deepest}
    assert details_of({"metadata": {"a": deepest}}) is None
    assert details_of({"metadata": [[nested(900)]]}) is None
