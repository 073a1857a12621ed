"""One task that takes a snapshot a second, for all who look at this frontend's dashboard.

    first viewer ──▶ task runs ── last viewer leaves ── LINGER_S ──▶ task ends

So Redis has one pipeline a second from each frontend where somebody looks, however many look, and none where no one
does. Each snapshot is encoded once. The last minutes are kept while the task runs, for those who come later.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Protocol

from tailrace.errors import TailraceError, Unavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace_frontend.dashboard.snapshot import Snapshot, SnapshotReader, encoded, failed

INTERVAL_S = 1.0
LINGER_S = 10.0
KEPT = 300
"""Rows of the last minutes, one a snapshot."""

SERIES = ("at", "waiting", "running", "tokens_per_second", "commands_per_second", "memory_percent", "readers")
"""The columns of a row."""

logger = logging.getLogger(__name__)


class Viewer(Protocol):
    """Somebody who looks."""

    def show(self, event: bytes) -> None:
        """Send an event of the stream, or leave it out where the client takes nothing."""


class SnapshotFeed:
    """The snapshots of one frontend."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._left_at = 0.0
        self._rows: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        self._last: Snapshot | None = None
        self.taken = 0

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def join(self, viewer: Viewer) -> None:
        """Show each snapshot from now on, the last one at once with the minutes before it."""
        self._viewers.add(viewer)
        if self._last is not None and self.is_running:
            viewer.show(encoded(self._last, self._rows_as_lists()))
        if not self.is_running:
            self._task = asyncio.create_task(self._run(), name="snapshots")

    def leave(self, viewer: Viewer) -> None:
        """Undo `join`."""
        self._viewers.discard(viewer)
        self._left_at = time.monotonic()

    async def now(self) -> Snapshot:
        """The snapshot of this second: of the task if it runs, otherwise a new one.

        Raises:
            Unavailable, RedisRefused: there is none.
        """
        if self.is_running and self._last is not None:
            return self._last
        self.taken += 1
        return await self._reader.first()

    async def close(self) -> None:
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        self._rows.clear()
        self._last = None
        while self._viewers or time.monotonic() - self._left_at < LINGER_S:
            began = time.monotonic()
            self._show(await self._take())
            await asyncio.sleep(max(0.1, INTERVAL_S - (time.monotonic() - began)))
        self._last = None

    async def _take(self) -> bytes:
        self.taken += 1
        try:
            snapshot = await (self._reader.first() if self._last is None else self._reader.read())
        except TailraceError as error:
            return failed(error)
        except Exception:
            logger.exception("no snapshot could be taken")
            return failed(Unavailable("No snapshot could be taken. The frontend's log has the reason."))
        is_first = self._last is None
        self._last = snapshot
        server = snapshot.servers[0]
        self._rows.append(
            (
                snapshot.at / 1000, snapshot.waiting, snapshot.running, snapshot.tokens_per_second,
                server.commands_per_second, server.percent, snapshot.readers,
            )
        )  # fmt: skip
        return encoded(snapshot, self._rows_as_lists() if is_first else None)

    def _show(self, event: bytes) -> None:
        for viewer in list(self._viewers):
            viewer.show(event)

    def _rows_as_lists(self) -> list[list[float]]:
        return [list(row) for row in self._rows]
