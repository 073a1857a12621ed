"""What a process keeps for each owner, for as long as it is of use. An issuer of tokens may have any number of them."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

LOOKED_AT = 2
"""Values that each change looks at: more than the one that it may add, so that those that are over do not pile up."""

Value = TypeVar("Value")


class PerOwner(Generic[Value]):
    """A value for each owner, until it `is_over`. It may stay a while longer."""

    def __init__(self, is_over: Callable[[Value], bool]) -> None:
        self._is_over = is_over
        self._values = OrderedDict[str, Value]()  # a dict takes longer to find its first key, the more were removed

    def __len__(self) -> int:
        return len(self._values)

    def get(self, owner: str) -> Value | None:
        """The owner's value; None: it has none, or it was over."""
        return self._values.get(owner)

    def set(self, owner: str, value: Value) -> None:
        """Keep this value, and drop what is over of those that were not looked at for longest."""
        self._values[owner] = value
        for _ in range(min(LOOKED_AT, len(self._values))):
            looked_at, known = self._values.popitem(last=False)
            if not self._is_over(known):
                self._values[looked_at] = known


class Turns:
    """Places for `most` tasks of each owner, in the order of the calls. Nothing is kept of an owner without tasks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._tasks: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._semaphores)

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """Waits for a place, and holds it."""
        semaphore = self._semaphores.setdefault(owner, asyncio.Semaphore(self._most))
        self._tasks[owner] += 1
        try:
            async with semaphore:
                yield
        finally:
            self._tasks[owner] -= 1
            if not self._tasks[owner]:
                del self._tasks[owner], self._semaphores[owner]
