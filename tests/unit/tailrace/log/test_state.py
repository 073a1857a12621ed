import re
from pathlib import Path

import msgspec
import pytest

from support.logs import record
from tailrace.errors import CorruptEntry
from tailrace.ids import EntryId
from tailrace.log import state as module
from tailrace.log.state import FIELDS, state_from, state_of

CALL = re.compile(r"redis\.call\('(HSET|HINCRBY)', state,(.*?)\)(?:$| end| else)", re.MULTILINE | re.DOTALL)
PAIR = re.compile(r"'([a-z_]+)',\s*(?:'[^']*'|string\.\w+\([^)]*\)|[^,]+)")
SCRIPTS = Path(module.__file__).parents[1] / "lua"

RECORD = record()
STORED = {
    "record": msgspec.json.encode(RECORD).decode(), "request": "{not read", "created": str(RECORD.created),
    "status": "running", "epoch": "7", "attempt": "2", "seq": "41", "lease": "0", "deadline": "99", "job_id": "d",
    "handovers": "1",
}  # fmt: skip


def reply(**changed: str) -> list[bytes | None]:
    """The reply to `HMGET FIELDS`."""
    stored = STORED | changed
    return [stored[name].encode() if name in stored else None for name in FIELDS]


def test_state_is_read_without_the_request() -> None:
    state = state_of(reply())
    assert state is not None
    assert state.record == RECORD
    assert (state.position, state.lost_attempts, state.is_final, state.worker) == (EntryId(7, 41), 0, False, "")
    assert state_from({name.encode(): value.encode() for name, value in STORED.items()}) == state


@pytest.mark.parametrize(
    ("background", "attempt", "seq", "has_output"),
    [(0, 0, 0, False), (0, 1, 1, False), (0, 1, 3, True), (1, 0, 1, False), (1, 1, 2, False), (1, 1, 4, True),
     (0, 2, 2, False), (0, 2, 4, True)],
)  # fmt: skip
def test_state_has_output_beyond_its_creation_and_the_starts_of_its_attempts(
    background: int, attempt: int, seq: int, has_output: bool
) -> None:
    begun = msgspec.json.encode(record(background=bool(background))).decode()
    state = state_of(reply(record=begun, attempt=str(attempt), seq=str(seq)))
    assert state is not None
    assert state.has_output is has_output


def test_state_of_an_empty_reply_is_none() -> None:
    assert state_of([None] * len(FIELDS)) is None


@pytest.mark.parametrize(
    "changed", [{"record": "{"}, {"record": "{}"}, {"status": "later"}, {"seq": "many"}, {"created": "soon"}]
)
def test_state_that_another_version_wrote_is_corrupt(changed: dict[str, str]) -> None:
    with pytest.raises(CorruptEntry, match="unreadable state"):
        state_of(reply(**changed))


def test_state_without_its_fields_is_corrupt() -> None:
    with pytest.raises(CorruptEntry):
        state_from({b"epoch": b"1"})


def documented_fields() -> dict[str, set[str]]:
    """The fields of the table on top of the module, with the scripts that set each."""
    rows = re.findall(r"^    (\w+) +.*?  ([a-z_, ]+)$", module.__doc__ or "", flags=re.MULTILINE)
    return {name: set(scripts.strip().removeprefix("set by ").split(", ")) for name, scripts in rows}


def written_fields() -> dict[str, set[str]]:
    """The fields of the state that each script sets by name. (`restore` sets all.)"""
    found: dict[str, set[str]] = {}
    for path in set(SCRIPTS.glob("*.lua")) - {SCRIPTS / "restore.lua"}:
        calls = CALL.findall(path.read_text())
        for _, arguments in calls:
            for name in PAIR.findall(arguments):
                found.setdefault(name, set()).add(path.stem)
    return found


def test_state_table_has_every_field_and_the_scripts_that_set_it() -> None:
    documented = documented_fields()
    assert documented == written_fields()
    assert set(FIELDS) <= set(documented)
