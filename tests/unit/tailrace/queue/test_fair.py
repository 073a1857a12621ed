"""Fair queueing by a simulation: no schedule makes a job wait for longer than its bound.

The bound, in jobs that begin before it. A job of a caller with weight w has `own` jobs of its caller before it, by the
rule of the priorities; then at most `(own + 2) / w × weight + 2` of each other caller's. Cancelled jobs count as if
they had run. `tests/contract/queue/test_fair_scripts.py` compares the scripts with the same model.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from support.fair_model import SHARES, FairModel

SCHEDULES = 10_000
PRIORITIES = tuple(SHARES)


@dataclass
class Waiting:
    """A job that waits. `own`: the most of its caller's jobs that may begin before it; `cancelled`: of its caller,
    before it. By caller: `began`: jobs that have begun since; `again`: those that had begun before, and are free."""

    own: float
    cancelled: int
    began: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)


class Schedule:
    """Callers with random weights who submit and cancel at random, while workers take."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.model = FairModel()
        self.weights = {
            f"caller {n}": self.rng.choice([0.25, 0.5, 1, 1, 1, 3, 8]) for n in range(self.rng.randint(1, 5))
        }
        self.waiting: dict[str, Waiting] = {}
        self.gone: Counter[tuple[str, str]] = Counter()  # cancelled, by caller and priority, while its line has jobs
        self.priority: dict[str, str] = {}
        self.number = 0

    def play(self, steps: int) -> None:
        for _ in range(steps):
            chance = self.rng.random()
            if not self.waiting or chance < 0.5:
                self.submit(self.rng.choice(list(self.weights)), self.rng.choice([1, 1, 1, 5]))
            elif chance < 0.6:
                self.cancel(self.rng.choice(list(self.waiting)))
            else:
                self.take()
        while self.waiting:
            self.take()

    def submit(self, owner: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            job = f"{self.rng.randrange(10**6)} {self.number}"
            priority = self.rng.choice(PRIORITIES)
            again = self.rng.random() < 0.05
            alike = sum(self.priority[each] == priority and self.owner(each) == owner for each in self.waiting)
            ahead = (alike + self.gone[owner, priority] + 1) * SHARES[priority]
            own = sum(ahead / share + 2 for share in SHARES.values())
            cancelled = sum(self.gone[owner, each] for each in PRIORITIES)
            self.model.submit(job, owner, self.weights[owner], priority, again=again)
            self.priority[job] = priority
            for each in self.waiting.values():
                each.again[owner] += again
            free = Counter(self.owner(each) for each in self.waiting if not self.model.jobs[each].step)
            self.waiting[job] = Waiting(own, cancelled, again=free)

    def owner(self, job: str) -> str:
        return self.model.jobs[job].owner

    def take(self) -> None:
        job = self.model.take()
        owner, known = self.owner(job), self.waiting.pop(job)
        self.check(owner, known)
        for each in self.waiting.values():
            each.began[owner] += 1
        self.forget_cancelled(owner)

    def check(self, owner: str, known: Waiting) -> None:
        own = known.began[owner]
        assert own <= known.own + known.again[owner]
        for other, weight in self.weights.items():
            if other != owner:
                bound = (own + known.cancelled + 2) / self.weights[owner] * weight + 2
                assert known.began[other] <= bound + known.again[other], (owner, other, known)

    def cancel(self, job: str) -> None:
        owner = self.owner(job)
        self.model.cancel(job)
        del self.waiting[job]
        self.gone[owner, self.priority[job]] += 1
        for other, each in self.waiting.items():
            if self.owner(other) == owner:
                each.cancelled += 1
        self.forget_cancelled(owner)

    def forget_cancelled(self, owner: str) -> None:
        if not self.model.lines[owner].tags:
            for priority in PRIORITIES:
                self.gone.pop((owner, priority), None)


@pytest.mark.parametrize("part", range(10))
def test_no_job_waits_longer_than_its_bound(part: int) -> None:
    for seed in range(part * SCHEDULES // 10, (part + 1) * SCHEDULES // 10):
        schedule = Schedule(seed)
        schedule.play(schedule.rng.randint(5, 60))
        assert not schedule.model.slots
        assert not any(line.tags or line.finish for line in schedule.model.lines.values())


def test_low_job_begins_although_higher_ones_never_end() -> None:
    """Between two low jobs begin at most 4 normal and 16 high ones, however many are submitted."""
    model = FairModel()
    model.submit("low", "anna", priority="low")
    model.submit("low 2", "anna", priority="low")
    order = []
    for n in range(100):
        for priority in ("high", "normal"):
            model.submit(f"{priority} {n}", "anna", priority=priority)
        order.append(model.take())
    first, second = order.index("low"), order.index("low 2")
    between = Counter(job.split()[0] for job in order[first + 1 : second])
    assert between["high"] <= 16 + 1
    assert between["normal"] <= 4 + 1


def test_priorities_give_a_caller_no_more_than_its_weight() -> None:
    model = FairModel()
    for n in range(300):
        model.submit(f"anna {n}", "anna", priority=PRIORITIES[n % 3])
        model.submit(f"bob {n}", "bob")
    began = Counter(model.take().split()[0] for _ in range(200))
    assert abs(began["anna"] - began["bob"]) <= 2


def test_job_that_has_run_before_goes_to_the_front() -> None:
    model = FairModel()
    for n in range(10):
        model.submit(f"anna {n}", "anna")
        model.submit(f"bob {n}", "bob")
    for _ in range(4):
        model.take()
    model.submit("0 again", "anna", again=True)
    assert "0 again" in [model.take() for _ in range(3)]


def test_cancelled_jobs_give_their_cost_back() -> None:
    model = FairModel()
    for n in range(100):
        model.submit(f"anna {n}", "anna")
        model.submit(f"bob {n}", "bob")
    for n in range(99):
        model.cancel(f"anna {n}")
    assert "anna 99" in [model.take() for _ in range(2)]
    model.submit("anna 100", "anna")
    assert "anna 100" in [model.take() for _ in range(3)]


def test_cancelling_saves_up_no_turns() -> None:
    """A caller that cancels its first jobs and submits others never has two jobs at one slot."""
    model = FairModel()
    for n in range(50):
        model.submit(f"anna {n}", "anna")
        model.submit(f"bob {n:02}", "bob")
    for n in range(50, 90):
        model.cancel(min(model.lines["anna"].tags, key=model.lines["anna"].tags.__getitem__))
        model.submit(f"anna {n}", "anna")
    slots = Counter(slot for job, slot in model.slots.items() if job.startswith("anna"))
    assert max(slots.values()) == 1
