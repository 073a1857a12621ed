"""Leaving a server that has become a replica.

A primary that is demoted keeps its connections, and refuses what is written to them. Where an address (of a proxy, a
name in DNS, a virtual IP) has moved to the new primary, only new connections lead there. So the first reply that shows
the demotion closes all connections to that server that no call uses, and those in use once their call has ended.

Subscribers are moved when another server has replied at the address, which its run id shows: a resync of every reader
is not free, and a replica passes on what its primary publishes. Every process reads the run id, and whether the server
is a replica, in each period of its sweeper. So a process that only reads leaves a replica as well.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from tailrace.redis.pipeline import Pipeline
from tailrace.redis.subscriber import Subscriber

REDIAL_S = 0.25
"""Between two times that all connections are closed. The address may not have moved yet."""

logger = logging.getLogger(__name__)


class PrimaryWatch:
    """The connections of one process to one server: `pool`, `pipelines`, and `subscribers`."""

    def __init__(self, pool: Any, pipelines: Sequence[Pipeline]) -> None:
        self._pool = pool
        self._pipelines = pipelines
        self.subscribers: list[Subscriber] = []
        self._left_at = float("-inf")
        self._run_id = ""
        self._run_seen_at = float("-inf")

    async def leave(self, began: float) -> bool:
        """Close the connections to a server that is a replica. `began`: when the call was sent that showed it, of
        `time.monotonic()`. Returns False where they were closed since then, or within `REDIAL_S` before.
        """
        if began - self._left_at < REDIAL_S:
            return False
        self._left_at = time.monotonic()
        logger.warning("redis: the server is a replica: its connections are closed")
        for pipeline in self._pipelines:
            pipeline.reset()
        # Not by the pool's `disconnect`, which waits for each end: a call could take a connection meanwhile.
        for connection in list(self._pool._available_connections):  # noqa: SLF001
            await connection.disconnect(nowait=True)
        return True

    def was_left_since(self, moment: float) -> bool:
        """Whether a connection that was in use at that moment is to be closed instead of being used again."""
        return self._left_at > moment

    def note_run(self, run_id: str) -> None:
        """A server has replied with this run id. A subscriber that connected while another one replied is moved."""
        seen_at, self._run_seen_at = self._run_seen_at, time.monotonic()
        former, self._run_id = self._run_id, run_id
        if former not in ("", run_id):
            for subscriber in self.subscribers:
                subscriber.reconnect_from_before(seen_at)
