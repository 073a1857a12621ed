"""An event that has no queue until a task waits for it.

An `asyncio.Event` has a queue of 0.6 KB. uvicorn makes two for each connection: one for what its client sends while a
response is under way, and one for room in its socket. A live reader sends nothing, and mostly has room.
"""

import asyncio


class LateEvent:
    """What uvicorn needs of an `asyncio.Event`."""

    __slots__ = ("_event", "_is_set")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._event: asyncio.Event | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> bool:
        """Wait until the next `set`, or return at once where it was the last call."""
        if not self._is_set:
            self._event = self._event or asyncio.Event()
            await self._event.wait()
        return True
