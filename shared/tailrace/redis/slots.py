"""A limit on calls that run at the same time, for calls that fail together when Redis is unavailable."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tailrace.errors import RedisUnavailable

T = TypeVar("T")


class Slots:
    """At most `count` calls run at a time; the others wait in order.

    There is no limit on the time that a call waits: behind a thousand others it waits for their work. But a call that
    finds Redis unavailable fails all calls that wait, because each of them would find the same, one timeout later.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of the call.

        Raises:
            RedisUnavailable: the call raised it, or one that ran while this one waited.
        """
        await self._enter()
        try:
            return await call()
        except RedisUnavailable as error:
            self._fail_waiting(error)
            raise
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and not slot.exception():
                self._leave()  # the slot was given to a call that is cancelled in the same turn of the loop
            raise

    def _leave(self) -> None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                return slot.set_result(None)
        self._free += 1
        return None

    def _fail_waiting(self, error: RedisUnavailable) -> None:
        waiting, self._waiting = self._waiting, deque()
        for slot in waiting:
            if not slot.done():
                slot.set_exception(RedisUnavailable(detail=str(error)))
