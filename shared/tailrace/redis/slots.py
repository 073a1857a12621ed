"""A limit on calls that run at the same time, for calls that fail together when Redis is unavailable."""

import asyncio
from collections import deque

from tailrace.errors import RedisUnavailable


class Slots:
    """At most `count` calls run at a time; the others wait in order.

    There is no limit on the time that a call waits: behind a thousand others it waits for their work. But a call that
    finds Redis unavailable fails all calls that wait, because each of them would find the same, one timeout later.

    (`acquire` and `release` rather than a call that is passed in: each coroutine between a reader's task and the place
    where it waits costs every reader memory, and all readers of a process may wait at the same time.)
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a slot. Each successful call is followed by one of `release`.

        Raises:
            RedisUnavailable: a call that ran meanwhile found the server unavailable.
        """
        if self._free:
            self._free -= 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and not slot.exception():
                self.release()  # the slot was given to a call that is cancelled in the same turn of the loop
            raise

    def release(self) -> None:
        """Give the slot to the next call."""
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                return slot.set_result(None)
        self._free += 1
        return None

    def fail_waiting(self, error: RedisUnavailable) -> None:
        """The call that has a slot found the server unavailable: fail all calls that wait."""
        waiting, self._waiting = self._waiting, deque()
        for slot in waiting:
            if not slot.done():
                slot.set_exception(RedisUnavailable(detail=str(error)))
