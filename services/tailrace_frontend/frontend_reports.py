"""What this frontend answers when all are asked (`queue.roll_call`): who reads a generation here, and how it is.

One that is stopping, or whose servers are away or unfit, gives the reason, as its `/readyz` does.
"""

import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version

import msgspec

from tailrace.errors import RedisRefused, Unavailable
from tailrace.process.recent import Recent
from tailrace.queue.roll_call import Question
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.stream_connection import StreamConnection

MOST_READERS = 200
"""Of one frontend: the count has all of them."""

SEE_LOG = "The frontend's log has the reason."

Problems = Callable[[], Awaitable[tuple[list[str], list[str]]]]


class Reader(msgspec.Struct, frozen=True):
    """An event stream. `cursor`: the last entry that it was sent. `state`: a value of `streaming.hub.ACTIVITIES`.
    `format`: its media type. `watches`: it is an operator's, and counts for nothing."""

    cursor: str
    seq: int
    state: str
    format: str
    watches: bool


class ReadersReport(msgspec.Struct, frozen=True):
    """The readers of a generation at one frontend; `count`: also those beyond the first `MOST_READERS`."""

    count: int
    readers: Sequence[Reader]


class FrontendStatus(msgspec.Struct, frozen=True):
    """One frontend. `refusal`: why its `/readyz` is answered 503; empty: it is ready."""

    host: str
    pid: int
    version: str
    started_at: float
    readers: int
    refusal: str
    warnings: Sequence[str]


class FrontendReports:
    """The answers of one frontend. `problems`: of its servers, as `Services.problems`."""

    def __init__(self, hub: Hub, problems: Problems) -> None:
        self._hub = hub
        self._problems = Recent(problems)
        self._started_at = time.time()

    async def answer(self, question: Question) -> bytes:
        if question.kind == "readers":
            return msgspec.json.encode(self._readers(question.about))
        return msgspec.json.encode(await self._status())

    def _readers(self, generation_id: str) -> ReadersReport:
        found = [] if not self._hub.is_followed(generation_id) else [
            each for each in self._hub.connections
            if isinstance(each, StreamConnection) and each.cursor.record.id == generation_id
        ]  # fmt: skip
        return ReadersReport(len(found), [_reader(each) for each in found[:MOST_READERS]])

    async def _status(self) -> FrontendStatus:
        refusal, warnings = "", list[str]()
        try:
            warnings = await self.check_ready()
        except (Unavailable, RedisRefused) as error:
            refusal = error.message
        return FrontendStatus(
            platform.node(), os.getpid(), version("tailrace"), self._started_at, self._hub.count, refusal, warnings
        )

    async def check_ready(self) -> list[str]:
        """Whether the servers of the logs and of the queue answer and are set up so that logs are safe there, and what
        is appended is received. Returns what merely deserves a warning.

        Raises:
            Unavailable, RedisRefused: this frontend is not ready, or stops.
        """
        if self._hub.draining:
            raise Unavailable("This frontend is stopping.")
        wrong, warnings = await self._problems.get()
        if wrong:
            raise Unavailable("; ".join(wrong))
        if self._hub.is_cut_off:
            raise Unavailable(f"The subscriber connection is down; streams end with a retry hint. {SEE_LOG}")
        if not self._hub.subscriber.connected:
            return [*warnings, f"the subscriber connection is down: {SEE_LOG}"]
        return warnings


def _reader(connection: StreamConnection) -> Reader:
    cursor = connection.cursor
    position = cursor.position
    return Reader(
        "" if position.seq < 0 else str(position), position.seq, connection.activity, cursor.format.media_type,
        cursor.watches,
    )  # fmt: skip
