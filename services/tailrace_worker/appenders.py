"""An appender for each server of logs: one that is away delays no other.

A writer keeps its appender while its slot moves to another primary of a cluster: the cluster's router finds the server
of each batch. It keeps it also when a replica takes over, because appenders are numbered as primaries are. Where a
primary joins or leaves, these numbers change: until the answers of that moment have ended, an appender may have writers
of two primaries.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tailrace import keys
from tailrace.events import GenerationRecord
from tailrace.log import Log
from tailrace.stats import Stats
from tailrace_worker.appender import Appender


class Appenders:
    """Those of one worker; the arguments are those of `Appender`."""

    def __init__(
        self, log: Log, on_restored: Callable[[GenerationRecord], Awaitable[None]], stats: Stats | None = None
    ) -> None:
        self._log = log
        self._on_restored = on_restored
        self._stats = stats
        self._appenders: dict[int, Appender] = {}
        self._new: asyncio.Queue[Appender] = asyncio.Queue()

    def of(self, generation_id: str) -> Appender:
        """The one that sends the batches of this generation.

        Raises:
            RedisUnavailable: no server of the cluster has its slot.
        """
        number = self._log.server.primary_number(keys.log(generation_id))
        if number not in self._appenders:
            self._appenders[number] = appender = Appender(self._log, self._on_restored, self._stats)
            self._new.put_nowait(appender)
        return self._appenders[number]

    async def run(self) -> None:
        """Have all of them send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                appender = await self._new.get()
                tasks.create_task(appender.run(), name="appender")
