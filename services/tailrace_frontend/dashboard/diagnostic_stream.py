"""A stream of known times, for one who looks at what lies between it and this frontend (`http.diagnostics`).

Nothing is read or stored. Each caller has `MAX_PER_CALLER` streams at once on a frontend, and all callers together
`MAX_STREAMS`. A stream counts as a reader, ends with its key, and with a retry hint when the frontend stops.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.types import Send

from tailrace import jsoncodec
from tailrace.errors import ConcurrencyLimited, RateLimited
from tailrace.events import Json
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.dashboard.operator_stream import OperatorStream
from tailrace_frontend.streaming.hub import Hub

MAX_PER_CALLER = 4
MAX_STREAMS = 20


class Plan(NamedTuple):
    """What a stream sends."""

    events: int
    interval_ms: int
    silence_s: int

    @property
    def seconds(self) -> float:
        """For which the stream lasts."""
        return self.events * self.interval_ms / 1000 + self.silence_s


class DiagnosticStreams:
    """How many streams are open at this frontend, in all and of each caller."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    def enter(self, owner: str) -> None:
        """Take a place.

        Raises:
            RateLimited, ConcurrencyLimited: there is none.
        """
        if self._of.total() >= MAX_STREAMS:
            raise RateLimited(f"This frontend has as many diagnostic streams as allowed ({MAX_STREAMS}).")
        if self._of[owner] >= MAX_PER_CALLER:
            raise ConcurrencyLimited(f"The caller has as many diagnostic streams as allowed ({MAX_PER_CALLER}).")
        self._of[owner] += 1

    def leave(self, owner: str) -> None:
        """Undo `enter`."""
        self._of[owner] -= 1
        if not self._of[owner]:
            del self._of[owner]


class DiagnosticStream(OperatorStream):
    """One client. It is admitted when it is made, and must then be `run`."""

    def __init__(
        self, hub: Hub, plan: Plan, hello: Json, streams: DiagnosticStreams, client: ClientConnection, send: Send,
        caller: ApiKey, may_look: Callable[[ApiKey], bool], headers: Sequence[tuple[bytes, bytes]],
    ) -> None:  # fmt: skip
        streams.enter(caller.owner)
        try:
            super().__init__(hub, client, send, caller, may_look, headers)
        except RateLimited:
            streams.leave(caller.owner)
            raise
        self._streams = streams
        self._plan = plan
        self._hello = hello

    async def _follow(self) -> None:
        plan, began = self._plan, time.monotonic()
        self._client.write_chunk(_frame("hello", self._hello | {"time": round(time.time(), 3)}))
        for number in range(1, plan.events + 1):
            if not await self._until(began + number * plan.interval_ms / 1000):
                return
            self._client.write_chunk(_frame("beat", {"number": number, "at_ms": _since_ms(began)}))
        if await self._until(began + plan.seconds):
            self._client.write_chunk(_frame("end", {"at_ms": _since_ms(began)}))

    async def _until(self, due: float) -> bool:
        """Wait, unless the stream is over before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due - time.monotonic()):
                while not self._is_over:
                    await self._wait()
        return not self._is_over

    def _leave(self) -> None:
        self._streams.leave(self.owner)


def _since_ms(began: float) -> float:
    return round(1000 * (time.monotonic() - began), 3)


def _frame(event: str, data: Json) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), jsoncodec.dumps(data))
