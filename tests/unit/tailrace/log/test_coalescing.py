import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.logs import LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from tailrace.events import NO_EXTRA, Delta, Entry, Reasoning, Text
from tailrace.ids import EntryId
from tailrace.log import codec
from tailrace.log.codec import Row, to_row
from tailrace.log.output import Output

RECORD = record()


def coalesced(entries: list[Entry]) -> list[Entry]:
    """The entries as the log stores them, coalesced."""
    rows = [stored(entry) for entry in entries]
    result, size = codec.coalesce_rows(rows)
    assert size == codec.stored_size(rows)
    return result


def stored(entry: Entry) -> tuple[bytes, list[bytes]]:
    row = to_row(entry)
    extra = [b"extra", row.extra.encode()] if row.extra else []
    return str(row.id).encode(), [row.field.encode(), row.value.encode(), *extra]


@pytest.mark.parametrize("name", LOGS)
def test_stored_row_is_read_as_its_entry(name: str) -> None:
    for entry in LOGS[name](RECORD):
        assert codec.from_row(codec.stored_row(stored(entry))) == entry


@pytest.mark.parametrize("name", LOGS)
def test_coalescing_keeps_the_output_and_the_last_id(name: str) -> None:
    entries = LOGS[name](RECORD)
    result = coalesced(entries)
    assert result[-1].id == entries[-1].id
    assert Output(result).items() == Output(entries).items()
    assert Output(result).done == Output(entries).done


@pytest.mark.parametrize("name", LOGS)
def test_coalescing_changes_nothing_but_bare_deltas(name: str) -> None:
    entries = LOGS[name](RECORD)

    def structure(of: list[Entry]) -> list[Entry]:
        return [entry for entry in of if not isinstance(entry.event, Delta) or entry.extra is not NO_EXTRA]

    assert structure(coalesced(entries)) == structure(entries)


@pytest.mark.parametrize("name", LOGS)
@settings(max_examples=25)
@given(data=st.data())
def test_coalescing_in_any_pages_keeps_the_output(name: str, data: st.DataObject) -> None:
    entries = LOGS[name](RECORD)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=4)))
    pages = [entries[start:end] for start, end in zip([0, *cuts], [*cuts, len(entries)], strict=True)]
    result = [entry for page in pages for entry in coalesced(page)]
    assert Output(result).items() == Output(entries).items()
    assert {entry.id for entry in result} <= {entry.id for entry in entries}
    assert [entry.id for entry in result] == sorted(entry.id for entry in result)


def test_coalescing_joins_adjacent_deltas_of_one_place_under_the_last_id() -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("a|b|c|d")).end("completed")
    (only,) = [entry for entry in coalesced(entries) if isinstance(entry.event, Text)]
    assert only.event == Text(0, "abcd")
    assert only.id == [entry for entry in entries if isinstance(entry.event, Text)][-1].id


def test_coalescing_keeps_deltas_of_other_items_choices_kinds_and_keys_apart() -> None:
    deltas: list[Delta] = [
        Text(0, "a"), Text(1, "b"), Text(0, "c"), Text(0, "d"), Reasoning(2, "e"),
        Reasoning(2, "f", key="reasoning"), Reasoning(2, "g", key="reasoning"), Reasoning(2, "h"),
    ]  # fmt: skip
    entries = [Entry(EntryId(1, seq), delta) for seq, delta in enumerate(deltas)]
    assert [entry.event.text for entry in coalesced(entries) if isinstance(entry.event, Delta)] == [
        "a", "b", "cd", "e", "fg", "h",
    ]  # fmt: skip


def test_coalescing_no_entries_yields_none() -> None:
    assert coalesced([]) == []


def test_coalescing_leaves_its_input_unchanged() -> None:
    entries = LOGS["text"](RECORD)
    coalesced(entries)
    assert entries == LOGS["text"](RECORD)


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("logprobs", [False, True])
def test_fold_of_merged_rows_is_that_of_their_entries(name: str, logprobs: bool) -> None:
    entries = LOGS[name](RECORD)
    fold = Output(codec.merged(list(map(to_row, entries))), logprobs=logprobs)
    expected = Output(entries, logprobs=logprobs)
    assert (fold.all_items(), fold.open, fold.last_id, fold.next_item) == (
        expected.all_items(), expected.open, expected.last_id, expected.next_item,
    )  # fmt: skip


def test_merged_rows_are_few() -> None:
    rows = [Row(1, seq, "text:0", "a") for seq in range(1000)]
    assert [(entry.id, entry.event) for entry in codec.merged(rows)] == [(EntryId(1, 999), Text(0, 1000 * "a"))]
    other = [*rows[:2], Row(1, 2, "text:0", "b", "{}"), *rows[3:5], Row(1, 5, "text:1", "c")]
    assert [entry.id.seq for entry in codec.merged(other)] == [1, 2, 4, 5]
