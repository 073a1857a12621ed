"""Word that Redis was away and is back: whatever a worker holds may be unknown to it now."""

import asyncio
import contextlib


class ReconnectSignal:
    """Heard by everybody who waits when it rings."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait that long, or until it rings: whether it did."""
        event = self._next
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        return event.is_set()
