"""The answers of the log's scripts, as values."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from tailrace.events import Json
from tailrace.ids import START, EntryId
from tailrace.log.codec import Row
from tailrace.log.codec import stored_row as _row
from tailrace.log.measures import Measures, measures_from
from tailrace.log.state import GenerationState, state_from

NO_REQUEST: Json = {}


class Outcome(StrEnum):
    """Results of the scripts; each script's header lists its own."""

    OK = "OK"
    HELD = "HELD"
    ABANDONED = "ABANDONED"
    TERMINATING = "TERMINATING"
    FENCED = "FENCED"
    DONE = "DONE"
    BEHIND = "BEHIND"
    CHANGED = "CHANGED"
    UNKNOWN = "UNKNOWN"
    GONE = "GONE"


class Creation(NamedTuple):
    """Result of `create`: when the generation was created (ms of Redis' clock), and the job that it waits under.

    `job_id` is None once the generation does not wait any more: `create` was repeated late.
    """

    created: int
    job_id: str | None


class Waiting(NamedTuple):
    """A generation that waits: when it was created (ms of Redis' clock), its job, and the bytes of its request."""

    created: int
    job_id: str
    request_bytes: int


class LeaseGrant(NamedTuple):
    """Result of `acquire`. With OK: the new epoch, Redis' time (ms), the state, the rows of the log if asked for, the
    request, the same as JSON, the id of the log's newest entry (START: the log is missing), and what the workers before
    have measured."""

    outcome: Outcome
    epoch: int = 0
    now: int = 0
    state: GenerationState | None = None
    rows: Sequence[Row] = ()
    request: Json = NO_REQUEST
    stored_request: bytes = b"{}"
    last_id: EntryId = START
    measures: Measures = Measures()


class AppendBatch(msgspec.Struct, frozen=True):
    """Rows to add: `after_seq` is the sequence number before the first of them."""

    generation_id: str
    epoch: int
    after_seq: int
    rows: Sequence[Row]


class AppendResult(msgspec.Struct, frozen=True):
    """Result of `append` and `finish`: `seq` with OK, BEHIND and CHANGED; `done` with DONE."""

    outcome: Outcome
    seq: int = -1
    done: Row | None = None


_OUTCOMES = {outcome.encode(): outcome for outcome in Outcome}


def outcome_of(raw: bytes) -> Outcome:
    return _OUTCOMES[raw]


def lease_grant_of(raw: list[Any]) -> LeaseGrant:
    outcome, *result = raw
    if outcome != b"OK":
        return LeaseGrant(outcome_of(outcome))
    epoch, now, fields, newest = result
    stored = dict(zip(fields[::2], fields[1::2], strict=True))
    text = stored[b"request"]
    request, last_id = msgspec.json.decode(text), EntryId.parse(newest.decode()) if newest else START
    measures = measures_from(stored.get(b"measures"))
    return LeaseGrant(Outcome.OK, int(epoch), int(now), state_from(stored), (), request, text, last_id, measures)


def append_result_of(raw: list[Any]) -> AppendResult:
    outcome = outcome_of(raw[0])
    if len(raw) == 1:
        return AppendResult(outcome)
    return AppendResult(outcome, done=_row(raw[1])) if outcome is Outcome.DONE else AppendResult(outcome, int(raw[1]))
