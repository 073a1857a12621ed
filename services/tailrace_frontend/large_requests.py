"""Work on large requests, in steps that delay other requests little, and in bounded memory.

Each step runs in a turn of the event loop of its own, and large requests are handled one at a time. The size of a
request may become known while it is handled: one that continues a conversation is as large as the conversation.
"""

import asyncio
from collections.abc import Callable
from typing import Self, TypeVar

LARGE_BYTES = 64 * 1024
"""A smaller request is handled in one turn of the event loop."""

TURN_BYTES = 256 * 1024
"""Handling a request takes several times its size in memory, so larger ones are handled one at a time."""

T = TypeVar("T")


async def step(size: int, work: Callable[[], T]) -> T:
    """One step of the work on a request of `size` bytes; of a large one, in a turn of the event loop of its own."""
    if size > LARGE_BYTES:
        await asyncio.sleep(0)
    return work()


class Turn:
    """The turn of one request among all large ones: taken as soon as the request is known to be large, and kept to the
    end of the block. A caller that waits for it must hold nothing that a large request waits for.

    `size`: the bytes that the request is known to have. `is_held`: an outer block has the turn already.
    """

    def __init__(self, lock: asyncio.Lock, size: int = 0, *, is_held: bool = False) -> None:
        self.size = size
        self._lock = lock
        self._is_held = is_held
        self._is_taken = False

    async def grow(self, size: int) -> None:
        """Note that the request has at least so many bytes, before they are decoded."""
        self.size = max(self.size, size)
        if self.size > TURN_BYTES and not (self._is_held or self._is_taken):
            await self._lock.acquire()
            self._is_taken = True

    async def step(self, work: Callable[[], T]) -> T:
        """One step of the work on what is known of the request."""
        return await step(self.size, work)

    async def __aenter__(self) -> Self:
        await self.grow(self.size)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._is_taken:
            self._is_taken = False
            self._lock.release()
