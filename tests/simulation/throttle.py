"""`tailrace.process.throttle.Throttle` in simulated time; a test compares the two."""

from simulation.engine import Simulation


class SimulatedThrottle:
    """Arguments and result of `charge` as there."""

    def __init__(
        self, simulation: Simulation, interval_s: float, burst: int = 4, each_s: float = 0.0, longest_s: float = 0.0
    ) -> None:
        self._simulation = simulation
        self._interval_s = interval_s
        self._slack_s = burst * interval_s
        self._each_s = each_s
        self._longest_s = max(interval_s, longest_s)
        self._due = 0.0

    def charge(self, count: int = 1) -> float:
        now = self._simulation.now
        self._due = max(self._due, now) + min(max(self._interval_s, count * self._each_s), self._longest_s)
        return self._due - now - self._slack_s
