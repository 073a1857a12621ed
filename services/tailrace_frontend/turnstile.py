"""How much of a turn of the event loop goes to those who arrive.

Live readers are served by the callback that receives what is appended, once a turn. So a turn has to be short, however
many requests and readers arrive: a thousand requests that began in one turn kept all live readers waiting for 0.7 s,
and 8,000 readers that connected for up to 0.3 s (measured).

Each piece of such work, up to about 0.2 ms until it next waits for something, is a *step*. A turn has a number of them;
the others wait in order: one of each stage, then those of a later stage first. So what has begun is completed before
more begins, what waits at a late stage, and may hold something, is little, and long replays never stop arrivals.

The rule counts steps and not time: a slow machine has longer turns, and not fewer readers a turn.
"""

import asyncio
from collections import deque
from collections.abc import Callable

BEGIN, OPEN, READ = range(3)
"""The stages of a reader that arrives: it looks for its log, joins the log's readers, and reads a page."""

STAGES = 3

Step = Callable[[], None]


class Turnstile:
    """Lets `steps` pass in each turn of the event loop. `stages`: how many kinds of steps there are."""

    def __init__(self, steps: int, stages: int = 1) -> None:
        self._steps = self._left = steps
        self._waiting: tuple[deque[Step], ...] = tuple(deque() for _ in range(stages))
        self._is_counting = False

    @property
    def waiting(self) -> int:
        """Steps that wait."""
        return sum(map(len, self._waiting))

    def take_step(self) -> bool:
        """Take a step of this turn. Returns False where none is left."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        if not self._left:
            return False
        self._left -= 1
        return True

    def wait(self, step: Step, stage: int = 0) -> None:
        """Call a step that has not passed, in a later turn."""
        self._waiting[stage].append(step)

    async def enter(self, stage: int = 0) -> None:
        """Wait for a step, if none is left."""
        if not self.take_step():
            entered = asyncio.get_running_loop().create_future()
            self.wait(lambda: None if entered.done() else entered.set_result(None), stage)  # done: its task has ended
            await entered

    def _next_turn(self) -> None:
        self._left = self._steps
        self._is_counting = any(self._waiting)
        if self._is_counting:  # first, because a step may fail
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._steps > len(self._waiting):
            for waiting in filter(None, self._waiting):
                self._pass(waiting)
        for waiting in reversed(self._waiting):
            while self._left and waiting:
                self._pass(waiting)

    def _pass(self, waiting: deque[Step]) -> None:
        self._left -= 1
        waiting.popleft()()
