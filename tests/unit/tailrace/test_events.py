from itertools import pairwise
from typing import Any

import pytest

from support.logs import EPOCH, RECORDS, citation, token
from support.logs import record as record_of
from support.named_logs import LOGS
from tailrace.events import (
    KINDS,
    NO_EXTRA,
    Created,
    Delta,
    Done,
    Entry,
    Event,
    Extra,
    Item,
    ItemClosed,
    ItemOpened,
    ItemType,
    Reasoning,
    Refusal,
    Restarted,
    Started,
    Text,
    ToolArguments,
    seq_span,
)  # fmt: skip
from tailrace.ids import EntryId

OUTPUT = [Item(0, "text"), Item(1, "call"), Item(2, "reasoning"), Item(3, "refusal"), Item(4, "call")]
PARTS = [Item(0, "text"), Item(1, "text", place=(0, 1))]
TWO_CITED = Extra(delta={"annotations": [citation(0), citation(1)]})

SPANS: list[tuple[Event, Extra, int]] = [
    (Created(1.0), NO_EXTRA, 1),
    (Created(1.0, queued=True), NO_EXTRA, 2),
    (Started(1, 1.0), NO_EXTRA, 1),
    (ItemOpened(0, "text"), NO_EXTRA, 2),
    (ItemOpened(0, "reasoning"), NO_EXTRA, 2),
    (ItemOpened(0, "refusal"), NO_EXTRA, 2),
    (ItemOpened(0, "call"), NO_EXTRA, 1),
    (Text(0, "a"), NO_EXTRA, 1),
    (Text(0, ""), NO_EXTRA, 1),
    (Text(0, "a"), TWO_CITED, 3),
    (Text(0, "a"), Extra(delta={"annotations": "none"}), 1),
    (Text(0, "a"), Extra(delta={"annotations": [citation(0), "odd", None]}), 2),
    (Text(0, "a"), Extra(choice={"logprobs": {"content": [token("a")]}}), 1),
    (Reasoning(0, "a"), TWO_CITED, 1),
    (Refusal(0, "a"), TWO_CITED, 1),
    (ToolArguments(0, "a"), TWO_CITED, 1),
    (ItemClosed(OUTPUT[0]), NO_EXTRA, 3),
    (ItemClosed(OUTPUT[2]), NO_EXTRA, 3),
    (ItemClosed(OUTPUT[1]), NO_EXTRA, 2),
    (ItemClosed(OUTPUT[0], is_last=False), NO_EXTRA, 2),
    (ItemClosed(Item(0, "other")), NO_EXTRA, 1),
    (ItemOpened(0, "other"), NO_EXTRA, 1),
    (ItemOpened(1, "text", place=(0, 1), further=True), NO_EXTRA, 1),
    (Text(0, ""), TWO_CITED, 2),
    (Text(0, ""), Extra(events=[{"type": "x"}, {"type": "y"}]), 2),
    (Text(0, ""), Extra(unknown=[{"type": "x"}]), 1),
    (Done("completed", 1.0, open=[0, 1], output=PARTS), NO_EXTRA, 6),
    (Restarted(2, output=OUTPUT), NO_EXTRA, 1),
    (Restarted(2, open=[0, 1], output=OUTPUT), NO_EXTRA, 6),
    (Done("completed", 1.0), NO_EXTRA, 1),
    (Done("completed", 1.0, output=OUTPUT), NO_EXTRA, 1),
    (Done("completed", 1.0, open=[0, 1, 2, 3, 4], output=OUTPUT), NO_EXTRA, 14),
    (Done("cancelled", 1.0, open=[4], output=OUTPUT), NO_EXTRA, 3),
    (Done("incomplete", 1.0, open=[3], output=OUTPUT), NO_EXTRA, 4),
    (Done("failed", 1.0, output=OUTPUT), NO_EXTRA, 2),
]


def test_kinds_are_ten_each_named_once() -> None:
    names = "created started item_opened text reasoning refusal tool_arguments item_closed restarted done"
    assert [kind.kind for kind in KINDS] == names.split()


@pytest.mark.parametrize(("event", "extra", "span"), SPANS)
def test_seq_span_is_the_number_of_frames_on_the_responses_wire(event: Event, extra: Extra, span: int) -> None:
    assert seq_span(event, extra) == span
    assert Entry(EntryId(1, 9), event, extra).seq_span == span


def test_seq_spans_are_tested_for_every_kind() -> None:
    assert {type(event) for event, _, _ in SPANS} == set(KINDS)


def test_seq_span_of_an_unknown_event_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="not an event"):
        seq_span(Event())


@pytest.mark.parametrize(
    ("cursor", "follows"),
    [(6, True), (5, False), (7, False), (9, False)],
    ids=["right before", "gap", "inside", "itself"],
)
def test_entry_is_contiguous_after_the_cursor_right_before_it(cursor: int, follows: bool) -> None:
    entry = Entry(EntryId(5, 9), ItemClosed(OUTPUT[0]))
    assert entry.is_contiguous_after(EntryId(4, cursor)) is follows


@pytest.mark.parametrize(
    ("value", "annotations"),
    [([{"a": 1}, 2, None, {"b": 3}], [{"a": 1}, {"b": 3}]), ({"a": 1}, []), ("text", []), (None, []), (7, [])],
)
def test_annotations_and_logprobs_are_objects_only(value: Any, annotations: list[Any]) -> None:
    assert Extra(delta={"annotations": value}).annotations == annotations
    assert Extra(choice={"logprobs": {"content": value}}).logprobs == annotations
    assert Extra(choice={"logprobs": value}).logprobs == []


DELTAS: list[Delta] = [
    Text(0, "a"), Text(1, "a"), Reasoning(0, "a"), Reasoning(0, "a", key="reasoning"), Refusal(0, "a"),
    ToolArguments(0, "a", tool=0, call="x"),
]  # fmt: skip


@pytest.mark.parametrize("one", DELTAS, ids=repr)
@pytest.mark.parametrize("other", DELTAS, ids=repr)
def test_delta_continues_only_a_delta_of_its_own_place(one: Delta, other: Delta) -> None:
    assert one.with_text("b").continues(other) is (one is other)
    assert one.with_text("b").with_text("a") == one


def test_delta_continues_no_other_event() -> None:
    assert not Text(0, "a").continues(ItemOpened(0, "text"))


@pytest.mark.parametrize(("type_", "frames"), [("text", 3), ("reasoning", 3), ("refusal", 3), ("call", 2)])
def test_closings_of_a_call_are_one_frame_fewer(type_: ItemType, frames: int) -> None:
    assert Item(0, type_).closings == frames


@pytest.mark.parametrize("name", LOGS)
def test_sequence_numbers_are_dense_over_the_whole_log(name: str) -> None:
    entries = LOGS[name](record_of(**RECORDS["summary"]))
    assert entries[0].id == EntryId(EPOCH, 1)
    for before, after in pairwise(entries):
        assert after.id.seq == before.id.seq + after.seq_span
    assert sum(entry.seq_span for entry in entries) == entries[-1].id.seq + 1
