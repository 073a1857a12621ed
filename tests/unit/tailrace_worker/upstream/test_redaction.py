import time
from typing import Any

import pytest

from tailrace.events import NO_EXTRA, Extra, Failure
from tailrace_worker.upstream.redaction import MAX_DEPTH, MIN_KEY_CHARACTERS, Redaction

KEY = "sk-secret-of-the-worker"
OLDER = "sk-secret-of-one-123456"


def test_every_key_that_was_ever_used_is_redacted() -> None:
    redaction = Redaction([OLDER])
    redaction.add([KEY, "short", ""])
    redaction.add([])
    assert redaction.redacted(f"{OLDER}, {KEY} and short") == "***, *** and short"


def test_struct_and_json_are_redacted_in_every_field_and_key() -> None:
    redaction = Redaction([KEY])
    value = {"a": [KEY, 7, None, {KEY: f"Bearer {KEY}"}], "b": True}
    shown = {"a": ["***", 7, None, {"***": "Bearer ***"}], "b": True}
    assert redaction.redacted(value) == shown
    assert redaction.redacted(Extra(chunk_fields=value, unknown=[value])) == Extra(chunk_fields=shown, unknown=[shown])
    assert redaction.redacted(Failure(KEY, KEY, details=value)) == Failure("***", "***", details=shown)
    assert redaction.redacted(NO_EXTRA) is NO_EXTRA


def test_value_of_any_depth_is_redacted() -> None:
    value: Any = KEY
    for _ in range(5000):
        value = [value]
    shown = Redaction([KEY]).redacted(value)
    for _ in range(MAX_DEPTH):
        (shown,) = shown
    assert shown == "***"


@pytest.mark.parametrize("text", ["x" * 2_000_000, "x-" * 1_000_000, "sk-" * 700_000, "***" * 700_000, "..x" * 700_000])
def test_long_text_is_read_once(text: str) -> None:
    began = time.process_time()
    Redaction([KEY]).redacted(text)
    assert time.process_time() - began < 5, "minutes where each character begins a new search"


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [("sk-se***rker", "***"), ("key=sk-s…", "key=***"), ("ab*** sk-se***rker", "ab*** ***"), ("a...b", "a...b")],
)
def test_quoted_part_of_a_key_is_found_beside_other_words(quoted: str, shown: str) -> None:
    assert Redaction([KEY]).redacted(quoted) == shown


@pytest.mark.parametrize("length", range(len(KEY)))
def test_key_in_which_a_message_was_cut_is_redacted(length: int) -> None:
    shown = Redaction([KEY]).redacted(f"{'x' * 50} {KEY[:length]}")
    assert shown == f"{'x' * 50} {'***' if length >= MIN_KEY_CHARACTERS else KEY[:length]}"


@pytest.mark.parametrize("text", ["", "sk-sec", f"{KEY[:9]} is the beginning", f"{KEY[:9]}?", f"{KEY[:12]}x"])
def test_beginning_of_a_key_elsewhere_stays(text: str) -> None:
    assert Redaction([KEY]).redacted(text) == text
