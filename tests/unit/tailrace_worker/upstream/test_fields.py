"""Lenient reading: every JSON value is accepted, and what has an unexpected type is counted."""

from typing import Any

import pytest

from tailrace.events import Json
from tailrace_worker.upstream.fields import ChangedFields, LenientReader, is_empty, join_surrogates


@pytest.mark.parametrize(("method", "value", "result"), [
    ("text", "a\ud83d", "a\ud83d"), ("text", None, ""), ("string", "a\ud83d", "a\ufffd"), ("string", None, ""),
    ("fields", {"a": 1}, {"a": 1}), ("fields", None, {}), ("elements", [1], [1]), ("elements", None, []),
    ("objects", [{"a": 1}, {}, None], [{"a": 1}]), ("objects", None, []), ("index", 3, 3), ("index", None, None),
])  # fmt: skip
def test_lenient_reader_reads_the_expected_type_and_null(method: str, value: Any, result: Any) -> None:
    reader = LenientReader()
    assert getattr(reader, method)(value) == result
    assert reader.malformed == 0


@pytest.mark.parametrize(("method", "value", "result"), [
    ("text", 1, ""), ("string", [], ""), ("fields", "x", {}), ("elements", {}, []), ("objects", [1], []),
    ("index", -1, None), ("index", True, None), ("index", "0", None),
])  # fmt: skip
def test_lenient_reader_counts_values_of_another_type(method: str, value: Any, result: Any) -> None:
    reader = LenientReader()
    assert getattr(reader, method)(value) == result
    assert reader.malformed == 1


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_empty_values_are_null_and_empty_strings_lists_and_objects(value: Any) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, False, 0.0, " ", [None], {"a": None}])
def test_zero_and_false_are_not_empty(value: Any) -> None:
    assert not is_empty(value)


def test_unknown_fields_are_kept_in_order_without_empty_ones() -> None:
    found = LenientReader().unknown_fields({"z": 1, "known": 2, "empty": "", "a": [0]}, frozenset({"known"}))
    assert list(found.items()) == [("z", 1), ("a", [0])]


def test_verbatim_replaces_lone_surrogates_in_keys_and_values() -> None:
    assert LenientReader().verbatim({"a\ud83d": ["\ude00"]}) == {"a\ufffd": ["\ufffd"]}


def steps(*updates: Json | None) -> list[Json]:
    """The changes taken at each None among the updates."""
    fields, taken = ChangedFields(), []
    for update in updates:
        if update is None:
            assert fields.has_changes or not fields.is_pending
            taken.append(fields.take_changes())
        else:
            fields.update(update)
    return taken


def test_changed_fields_give_the_first_update_first_and_changes_later() -> None:
    assert steps({"a": 1}, {"a": 2, "b": 1}, None, None, {"a": 2}, None) == [{"a": 1}, {"a": 2, "b": 1}, {}]


def test_changed_fields_never_give_a_value_that_was_overwritten() -> None:
    assert steps({"a": 1}, None, {"a": 2}, {"a": 3}, None, {"a": 4}, {"a": 3}, None) == [{"a": 1}, {"a": 3}, {}]


def test_changed_fields_are_pending_until_taken() -> None:
    fields = ChangedFields()
    pending = [fields.is_pending]
    fields.update({"a": 1})
    pending.append(fields.is_pending)
    fields.take_changes()
    pending.append(fields.is_pending)
    assert pending == [False, True, False]
    assert fields.current == {"a": 1}


@pytest.mark.parametrize(("pending", "text", "joined"), [
    ("", "abc", ("abc", "")),
    ("", "é", ("é", "")),
    ("", "a\ud83d", ("a", "\ud83d")),
    ("\ud83d", "\ude00b", ("😀b", "")),
    ("\ud83d", "", ("", "\ud83d")),
    ("\ud83d", "b", ("\ufffdb", "")),
    ("", "\ude00", ("\ufffd", "")),
    ("\ud83d", "\ud83d", ("\ufffd", "\ud83d")),
])  # fmt: skip
def test_surrogates_are_joined_or_replaced(pending: str, text: str, joined: tuple[str, str]) -> None:
    assert join_surrogates(pending, text) == joined


def test_lenient_reader_drops_fields_that_are_too_deep_to_mend() -> None:
    """The encoder meets the lone surrogate before it meets the depth."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    reader = LenientReader()
    assert reader.verbatim({"lone": "\ud83d", "deep": deep}) == {}
    assert reader.malformed == 1
