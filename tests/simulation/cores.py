"""Processes that share the cores of a machine.

A process has one thread: it does one piece of work after another. As long as no more processes are busy than there are
cores, each has a core; beyond that they share the cores equally (processor sharing, which Linux' EEVDF approximates for
processes of the same priority). `taken`: cores that processes outside the model use all the time.

A process that was idle begins after a delay, of a machine that has other processes to run as well: `delays` are samples
of it, in seconds, one of which is drawn for each wake-up.
"""

from collections import deque
from collections.abc import Callable, Sequence

from simulation.engine import Simulation

Done = Callable[[], None]
NEVER = float("inf")
NO_TIME = 1e-9
"""What is left of a piece of work counts as done: at 10⁵ s a float has steps of 10⁻¹¹."""


class Cores:
    """`count` cores of one machine."""

    def __init__(self, simulation: Simulation, count: float, taken: float = 0.0, delays: Sequence[float] = ()) -> None:
        self.simulation = simulation
        self._delays = delays
        self.available = max(count - taken, 0.05)
        self._busy: dict[Process, None] = {}
        self._since = 0.0
        self._version = 0

    def wake_up_delay_s(self) -> float:
        return self.simulation.random.choice(self._delays) if self._delays else 0.0

    @property
    def _speed(self) -> float:
        return min(1.0, self.available / len(self._busy)) if self._busy else 1.0

    def begin(self, process: "Process") -> None:
        self._advance()
        self._busy[process] = None
        self._plan()

    def _advance(self) -> None:
        """Account for the time since the last change."""
        elapsed = self.simulation.now - self._since
        self._since = self.simulation.now
        if elapsed > 0:
            done = elapsed * self._speed
            for process in self._busy:
                process.left_s -= done
                process.cpu_s += done

    def _plan(self) -> None:
        """Schedule the next end of a piece of work; a change before it makes the version old."""
        self._version += 1
        if self._busy:
            first = min(process.left_s for process in self._busy)
            self.simulation.after(max(first, 0.0) / self._speed, self._on_end, self._version)

    def _on_end(self, version: int) -> None:
        if version != self._version:
            return
        self._advance()
        ended = [process for process in self._busy if process.left_s <= NO_TIME]
        for process in ended:
            del self._busy[process]
        for process in ended:
            process.end_work()
        self._plan()


class Process:
    """One thread: pieces of work in the order in which they came. `cpu_s`: seconds of CPU so far."""

    def __init__(self, cores: Cores) -> None:
        self.cpu_s = 0.0
        self.left_s = 0.0
        self._cores = cores
        self._work: deque[tuple[float, Done]] = deque()
        self._doing: Done | None = None
        self._is_waking = self._is_ending = False

    @property
    def is_idle(self) -> bool:
        return self._doing is None and not self._work

    @property
    def waiting(self) -> int:
        """Pieces of work that wait or are being done."""
        return len(self._work) + (self._doing is not None)

    def do(self, seconds: float, done: Done) -> None:
        """Call `done` once so many seconds of CPU were spent, after all earlier work."""
        self._work.append((seconds, done))
        if self._doing is None and not self._is_waking and not self._is_ending:
            self._is_waking = True
            self._cores.simulation.after(self._cores.wake_up_delay_s(), self._wake_up)

    def _wake_up(self) -> None:
        self._is_waking = False
        self._begin_next()

    def end_work(self) -> None:
        """The piece of work is done: `done` is called, and the next one begins."""
        done, self._doing = self._doing, None
        assert done is not None
        self._is_ending = True
        done()
        self._is_ending = False
        if self._work:
            self._begin_next()

    def _begin_next(self) -> None:
        self.left_s, self._doing = self._work.popleft()
        self._cores.begin(self)
