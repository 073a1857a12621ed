"""The reply and the effect of each script of the log, in plain Python: the specification of `lua/*.lua`.

One generation, and two simplifications: a lease is held or it is not, and the caller passes the time of Redis' clock.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from tailrace.events import FinalStatus, Status
from tailrace.log import AppendBatch, AppendResult, Outcome
from tailrace.log.codec import Row


@dataclass(frozen=True)
class ModelState:
    """The part of the state by which scripts decide. `token`: the token of the last acquisition."""

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
    expired: Literal["charged", "spared"] | None = None

    @property
    def is_final(self) -> bool:
        return self.status not in ("queued", "running")


@dataclass
class Model:
    """A generation on its server. Each method is the script of that name."""

    state: ModelState | None = None
    log: list[Row] = field(default_factory=list)
    tombstone: Literal["none", "kept", "deleted"] = "none"

    def copy(self) -> "Model":
        return Model(self.state, list(self.log), self.tombstone)

    def create(self, job_id: str, now: int) -> tuple[int, str | None] | str:
        """The time of creation and the waiting job of the generation, or the reason why it is gone."""
        if self.state is None and self.tombstone != "none":
            return "deleted" if self.tombstone == "deleted" else "expired"
        if self.state is None:
            self.state, self.tombstone = ModelState(now, job_id), "kept"
            self.log = [Row(now, 0, "created", f'{{"at":{now / 1000!r},"queued":false,"version":1}}')]
        waits = self.state.status == "queued" and not self.state.terminating
        return self.log[0].epoch, self.state.job_id if waits else None

    def acquire(self, token: str, now: int, worker: str, neighbours: int, terminating: FinalStatus | None) -> Outcome:
        state = self.state
        if state is None:
            return self._missing()
        if state.is_final:
            return Outcome.DONE
        if state.token == token:
            return Outcome.OK
        if terminating is None and state.terminating:
            return Outcome.TERMINATING
        if terminating is None and state.held and state.worker != worker:
            return Outcome.HELD
        epoch = max(now, state.epoch + 1)
        state = replace(state, epoch=epoch, token=token, held=True)
        if terminating is None:
            state = replace(state, status="running", worker=worker, neighbours=neighbours, attempt=state.attempt + 1)
            state = replace(state, expired=None)
        self.state = replace(state, terminating=terminating or state.terminating)
        return Outcome.OK

    def append(self, batch: AppendBatch) -> AppendResult:
        state = self.state
        if state is None:
            return AppendResult(self._missing())
        if batch.epoch < state.epoch:
            return AppendResult(Outcome.FENCED)
        if state.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if batch.epoch > state.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if batch.after_seq > state.seq:
            return AppendResult(Outcome.BEHIND, state.seq)
        if new := [row for row in batch.rows if row.seq > state.seq]:
            self.log += new
            self.state = state = replace(state, seq=new[-1].seq)
        return AppendResult(Outcome.OK, state.seq)

    def finish(self, epoch: int, last_seq: int, status: FinalStatus, row: Row) -> AppendResult:
        state = self.state
        if state is None:
            return AppendResult(self._missing())
        if state.is_final:
            return AppendResult(Outcome.DONE, done=self.log[-1])
        if epoch < state.epoch:
            return AppendResult(Outcome.FENCED)
        if epoch > state.epoch:
            return AppendResult(Outcome.UNKNOWN)
        if last_seq != state.seq:
            return AppendResult(Outcome.CHANGED, state.seq)
        self.log.append(row)
        self.state = replace(state, seq=row.seq, status=status, held=False)
        return AppendResult(Outcome.OK)

    def renew(self, epoch: int, neighbours: int) -> Outcome:
        state = self.state
        if state is None:
            return self._missing()
        if epoch < state.epoch:
            return Outcome.FENCED
        if state.is_final:
            return Outcome.DONE
        if epoch > state.epoch:
            return Outcome.UNKNOWN
        if state.status == "queued" and state.expired:
            spared = state.spared - (state.expired == "spared")
            state = replace(state, status="running", expired=None, spared=spared)
        self.state = replace(state, held=True, neighbours=neighbours)
        return Outcome.OK

    def requeue(self, epoch: int, job_id: str, *, expired: bool, spared: bool = False) -> Outcome:
        state = self.state
        if state is None:
            return self._missing()
        if epoch < state.epoch:
            return Outcome.FENCED
        if state.is_final:
            return Outcome.DONE
        if state.terminating:
            return Outcome.TERMINATING
        if state.job_id == job_id:
            return Outcome.OK
        if expired and state.held:
            return Outcome.HELD
        if not expired:
            spared_before = state.spared - (state.expired == "spared")
            state = replace(state, handovers=state.handovers + 1, spared=spared_before, expired=None)
        elif state.status == "running":
            state = replace(state, spared=state.spared + spared, expired="spared" if spared else "charged")
        self.state = replace(state, held=False, status="queued", job_id=job_id)
        return Outcome.OK

    def restore(self, granted: ModelState, rows: list[Row]) -> Outcome:
        """`granted`: the state when the attempt got its lease; `rows`: every row that the attempt has."""
        if self.tombstone == "deleted":
            return Outcome.GONE
        if self.state is None and self.tombstone == "kept":
            return Outcome.GONE
        if self.state is not None:
            if granted.epoch < self.state.epoch:
                return Outcome.FENCED
            if self.state.is_final:
                return Outcome.DONE
            if granted.epoch == self.state.epoch:
                return Outcome.OK
            if self.state.terminating or self.log[-1].id not in [row.id for row in rows]:
                return Outcome.FENCED
        self.state = replace(granted, seq=rows[-1].seq, token=None, terminating=None, held=True, seen=True)
        self.log, self.tombstone = list(rows), "kept"
        return Outcome.OK

    def delete(self) -> Outcome:
        if self.tombstone != "kept":
            return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
        self.state, self.log, self.tombstone = None, [], "deleted"
        return Outcome.OK

    def touch_presence(self) -> None:
        if self.state:
            self.state = replace(self.state, seen=True)

    # Time and expiry

    def expire_lease(self) -> None:
        if self.state:
            self.state = replace(self.state, held=False)

    def expire(self) -> None:
        self.state, self.log = None, []

    def _missing(self) -> Outcome:
        return Outcome.GONE if self.tombstone == "deleted" else Outcome.UNKNOWN
