"""What each script of the log answers and leaves behind, in plain Python: the specification of `lua/*.lua`.

One generation. Simpler than in life: a lease is held or it is not, and whoever calls says what Redis' clock showed.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from tailrace.events import FinalStatus, Status
from tailrace.log import AppendBatch, AppendResult, Outcome
from tailrace.log.codec import Row


@dataclass(frozen=True)
class ModelState:
    """The head as far as scripts decide by it. `token` is of whoever took over last."""

    epoch: int
    job_id: str
    seq: int = 0
    status: Status = "queued"
    attempt: int = 0
    worker: str = ""
    token: str | None = None
    held: bool = False
    seen: bool = False
    terminating: FinalStatus | None = None
    handovers: int = 0
    spared: int = 0
    neighbours: int = 0

    @property
    def is_final(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass
class Model:
    """A generation on its server. Every method is the script of that name."""

    record: ModelState | None = None
    log: list[Row] = field(default_factory=list)
    tombstone: Literal["none", "kept", "deleted"] = "none"

    def copy(self) -> "Model":
        return Model(self.record, list(self.log), self.tombstone)

    def create(self, job_id: str, now: int) -> tuple[int, str | None] | str:
        """When it was created, and the job that it waits under; or why it is gone."""
        if self.record is None and self.tombstone != "none":
            return "deleted" if self.tombstone == "deleted" else "expired"
        if self.record is None:
            self.record, self.tombstone = ModelState(now, job_id), "kept"
            self.log = [Row(now, 0, "created", f'{{"at":{now / 1000:.3f},"queued":false,"version":1}}')]
        waits = self.record.status == "queued" and not self.record.terminating
        return self.log[0].epoch, self.record.job_id if waits else None

    def acquire(self, token: str, now: int, worker: str, neighbours: int, terminating: FinalStatus | None) -> Outcome:
        record = self.record
        if record is None:
            return self._missing()
        if record.is_final:
            return Outcome.DONE
        if record.token == token:
            return Outcome.OK
        if terminating is None and record.terminating:
            return Outcome.TERMINATING
        if terminating is None and record.held and record.worker != worker:
            return Outcome.HELD
        epoch = max(now, record.epoch + 1)
        record = replace(record, epoch=epoch, token=token, held=True)
        if terminating is None:
            record = replace(record, status="running", worker=worker, neighbours=neighbours, attempt=record.attempt + 1)
        self.record = replace(record, terminating=terminating or record.terminating)
        return Outcome.OK

    def append(self, call: AppendBatch) -> AppendResult:
        record = self.record
        if record is None:
            return AppendResult(self._missing())
        if call.epoch < record.epoch:
            return AppendResult(Outcome.FENCED)
        if record.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if call.epoch > record.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if call.after_seq > record.seq:
            return AppendResult(Outcome.BEHIND, record.seq)
        if new := [row for row in call.rows if row.seq > record.seq]:
            self.log += new
            self.record = record = replace(record, seq=new[-1].seq)
        return AppendResult(Outcome.OK, record.seq)

    def finish(self, epoch: int, folded: int, status: FinalStatus, row: Row) -> AppendResult:
        record = self.record
        if record is None:
            return AppendResult(self._missing())
        if record.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if epoch < record.epoch:
            return AppendResult(Outcome.FENCED)
        if epoch > record.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if folded != record.seq:
            return AppendResult(Outcome.CHANGED, record.seq)
        self.log.append(row)
        self.record = replace(record, seq=row.seq, status=status, held=False)
        return AppendResult(Outcome.OK)

    def renew(self, epoch: int, neighbours: int) -> Outcome:
        record = self.record
        if record is None:
            return self._missing()
        if epoch < record.epoch:
            return Outcome.FENCED
        if record.is_final:
            return Outcome.DONE
        if epoch > record.epoch:
            return Outcome.UNKNOWN
        self.record = replace(record, held=True, neighbours=neighbours)
        return Outcome.OK

    def requeue(self, epoch: int, job_id: str, *, expired: bool, spared: bool = False) -> Outcome:
        record = self.record
        if record is None:
            return self._missing()
        if epoch < record.epoch:
            return Outcome.FENCED
        if record.is_final:
            return Outcome.DONE
        if record.terminating:
            return Outcome.TERMINATING
        if record.job_id == job_id:
            return Outcome.OK
        if expired and record.held:
            return Outcome.HELD
        self.record = replace(
            record,
            held=False,
            status="queued",
            job_id=job_id,
            handovers=record.handovers + (not expired),
            spared=record.spared + (spared and record.status == "running"),
        )
        return Outcome.OK

    def restore(self, taken: ModelState, rows: list[Row]) -> Outcome:
        """`taken`: the head as its worker took it over; rows: all it knows."""
        if self.tombstone == "deleted":
            return Outcome.GONE
        if self.record is not None:
            if taken.epoch < self.record.epoch:
                return Outcome.FENCED
            if self.record.is_final:
                return Outcome.DONE
            if taken.epoch == self.record.epoch:
                return Outcome.OK
            if self.record.terminating or self.log[-1].id not in [row.id for row in rows]:
                return Outcome.FENCED
        self.record = replace(taken, seq=rows[-1].seq, token=None, terminating=None, held=True, seen=True)
        self.log, self.tombstone = list(rows), "kept"
        return Outcome.OK

    def delete(self) -> Outcome:
        if self.tombstone != "kept":
            return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
        self.record, self.log, self.tombstone = None, [], "deleted"
        return Outcome.OK

    def seen(self) -> None:
        if self.record:
            self.record = replace(self.record, seen=True)

    # What befalls a server

    def lose_the_lease(self) -> None:
        if self.record:
            self.record = replace(self.record, held=False)

    def expire(self) -> None:
        self.record, self.log = None, []

    def _missing(self) -> Outcome:
        return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
