"""Waiting for the end of a generation, `GET …?wait=30`, without polling for it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from tailrace.events import Entry
from tailrace.log import Position
from tailrace.log.state import GenerationState
from tailrace.wire import Frame
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.live_tail import LiveTail

MAX_AGE_S = 2.0
"""The state is read again after so long in any case: the price of a lost message."""


class Client(Protocol):
    """The connection of a client that waits (a `ClientConnection`)."""

    lost: bool
    on_lost: Callable[[], None] | None


class CompletionWaiter:
    """A connection without a stream: it follows a log only to learn that it has changed."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.draining = False
        self._changed = asyncio.Event()
        self._changed.set()  # what the tail has already may be newer than the state that was read before

    def on_entries(self, before_seq: int, frames: Sequence[Frame], entries: Sequence[Entry]) -> bool:  # noqa: ARG002
        self._changed.set()
        return True

    def on_resync(self) -> None:
        self._changed.set()

    def on_position(self, position: Position | None) -> None:  # noqa: ARG002 - it reads the state more often itself
        self._changed.set()

    def drain(self) -> None:
        self.draining = True
        self._changed.set()

    abort = drain

    def tick(self, now: float) -> None:
        pass

    async def wait_for_end(self, tail: LiveTail, seconds: float) -> None:
        """Wait until a change after which the tail has ended, or this process stops, or the time is up.

        An end that the tail already had at the previous call is no reason to return: a server that came back with older
        data has lost it, and the state would be read in a loop (measured: 20,406 reads in 2.2 s).
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.draining:
                    await self._changed.wait()
                    self._changed.clear()
                    if tail.has_ended:
                        return


async def wait_for_completion(
    hub: Hub, state: GenerationState, seconds: float, client: Client | None = None
) -> GenerationState:
    """The state once the generation has ended, or after `seconds`, or when this process stops or the client leaves.

    Raises:
        NotFound, Gone: the generation disappeared meanwhile.
        RateLimited: as `Hub.join`; a request that waits counts as a stream.
    """
    if state.is_final:
        return state
    generation_id = state.record.id
    deadline = asyncio.get_running_loop().time() + seconds
    waiter = CompletionWaiter(state.record.owner)
    hub.join(waiter)
    tail = hub.subscribe(waiter, state.record)
    if client is not None:
        client.on_lost = waiter.abort
    try:
        if client is not None and client.lost:  # before it could be reported
            return state
        while not state.is_final and not waiter.draining:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await waiter.wait_for_end(tail, min(left, MAX_AGE_S))
            state = await hub.log.state(generation_id)
    finally:
        if client is not None:
            client.on_lost = None
        hub.unsubscribe(waiter, generation_id)
        hub.leave(waiter)
    return state
