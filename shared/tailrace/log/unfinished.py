"""Which generations are unfinished: an index beside the logs, in sets, where the sweepers find them.

It is on the log's server, so that it shares the fate of the logs: a generation is added before its state is written and
removed after its `done`, hence whatever moment the server goes back to, each unfinished state of that moment is in the
index. (On the queue's server it was lost with the queue, and a log that went back alone was not found again: of ten
queued and ten running generations, none ended after that server had been flushed.)

An id in the index is a hint. It may have ended since, or never have been created. One server has 16 sets. A cluster has
one in each slot, because a slot is what a failover or a move of slots treats as a whole: a set elsewhere could go back
further than the states that it names. No script uses a set together with the keys of a generation.

The sets are swept in shards, each on one server: of a single server each set is one, of a primary each thousand slots.
(16,384 empty sets take 31 ms of CPU, in pieces of 2 ms, and 1.5 ms of Redis, once in a period by one process.)
"""

from collections.abc import Sequence
from itertools import chain

from tailrace import keys, scripts
from tailrace.errors import RedisFull
from tailrace.redis.cluster import RedisCluster
from tailrace.redis.hash_slots import slot_of, tags
from tailrace.redis.primary import Primary
from tailrace.redis.server import RedisServer, checked
from tailrace.scripts import Command

SHARD_SLOTS = 1024


class UnfinishedShard:
    """Some of the sets of one server. `server` has them; `name` is one of the arguments of `keys.swept`.

    `log_server`: the same, or its cluster, which finds a set whose slot has moved.
    """

    def __init__(self, log_server: RedisServer, server: RedisServer, name: int | str, sets: Sequence[str]) -> None:
        self.server = server
        self.name = name
        self._log_server = log_server
        self._sets = sets

    async def list(self) -> list[str]:
        """The ids.

        Raises:
            RedisUnavailable
        """
        found = checked(await self._log_server.execute_many([("SMEMBERS", each) for each in self._sets]))
        return [each.decode() for each in chain.from_iterable(found)]

    async def claim(self, period_ms: int) -> bool:
        """Whether this process sweeps the shard in this period. One process of the fleet does; on a full server,
        all."""
        try:
            return bool(await self._log_server.execute("SET", keys.swept(self.name), b"", "NX", "PX", period_ms))
        except RedisFull:
            return True

    async def suspect(self, generation_ids: Sequence[str]) -> dict[str, int]:
        """Note that these generations of the shard, and no others, seem to be stuck in this sweep.

        Returns for each of them the milliseconds since the first of the sweeps that found it so, without a sweep in
        between that did not. The sweeps of all processes count: which of them sweeps a shard is chance.
        """
        command = scripts.SUSPECT.on([keys.suspected(self.name)], 1000 * SUSPECTED_S, *generation_ids)
        return dict(zip(generation_ids, map(int, await self._log_server.execute(*command)), strict=True))


class UnfinishedIndex:
    """The ids of the generations on one log's server that may be unfinished."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._shards: dict[Primary, tuple[Sequence[range], Sequence[UnfinishedShard]]] = {}

    async def shards(self) -> Sequence[UnfinishedShard]:
        """All of them.

        Raises:
            RedisUnavailable: no server of the cluster responds.
        """
        if isinstance(self._server, RedisCluster):
            primaries = await self._server.primaries()
            self._shards = {primary: self._shards_of(primary, self._server) for primary in primaries}
            return [shard for _, shards in self._shards.values() for shard in shards]
        server = self._server
        return [UnfinishedShard(server, server, number, [key]) for number, key in enumerate(keys.all_unfinished())]

    def _shards_of(self, primary: Primary, cluster: RedisCluster) -> tuple[Sequence[range], Sequence[UnfinishedShard]]:
        """The slots of a primary and their shards: the same as before, unless the topology was read since then. (All
        sets of a cluster are named in 5 ms of CPU, and every process does so for each sweep.)"""
        known = self._shards.get(primary)
        return known if known and known[0] is primary.slots else (primary.slots, _shards_of(cluster, primary))

    def _set_of(self, generation_id: str) -> str:
        if isinstance(self._server, RedisCluster):
            return keys.unfinished_in(tags()[slot_of(keys.state(generation_id))])
        return keys.unfinished(generation_id)

    def add_command(self, generation_id: str) -> Command:
        """Add a generation that is about to be created. A server without room refuses it, as it refuses the state."""
        return ("SADD", self._set_of(generation_id), generation_id)

    async def add_restored(self, generation_id: str) -> None:
        """Add a generation that is about to be restored, also on a server without room."""
        await self._server.execute(*scripts.ADD_UNFINISHED.on([self._set_of(generation_id)], generation_id))

    async def remove(self, generation_id: str) -> None:
        """Remove a generation that has ended, after everything that hangs on its end."""
        await self._server.execute("SREM", self._set_of(generation_id), generation_id)

    async def remove_missing(self, generation_id: str) -> None:
        """Remove a generation that has no state, unless a repeat of its creation has made one meanwhile."""
        remove = ("SREM", self._set_of(generation_id), generation_id)
        _, exists = checked(await self._server.execute_many([remove, ("EXISTS", keys.state(generation_id))]))
        if exists:
            await self._server.execute(*self.add_command(generation_id))


def _shards_of(cluster: RedisCluster, primary: Primary) -> list[UnfinishedShard]:
    found = [tags()[slot] for slot in chain.from_iterable(primary.slots)]
    shards = [found[start : start + SHARD_SLOTS] for start in range(0, len(found), SHARD_SLOTS)]
    return [UnfinishedShard(cluster, primary, some[0], list(map(keys.unfinished_in, some))) for some in shards]


SUSPECTED_S = 300
"""How long a suspicion is kept after the last sweep of its shard."""
