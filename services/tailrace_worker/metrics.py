"""A worker's metrics: what its parts count, what it is doing now, and the history of both in Redis."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from tailrace.redis.server import RedisServer
from tailrace.stats import Stats
from tailrace.stats.history import History
from tailrace.stats.server_gauges import ServerGauges, servers_of
from tailrace_worker.operations import Answer, Route


class Activity(NamedTuple):
    """What a worker is doing now."""

    running: Callable[[], int]
    is_draining: Callable[[], bool]
    is_connected: Callable[[], bool]


class WorkerMetrics:
    """Of one worker. `queue_server`: None if it is the log's. `slots`: how many generations it may run."""

    def __init__(
        self, stats: Stats, log_server: RedisServer, queue_server: RedisServer | None, slots: int, activity: Activity
    ) -> None:
        stats.gauge("generations_running", activity.running)
        stats.gauge("worker_slots", lambda: slots)
        stats.gauge("worker_draining", activity.is_draining)
        stats.gauge("subscriber_connected", activity.is_connected)
        self._servers = ServerGauges(stats, servers_of(log_server, queue_server))
        self._history = History(stats, queue_server or log_server, {"running": activity.running})
        self._stats = stats

    def routes(self) -> dict[str, Route]:
        """Metrics, by their path. Prometheus' client library is imported by this call: a worker that has no address
        for them does without it."""
        from tailrace.stats.exposition import CONTENT_TYPE_LATEST, Exposition

        exposition = Exposition(self._stats)

        async def answer() -> Answer:
            return Answer(exposition.text(), CONTENT_TYPE_LATEST)

        return {"/metrics": answer}

    async def run(self) -> None:
        """Flush the history and look at the servers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._servers.run(), name="servers")
            tasks.create_task(self._history.run(), name="history")

    async def close(self) -> None:
        """Flush what is left."""
        await self._history.flush_finally()
