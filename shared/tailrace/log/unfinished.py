"""Which generations are unfinished: an index beside the logs, in 16 sets, where the sweepers find them.

It is on the log's server, so that it shares the fate of the logs: a generation is added before its state is written and
removed after its `done`, hence whatever moment the server goes back to, each unfinished state of that moment is in the
index. (On the queue's server it was lost with the queue, and a log that went back alone was not found again: of ten
queued and ten running generations, none ended after that server had been flushed.)

An id in the index is a hint. It may have ended since, or never have been created. A set is a key of its own, and no
script uses one together with the keys of a generation, which may be in another slot of a cluster.
"""

from collections.abc import Sequence

from tailrace import keys, scripts
from tailrace.errors import RedisFull
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command


class UnfinishedIndex:
    """The ids of the generations on one log's server that may be unfinished."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def add_command(self, generation_id: str) -> Command:
        """Add a generation that is about to be created. A server without room refuses it, as it refuses the state."""
        return ("SADD", keys.unfinished(generation_id), generation_id)

    async def add_restored(self, generation_id: str) -> None:
        """Add a generation that is about to be restored, also on a server without room."""
        await self._server.execute(*scripts.ADD_UNFINISHED.on([keys.unfinished(generation_id)], generation_id))

    async def remove(self, generation_id: str) -> None:
        """Remove a generation that has ended, after everything that hangs on its end."""
        await self._server.execute("SREM", keys.unfinished(generation_id), generation_id)

    async def remove_missing(self, generation_id: str) -> None:
        """Remove a generation that has no state, unless a repeat of its creation has made one meanwhile."""
        remove = ("SREM", keys.unfinished(generation_id), generation_id)
        _, exists = checked(await self._server.execute_many([remove, ("EXISTS", keys.state(generation_id))]))
        if exists:
            await self._server.execute(*self.add_command(generation_id))

    async def list(self, shard: int) -> list[str]:
        """Ids of a shard."""
        members = await self._server.execute("SMEMBERS", keys.all_unfinished()[shard])
        return [each.decode() for each in members]

    async def claim(self, shard: int, period_ms: int) -> bool:
        """Whether this process sweeps the shard in this period. One process of the fleet does; on a full server,
        all."""
        try:
            return bool(await self._server.execute("SET", keys.swept(shard), b"", "NX", "PX", period_ms))
        except RedisFull:
            return True

    async def suspect(self, shard: int, generation_ids: Sequence[str]) -> dict[str, int]:
        """Note that these generations of the shard, and no others, seem to be stuck in this sweep.

        Returns for each of them the milliseconds since the first of the sweeps that found it so, without a sweep in
        between that did not. The sweeps of all processes count: which of them sweeps a shard is chance.
        """
        command = scripts.SUSPECT.on([keys.suspected(shard)], 1000 * SUSPECTED_S, *generation_ids)
        return dict(zip(generation_ids, map(int, await self._server.execute(*command)), strict=True))


SUSPECTED_S = 300
"""How long a suspicion is kept after the last sweep of its shard."""
