"""Which workers are alive: each sends a heartbeat every third of a lease, and counts for three leases.

A heartbeat carries what the worker reports of itself, for those who look at the fleet.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tailrace import keys
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command


class WorkerStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker reports of itself. `started_at`: epoch seconds by its own clock. `running` of `slots` jobs are
    under way; a worker that is `draining` takes no further one. `tokens_per_second`: pieces of content since the
    heartbeat before. `rss_bytes`: its memory, where the system reports it. `refusal`: why its `/readyz` is answered
    503; empty: it is ready. `warnings`: what merely deserves one."""

    host: str = ""
    pid: int = 0
    version: str = ""
    started_at: float = 0.0
    running: int = 0
    slots: int = 0
    draining: bool = False
    tokens_per_second: float = 0.0
    rss_bytes: int | None = None
    refusal: str = ""
    warnings: Sequence[str] = ()


UNKNOWN = WorkerStatus()
"""Of a worker that reports nothing of itself."""


class LiveWorker(NamedTuple):
    """A worker, the ms since its last heartbeat, and what that said."""

    name: str
    silent_ms: int
    status: WorkerStatus


class WorkerPresence:
    """The workers of the fleet, by name."""

    def __init__(self, server: RedisServer, *, lease_ms: int) -> None:
        self._server = server
        self._lease_s = lease_ms / 1000

    async def heartbeat(self, worker: str, status: WorkerStatus = UNKNOWN) -> None:
        now_s = await self._server.now() / 1000
        life_ms = round(3000 * self._lease_s)
        checked(
            await self._server.execute_many(
                [
                    ("ZADD", keys.WORKERS, now_s, worker),
                    ("ZREMRANGEBYSCORE", keys.WORKERS, "-inf", now_s - 3 * self._lease_s),
                    ("SET", keys.worker_status(worker), msgspec.json.encode(status), "PX", life_ms),
                ]
            )
        )

    async def deregister(self, worker: str) -> None:
        commands: list[Command] = [("ZREM", keys.WORKERS, worker), ("DEL", keys.worker_status(worker))]
        checked(await self._server.execute_many(commands))

    async def count(self) -> int:
        """Workers whose last heartbeat is at most three leases old."""
        return int(await self._server.execute(*self.count_command(await self._server.now())))

    def count_command(self, now_ms: int) -> Command:
        """The command of `count`, to be sent together with others."""
        return ("ZCOUNT", keys.WORKERS, now_ms / 1000 - 3 * self._lease_s, "+inf")

    async def workers(self) -> list[LiveWorker]:
        """The workers that are alive, by name."""
        now_ms = await self._server.now()
        alive = now_ms / 1000 - 3 * self._lease_s
        reply = await self._server.execute("ZRANGE", keys.WORKERS, alive, "+inf", "BYSCORE", "WITHSCORES")
        names = [name.decode() for name in reply[::2]]
        if not names:
            return []
        statuses = await self._server.execute("MGET", *map(keys.worker_status, names))
        seen = [round(1000 * float(score)) for score in reply[1::2]]
        found = zip(names, seen, statuses, strict=True)
        return sorted(LiveWorker(name, max(0, now_ms - at), status_from(status)) for name, at, status in found)


def status_from(stored: bytes | None) -> WorkerStatus:
    """The status as it is stored; nothing is known where there is none, or where a later version wrote it."""
    try:
        return msgspec.json.decode(stored, type=WorkerStatus) if stored else UNKNOWN
    except msgspec.MsgspecError:
        return UNKNOWN
