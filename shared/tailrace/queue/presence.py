"""Which workers are alive: each sends a heartbeat every third of a lease, and counts for three leases."""

from tailrace import keys
from tailrace.redis.server import RedisServer
from tailrace.scripts import Command


class WorkerPresence:
    """The workers of the fleet, by name."""

    def __init__(self, server: RedisServer, *, lease_ms: int) -> None:
        self._server = server
        self._lease_s = lease_ms / 1000

    async def heartbeat(self, worker: str) -> None:
        now_s = await self._server.now() / 1000
        await self._server.execute("ZADD", keys.WORKERS, now_s, worker)
        await self._server.execute("ZREMRANGEBYSCORE", keys.WORKERS, "-inf", now_s - 3 * self._lease_s)

    async def deregister(self, worker: str) -> None:
        await self._server.execute("ZREM", keys.WORKERS, worker)

    async def count(self) -> int:
        """Workers whose last heartbeat is at most three leases old."""
        return int(await self._server.execute(*self.count_command(await self._server.now())))

    def count_command(self, now_ms: int) -> Command:
        """The command of `count`, to be sent together with others."""
        return ("ZCOUNT", keys.WORKERS, now_ms / 1000 - 3 * self._lease_s, "+inf")
