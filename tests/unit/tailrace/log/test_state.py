import pytest

from support.logs import record
from tailrace.errors import CorruptEntry
from tailrace.ids import EntryId
from tailrace.log.state import FIELDS, WHOLE, parts_of, state_from, state_of

RECORD = record()
SMALL, REQUEST = parts_of(RECORD)
STORED = {
    "record": SMALL, "request": REQUEST, "created": str(RECORD.created), "status": "running", "epoch": "7", "attempt":
    "2", "seq": "41", "lease": "0", "deadline": "99", "job_id": "d", "handovers": "1",
}  # fmt: skip


def answered(names: tuple[str, ...], **changed: str) -> list[bytes | None]:
    """As HMGET answers."""
    stored = STORED | changed
    return [stored[name].encode() if name in stored else None for name in names]


def test_a_head_is_stored_in_two_parts_and_read_from_one_or_both() -> None:
    small, whole = state_of(answered(FIELDS)), state_of(answered(WHOLE))
    assert small is not None
    assert whole is not None
    assert RECORD.request
    assert (small.record.request, whole.record) == ({}, RECORD)
    assert (small.position, small.tries, small.is_final, small.worker) == (EntryId(7, 41), 1, False, "")


def test_where_there_is_no_head_there_is_no_state() -> None:
    assert state_of([None] * len(FIELDS)) is None


@pytest.mark.parametrize(
    "changed", [{"record": "{"}, {"record": "{}"}, {"status": "later"}, {"seq": "many"}, {"created": "soon"}]
)
def test_what_was_not_written_by_this_version_is_told_so(changed: dict[str, str]) -> None:
    with pytest.raises(CorruptEntry, match="unreadable head"):
        state_of(answered(FIELDS, **changed))


def test_a_head_without_what_it_needs_cannot_be_read() -> None:
    with pytest.raises(CorruptEntry):
        state_from({b"epoch": b"1"})
