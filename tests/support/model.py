"""What each script of the log answers and leaves behind, in plain Python: the specification of `lua/*.lua`.

One generation. Simpler than in life: a lease is held or it is not, and whoever calls says what Redis' clock showed.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from tailrace.codec import Row
from tailrace.events import FinalStatus, Status
from tailrace.log import AppendBatch, AppendResult, Outcome


@dataclass(frozen=True)
class ModelHead:
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

    @property
    def is_final(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass
class Model:
    """A generation on its server. Every method is the script of that name."""

    head: ModelHead | None = None
    log: list[Row] = field(default_factory=list)
    tombstone: Literal["none", "kept", "deleted"] = "none"

    def copy(self) -> "Model":
        return Model(self.head, list(self.log), self.tombstone)

    def create(self, job_id: str, now: int) -> int | str:
        """When it was created, or why it is gone."""
        if self.head is None and self.tombstone != "none":
            return "deleted" if self.tombstone == "deleted" else "expired"
        if self.head is None:
            self.head, self.tombstone = ModelHead(now, job_id), "kept"
            self.log = [Row(now, 0, "created", f'{{"at":{now / 1000:.3f},"queued":false,"version":1}}')]
        return self.log[0].epoch

    def acquire(self, token: str, now: int, worker: str, terminating: FinalStatus | None) -> Outcome:
        head = self.head
        if head is None:
            return self._missing()
        if head.is_final:
            return Outcome.DONE
        if head.token == token:
            return Outcome.OK
        if terminating is None and head.terminating:
            return Outcome.TERMINATING
        if terminating is None and head.held and head.worker != worker:
            return Outcome.HELD
        epoch = max(now, head.epoch + 1)
        head = replace(head, epoch=epoch, token=token, held=True)
        if terminating is None:
            head = replace(head, status="running", worker=worker, attempt=head.attempt + 1)
        self.head = replace(head, terminating=terminating or head.terminating)
        return Outcome.OK

    def append(self, call: AppendBatch) -> AppendResult:
        head = self.head
        if head is None:
            return AppendResult(self._missing())
        if call.epoch < head.epoch:
            return AppendResult(Outcome.FENCED)
        if head.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if call.epoch > head.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if call.after_seq > head.seq:
            return AppendResult(Outcome.BEHIND, head.seq)
        if new := [row for row in call.rows if row.seq > head.seq]:
            self.log += new
            self.head = head = replace(head, seq=new[-1].seq)
        return AppendResult(Outcome.OK, head.seq)

    def finish(self, epoch: int, folded: int, status: FinalStatus, row: Row) -> AppendResult:
        head = self.head
        if head is None:
            return AppendResult(self._missing())
        if head.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if epoch < head.epoch:
            return AppendResult(Outcome.FENCED)
        if epoch > head.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if folded != head.seq:
            return AppendResult(Outcome.CHANGED, head.seq)
        self.log.append(row)
        self.head = replace(head, seq=row.seq, status=status, held=False)
        return AppendResult(Outcome.OK)

    def renew(self, epoch: int) -> Outcome:
        head = self.head
        if head is None:
            return self._missing()
        if epoch < head.epoch:
            return Outcome.FENCED
        if head.is_final:
            return Outcome.DONE
        if epoch > head.epoch:
            return Outcome.UNKNOWN
        self.head = replace(head, held=True)
        return Outcome.OK

    def requeue(self, epoch: int, job_id: str, *, expired: bool) -> Outcome:
        head = self.head
        if head is None:
            return self._missing()
        if epoch < head.epoch:
            return Outcome.FENCED
        if head.is_final:
            return Outcome.DONE
        if head.terminating:
            return Outcome.TERMINATING
        if head.job_id == job_id:
            return Outcome.OK
        if expired and head.held:
            return Outcome.HELD
        handovers = head.handovers + (0 if expired else 1)
        self.head = replace(head, held=False, status="queued", job_id=job_id, handovers=handovers)
        return Outcome.OK

    def restore(self, taken: ModelHead, rows: list[Row]) -> Outcome:
        """`taken`: the head as its worker took it over; rows: all it knows."""
        if self.tombstone == "deleted":
            return Outcome.GONE
        if self.head is not None:
            if taken.epoch < self.head.epoch:
                return Outcome.FENCED
            if self.head.is_final:
                return Outcome.DONE
            if taken.epoch == self.head.epoch:
                return Outcome.OK
            if self.head.terminating or self.log[-1].id not in [row.id for row in rows]:
                return Outcome.FENCED
        self.head = replace(taken, seq=rows[-1].seq, token=None, terminating=None, held=True, seen=True)
        self.log, self.tombstone = list(rows), "kept"
        return Outcome.OK

    def delete(self) -> Outcome:
        if self.tombstone != "kept":
            return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
        self.head, self.log, self.tombstone = None, [], "deleted"
        return Outcome.OK

    def seen(self) -> None:
        if self.head:
            self.head = replace(self.head, seen=True)

    # What befalls a server

    def lose_the_lease(self) -> None:
        if self.head:
            self.head = replace(self.head, held=False)

    def expire(self) -> None:
        self.head, self.log = None, []

    def _missing(self) -> Outcome:
        return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
