"""A check whose result is kept for a moment, so that requests without an API key cannot multiply its cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from tailrace.process.tasks import retrieve_error

MAX_AGE_S = 1.0

T = TypeVar("T")


class Recent(Generic[T]):
    """The result of a check, or its error, at most `MAX_AGE_S` old. Requests at the same time share one run."""

    def __init__(self, check: Callable[[], Awaitable[T]]) -> None:
        self._check = check
        self._run: asyncio.Task[T] | None = None
        self._ended_at = 0.0

    async def get(self) -> T:
        """
        Raises:
            what the check raised.
        """
        if self._run is None or (self._run.done() and time.monotonic() - self._ended_at > MAX_AGE_S):
            self._run = asyncio.create_task(self._checked(), name="check")
            self._run.add_done_callback(retrieve_error)
        return await asyncio.shield(self._run)

    async def _checked(self) -> T:
        try:
            return await self._check()
        finally:
            self._ended_at = time.monotonic()
