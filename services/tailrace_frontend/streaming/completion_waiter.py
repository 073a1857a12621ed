"""Waiting for an end without asking for it again and again: `GET …?wait=30`."""

import asyncio
import contextlib

from tailrace.events import GenerationRecord
from tailrace.log import Position
from tailrace.log.state import GenerationState
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.live_tail import LiveTail

LOOK_S = 2.0  # a lost message costs this much


class CompletionWaiter:
    """Follows a log only to hear that something was added."""

    def __init__(self, record: GenerationRecord) -> None:
        self.record = record
        self._heard = asyncio.Event()
        self._leaving = False

    def hear(self) -> bool:
        self._heard.set()
        return True

    def look(self, position: Position | None) -> None:  # noqa: ARG002 - it looks more often by itself
        self._heard.set()

    def leave(self) -> None:
        self._leaving = True
        self._heard.set()

    cut = leave

    def tick(self, now: float) -> None:
        pass

    async def hear_end(self, tail: LiveTail, seconds: float) -> None:
        """Wait until the end was heard, or this process stops, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not tail.has_ended and not self._leaving:
                    await self._heard.wait()
                    self._heard.clear()


async def wait_for_completion(hub: Hub, state: GenerationState, seconds: float) -> GenerationState:
    """The state once it has ended, or when the time is up, or this process stops.

    Raises:
        NotFound, Gone: it is taken away meanwhile.
        RateLimited: there are as many readers as there may be; who waits is one of them.
    """
    if state.is_final:
        return state
    hub.admit(state.record.owner)
    deadline = asyncio.get_running_loop().time() + seconds
    waiting = CompletionWaiter(state.record)
    tail = hub.join(waiting)
    try:
        while not state.is_final and not hub.draining:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await waiting.hear_end(tail, min(left, LOOK_S))
            state = await hub.log.state(state.record.id)
    finally:
        hub.leave(waiting)
    return state
