"""Start-time fair queueing in memory: what the scripts on the queue do (`lua/parts/fair.lua`), without limits on what
runs."""

from dataclasses import dataclass, field
from typing import NamedTuple

SHARES = {"high": 1 / 16, "normal": 1 / 4, "low": 1.0}
CLOSE = 1.000001


class Job(NamedTuple):
    owner: str
    step: float
    share: float


@dataclass
class Line:
    """The jobs of one owner that wait, by their tags."""

    tags: dict[str, float] = field(default_factory=dict)
    finish: dict[float, float] = field(default_factory=dict)
    v: float = 0.0

    def order(self) -> list[str]:
        return sorted(self.tags, key=lambda job: (self.tags[job], job))

    def join(self, job: str, share: float, *, charged: bool) -> str | None:
        """The job that is behind it then."""
        start = max(self.v, self.finish.get(share, 0.0)) if charged else self.v
        if charged:
            self.finish[share] = start + share
        self.tags[job] = start
        order = self.order()
        return next(iter(order[order.index(job) + 1 :]), None)

    def leave(self, job: str) -> None:
        del self.tags[job]
        if not self.tags:
            self.finish, self.v = {}, 0.0


class FairModel:
    """`slots`: the start tag of each job that waits."""

    def __init__(self) -> None:
        self.slots: dict[str, float] = {}
        self.jobs: dict[str, Job] = {}
        self.v: float | None = None  # of the last job that was taken
        self.finish: dict[str, float] = {}
        self.lines: dict[str, Line] = {}

    def submit(
        self, job: str, owner: str, weight: float = 1.0, priority: str = "normal", *, again: bool = False
    ) -> None:
        if not self.slots:
            self.v, self.finish = None, {}
        v = min(self.slots.values(), default=0.0) if self.v is None else self.v
        known = self.jobs[job] = Job(owner, 0 if again else 1 / weight, SHARES[priority])
        self.slots[job] = v if again else max(v, self.finish.get(owner, 0.0))
        if not again:
            self.finish[owner] = self.slots[job] + known.step
        behind = self.lines.setdefault(owner, Line()).join(job, known.share, charged=not again)
        if behind and self.slots[behind] < self.slots[job]:
            self._exchange(job, behind)

    def _exchange(self, one: str, other: str) -> None:
        self.slots[one], self.slots[other] = self.slots[other], self.slots[one]

    def take(self) -> str:
        """The next job."""
        head = min(self.slots, key=lambda job: (self.slots[job], job))
        line = self.lines[self.jobs[head].owner]
        first = line.order()[0]
        self._exchange(head, first)
        slot = self.slots.pop(first)
        line.v = line.tags[first]
        line.leave(first)
        if self.v is None or slot > self.v:
            self.v = slot
            self.finish = {owner: finish for owner, finish in self.finish.items() if finish >= slot}
        return first

    def cancel(self, job: str) -> None:
        """Remove a job that waits."""
        owner, step, share = self.jobs[job]
        line = self.lines[owner]
        order, classes, turn = line.order(), len(line.finish), line.tags[job]
        hole = self.slots[job]
        for behind in order[order.index(job) + 1 :][:1]:
            if self.slots[behind] > hole:
                hole, self.slots[behind] = self.slots[behind], hole
        del self.slots[job]
        line.leave(job)
        last = order[-1] if order[-1] != job else order[-2] if len(order) > 1 else None
        last = last if classes == 1 else None
        if step:
            self._refund(owner, hole, step, self.slots[last] if last else None, is_empty=not line.tags)
            if finish := line.finish.get(share, 0.0):
                follows = line.tags[last] + share if last else turn if turn + share * CLOSE >= finish else finish
                line.finish[share] = min(finish, follows)
        if not self.slots:
            self.v, self.finish = None, {}

    def _refund(self, owner: str, hole: float, step: float, last: float | None, *, is_empty: bool) -> None:
        finish = self.finish.get(owner, 0.0)
        is_last = is_empty or hole + step * CLOSE >= finish
        free = last + step if last is not None else hole if is_last else finish
        if free < finish:
            self.finish[owner] = free
