"""The state of a generation, and how it is stored.

The state is a hash of small fields, which scripts read and set one by one:

    record      what is fixed at creation (JSON)             set by create
    request     the caller's body (JSON), maybe megabytes    create
    created     ms of Redis' clock                           create
    deadline    ms: no run continues beyond it               create
    retention   ms that everything is kept after the end     create
    status      queued, running, or a final status           create, acquire, renew, requeue, finish
    job_id      the job under which it waits                 create, requeue
    epoch       the newest grant, ms; fences older writers   create, acquire
    seq         the last sequence number taken               create, append, finish
    token       of the newest grant: repeats its answer      acquire
    lease       ms: a worker runs it until then; 0: none     create, acquire, renew, requeue, finish
    worker      which worker runs it                         acquire
    taken_from  which worker ran it before; '' at first      acquire
    attempt     runs so far                                  create, acquire
    handovers   runs that a stopping worker handed over      requeue
    spared      lost runs that are not charged               renew, requeue
    expired     spared or charged: its lease ran out         requeue
    neighbours  generations that its worker ran beside it    acquire, renew
    shared      1 once a repeated call relies on it          create, share
    terminating the final status that was begun              acquire
    terminating_error  the error of that end (JSON)          acquire
    seen        ms: the last reader was there                touch_presence
    measures    what the workers have measured so far        renew
    upstream_response  what an upstream runs for the answer  renew
    tokens      output tokens as `done` counts them          finish
    spent       what the generation has used (`log.spent`)   finish
    ended       ms: when `done` was written                  finish
    failure     the code of the error in `done`              finish
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from tailrace.errors import CorruptEntry
from tailrace.events import Failure, FinalStatus, GenerationRecord, Status
from tailrace.ids import EntryId

ABANDONED_MS = 20_000
"""How long a generation with `on_disconnect: cancel` may be without a reader, unless the settings name another time."""


class GenerationState(msgspec.Struct, frozen=True):
    """A generation at one moment. Times in ms of Redis' clock; `seq` is the last sequence number taken.

    `attempt` counts runs. `handovers` of them were handed over by a stopping worker, `spared` ended with a worker that
    died and are not charged (`lifecycle.limits`). `neighbours`: how many other jobs its worker had when the lease was
    last granted or renewed. `upstream_response`: the name of the upstream that runs the answer in its background, a
    space, and the upstream's id of the response; empty where none does. `spent`: as `log.spent` writes it; empty before
    the end. `ended`: when the end was written, 0 before. `failure`: the code of its error.
    """

    record: GenerationRecord
    status: Status
    epoch: int
    attempt: int
    seq: int
    lease: int
    deadline: int
    job_id: str
    worker: str = ""
    terminating: FinalStatus | None = None
    terminating_error: Failure | None = None
    handovers: int = 0
    spared: int = 0
    neighbours: int = 0
    seen: int = 0
    taken_from: str = ""
    tokens: int | None = None
    upstream_response: str = ""
    spent: str = ""
    ended: int = 0
    failure: str = ""

    @property
    def is_final(self) -> bool:
        return self.status not in ("queued", "running")

    @property
    def has_output(self) -> bool:
        """Whether the log has more than `created` and one `started` for each attempt."""
        return self.seq > self.record.background + self.attempt

    @property
    def runs_while_read(self) -> bool:
        """Whether the generation is cancelled once it has had no reader for the grace (`on_disconnect: cancel`)."""
        return self.record.options.on_disconnect == "cancel"

    def is_abandoned(self, now: int, grace_ms: int) -> bool:
        """Whether the generation runs only while it is read, and no reader was reported for the grace.

        `now`: ms of Redis' clock.
        """
        return self.runs_while_read and now > (self.seen or self.record.created) + grace_ms

    @property
    def lost_attempts(self) -> int:
        """Attempts that ended without an end of the generation and without a handover. One that runs is not lost."""
        return self.attempt - self.handovers - (self.status == "running")

    @property
    def failed_attempts(self) -> int:
        """Lost attempts that count towards `MAX_ATTEMPTS`."""
        return self.lost_attempts - self.spared

    @property
    def position(self) -> EntryId:
        return EntryId(self.epoch, self.seq)


FIELDS = ("created", "record", *(field for field in GenerationState.__struct_fields__ if field != "record"))
"""Fields of the state hash that `HMGET` reads, in this order. The request is not among them: it may be megabytes."""


def state_of(values: Sequence[bytes | None]) -> GenerationState | None:
    """The state from the reply to `HMGET FIELDS`; None where the hash does not exist.

    Raises:
        CorruptEntry: as `state_from`.
    """
    fields = {name.encode(): value for name, value in zip(FIELDS, values, strict=True) if value is not None}
    return state_from(fields) if fields else None


def state_from(fields: dict[bytes, bytes]) -> GenerationState:
    """The state from the hash's fields.

    Raises:
        CorruptEntry: the hash was not written by `create`, or by a later version of it.
    """
    text: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items() if name != b"request"}
    try:
        record = msgspec.json.decode(text["record"], type=GenerationRecord)
        text["record"] = msgspec.structs.replace(record, created=int(text["created"]))
        if error := text.get("terminating_error"):
            text["terminating_error"] = msgspec.json.decode(error, type=Failure)
        return msgspec.convert(text, GenerationState, strict=False)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise CorruptEntry("unreadable state") from error
