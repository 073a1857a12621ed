"""What a process sees of its Redis servers: whether they reply, their memory, and how far the clocks are apart."""

import asyncio
import time
from collections.abc import Mapping

from tailrace.errors import RedisRefused, Unavailable
from tailrace.redis.server import RedisServer
from tailrace.stats.process_stats import Stats

LOG, QUEUE = "log", "queue"
READ_S = 5.0


class ServerGauges:
    """Reads them every few seconds. `servers`: by the value of the label, `log` and, where it is another, `queue`. Of a
    cluster: whether all primaries reply, the memory of the fullest, and the clock of one."""

    def __init__(self, stats: Stats, servers: Mapping[str, RedisServer]) -> None:
        self._servers = servers
        self._memory = dict.fromkeys(servers, 0.0)
        self._skew_s = 0.0
        stats.gauge("redis_connected", lambda: {(name,): not each.is_away for name, each in servers.items()})
        stats.gauge("redis_memory_ratio", lambda: {(name,): ratio for name, ratio in self._memory.items()})
        stats.gauge("clock_skew_seconds", lambda: self._skew_s)

    async def run(self) -> None:
        """Read until cancelled. While a server is away, its last values stay."""
        while True:
            await asyncio.gather(*map(self._read, self._servers))
            await asyncio.sleep(READ_S)

    async def _read(self, name: str) -> None:
        server = self._servers[name]
        try:
            self._memory[name] = await server.memory_percent() / 100
            if name == LOG:
                began = time.time()
                now = await server.now() / 1000
                took = time.time() - began
                self._skew_s = now - began - took / 2
        except (Unavailable, RedisRefused):  # `redis_connected` has it
            return


def servers_of(log: RedisServer, queue: RedisServer | None) -> dict[str, RedisServer]:
    """By label. `queue`: None if it is the log's server, which has one name then."""
    return {LOG: log, QUEUE: queue} if queue else {LOG: log}
