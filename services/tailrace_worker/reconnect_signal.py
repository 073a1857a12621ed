"""A signal that the connection to Redis was lost and is back: the server may have lost what this worker wrote."""

import asyncio
import contextlib


class ReconnectSignal:
    """Wakes every task that waits when `notify` is called."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for the next `notify`, at most this long. Returns whether it was called."""
        event = self._next
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        return event.is_set()
