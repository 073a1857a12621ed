"""The clock of a simulation: what is due is kept in a heap, and happens in the order of its time.

Rule 1: Two events of the same time happen in the order in which they were scheduled.
Rule 2: All chance comes from `random`, which is seeded. The same seed gives the same run, to the last digit.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any


class Simulation:
    """`now`: simulated seconds since the beginning."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.events = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, time: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at a time; one that has passed counts as now."""
        heapq.heappush(self._due, (max(time, self.now), next(self._order), call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + seconds, call, *arguments)

    def run(self, until: float) -> None:
        """Let everything happen that is due up to that time, which is `now` afterwards."""
        due, pop = self._due, heapq.heappop
        while due and due[0][0] <= until:
            self.now, _, call, arguments = pop(due)
            self.events += 1
            call(*arguments)
        self.now = until
