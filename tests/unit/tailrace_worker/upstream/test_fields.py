"""Lenient reading: every JSON value is accepted, and what has an unexpected type is counted."""

from typing import Any

import pytest

from tailrace.events import Json
from tailrace_worker.upstream import fields as module
from tailrace_worker.upstream.fields import (
    MAX_DEPTH,
    MAX_ITEMS,
    ChangedFields,
    LenientReader,
    is_empty,
    join_surrogates,
)


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
    fields, taken = ChangedFields(LenientReader()), []
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


class Compared(int):
    """A value that counts how often values are compared."""

    count = 0

    def __ne__(self, other: object) -> bool:
        Compared.count += 1
        return super().__ne__(other)


class RoomyReader(LenientReader):
    """Encodes nothing."""

    def hold(self, value: Any) -> int:
        return 1 if value is not None else 0


def test_work_of_changed_fields_does_not_grow_with_their_number() -> None:
    fields = ChangedFields(RoomyReader())
    for number in range(1000):
        fields.update({f"x{number}": Compared(number)})
        assert list(fields.take_changes()) == [f"x{number}"]
    assert Compared.count <= 4000


def test_fields_that_were_taken_do_not_change() -> None:
    fields = ChangedFields(LenientReader())
    fields.update({"a": 1})
    first = fields.take_changes()
    fields.update({"b": 1})
    assert (first, fields.take_changes()) == ({"a": 1}, {"b": 1})


def test_fields_that_wait_for_an_entry_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 100)
    reader = LenientReader()
    fields, others = ChangedFields(reader), ChangedFields(reader)
    fields.update({"a": "x" * 48, "b": "y" * 8})
    others.update({"a": "x" * 48})
    assert (fields.current, others.current, reader.malformed) == ({"a": "x" * 48, "b": "y" * 8}, {}, 1)
    fields.update({"b": "z" * 8})
    assert fields.take_changes() == {"a": "x" * 48, "b": "y" * 8}
    assert fields.take_changes() == {"b": "z" * 8}
    others.take_changes()
    for number in range(5):
        others.update({"a": f"{number}" * 48})
        others.update({"a": f"{number}" * 40})
        assert others.take_changes()
    assert reader.hold("x" * 98) == 100, "all is released"
    assert reader.malformed == 1


def test_elements_beyond_the_limit_count_as_malformed() -> None:
    reader, elements = LenientReader(), list(range(MAX_ITEMS + 3))
    assert reader.first(elements[:MAX_ITEMS]) == elements[:MAX_ITEMS]
    assert reader.malformed == 0
    assert reader.first(elements) == elements[:MAX_ITEMS]
    assert reader.malformed == 3


def test_changed_fields_are_pending_until_taken() -> None:
    fields = ChangedFields(LenientReader())
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


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 960, 100_000])
@pytest.mark.parametrize("beside", ["good", "\ud83d"])
def test_lenient_reader_drops_fields_that_are_nested_too_deeply(depth: int, beside: str) -> None:
    reader = LenientReader()
    shown = {"beside": beside.replace("\ud83d", "\ufffd"), "deepest": nested(MAX_DEPTH)}
    given = {"beside": beside, "deepest": nested(MAX_DEPTH), "deep": nested(depth)}
    assert reader.verbatim(given) == shown
    assert reader.malformed == 1
    assert reader.unknown_fields(given, frozenset({"beside"})) == {"deepest": nested(MAX_DEPTH)}


def test_flat_fields_are_kept_however_many_they_are() -> None:
    reader = LenientReader()
    many = {"logprobs": [{"token": "{[", "bytes": [1]} for _ in range(1000)]}
    assert reader.verbatim(many) == many
    assert reader.malformed == 0


def test_error_that_is_nested_too_deeply_keeps_its_message() -> None:
    reader = LenientReader()
    assert reader.error({"message": "Busy \ud83d", "metadata": nested(960)}) == {"message": "Busy \ufffd"}
    assert reader.error("Busy \ud83d") == "Busy \ufffd"
    assert reader.error([nested(960)]) is None
