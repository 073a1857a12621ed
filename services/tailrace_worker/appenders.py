"""An appender for each server of logs: one that is away delays no other.

A writer keeps its appender while its slot moves to another primary of a cluster, and while a replica takes over: the
cluster's router finds the server of each batch. Later writers have an appender for the new primary, so until the
answers of that moment have ended, two appenders may send to one server, or one to two. An appender ends with its last
writer.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tailrace import keys
from tailrace.events import GenerationRecord
from tailrace.log import Log
from tailrace.redis.server import RedisServer
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
        self._appenders: dict[RedisServer, Appender] = {}
        self._writers = Counter[Appender]()
        self._new: asyncio.Queue[Appender] = asyncio.Queue()

    def join(self, generation_id: str) -> Appender:
        """The appender for a writer of this generation, until `leave`.

        Raises:
            RedisUnavailable: no server of the cluster has its slot.
        """
        primary = self._log.server.primary_of(keys.log(generation_id))
        if primary not in self._appenders:
            self._appenders[primary] = appender = Appender(self._log, self._on_restored, self._stats)
            self._new.put_nowait(appender)
        appender = self._appenders[primary]
        self._writers[appender] += 1
        return appender

    def leave(self, appender: Appender) -> None:
        """The writer has ended; the last one ends the appender."""
        assert self._writers[appender] > 0, "it has left already"
        self._writers[appender] -= 1
        if not self._writers[appender]:
            del self._writers[appender]
            self._appenders = {primary: each for primary, each in self._appenders.items() if each is not appender}
            appender.stop()

    async def run(self) -> None:
        """Have all of them send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                appender = await self._new.get()
                tasks.create_task(appender.run(), name="appender")
