"""The frontends and primaries of a storm: cores with work in the order of arrival, beside a share for live events."""

from simulation.constants import seconds

LEAST_SHARE = 0.1
"""Of a core that is nearly full, for connections: each turn of the loop has steps for them. Assumed."""


class Core:
    """A core with work in the order of arrival; `live` is the share that live events take, as a fluid.

    `yields`: live events go first, after at most a turn of the loop; else, and where they take more than the core has,
    they queue with the work.
    """

    __slots__ = ("_at", "live", "work_s", "yields")

    def __init__(self, live: float, *, yields: bool) -> None:
        self.live = live
        self.yields = yields
        self.work_s = 0.0
        self._at = 0.0

    def advance(self, now: float) -> float:
        """The seconds of work that are left."""
        self.work_s = max(0.0, self.work_s - (now - self._at) * (1 - self.live))
        self._at = now
        return self.work_s

    def set_live(self, now: float, live: float) -> None:
        self.advance(now)
        self.live = live

    def add(self, now: float, cost_s: float) -> float:
        """The time at which this work is done. Without `yields` only what arrived before it is ahead of it."""
        self.work_s = self.advance(now) + cost_s
        return now + self.wait_s(now)

    def wait_s(self, now: float) -> float:
        """How long new work waits before it begins."""
        work_s = self.advance(now)
        if self.yields and self.live < 1:
            return work_s / max(1 - self.live, LEAST_SHARE)
        return work_s

    def delay_s(self, now: float) -> float:
        """How long a live event that arrives now waits."""
        work_s = self.advance(now)
        if self.yields and self.live < 1:
            return min(work_s, seconds("turn"))
        return work_s


class Node:
    """A frontend. `readers`: those that are connected."""

    __slots__ = ("core", "is_dead", "is_stopping", "opening", "readers")

    def __init__(self) -> None:
        self.core = Core(0.0, yields=True)
        self.readers: set[int] = set()
        self.opening = 0
        self.is_dead = self.is_stopping = False


class Counts:
    """What was counted since the beginning. `delays`: (delay, readers) of live events, once a tick and frontend."""

    def __init__(self) -> None:
        self.attempts = self.refused = self.given_up = self.failed = 0
        self.attempts_by_second: dict[int, int] = {}
        self.gaps: list[float] = []
        self.delays: list[tuple[float, int]] = []
        self.most_readers = 0
