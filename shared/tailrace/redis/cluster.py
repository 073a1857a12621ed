"""Redis Cluster, as the rest of Tailrace sees it: one server that is many.

Each primary is a `RedisServer` with its own shared connection, subscriber, run, clock and memory. This module finds the
primary of a command's slot (`hash_slots`), and follows the servers where they disagree:

    reply or event                       what it means                         what follows
    MOVED                                the slot has another server           it goes there; the topology is read
    ASK                                  the key has moved, the slot not yet   the command goes there, this once
    TRYAGAIN, CLUSTERDOWN                between two servers, or on none       again, with backoff, up to 3 s
    no connection, or no reply           the server is away, or failed over    the topology is read; again where the
                                                                               slot has another server
    `sunsubscribe` that was not asked    the slot has been given away          the topology is read; subscribed there

The last four are how a failover and a moved slot look to a client (Redis Cluster Specification; measured in
`docs/reliability.md`). The commands of one call go to their primaries at the same time, and a primary that is away
fails its own commands alone: their replies are errors.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

from tailrace.errors import RedisRefused, RedisUnavailable
from tailrace.redis.channels import Channels
from tailrace.redis.check_steps import Uses
from tailrace.redis.cluster_repetition import REPEATABLE, ClusterRepetition, Refusal
from tailrace.redis.cluster_subscriber import ClusterSubscriber
from tailrace.redis.fitness import RECEIVED_S
from tailrace.redis.hash_slots import key_of, slot_of
from tailrace.redis.primaries import Primaries
from tailrace.redis.primary import Primary
from tailrace.redis.redirects import SlotUnavailable
from tailrace.redis.server import ASKING, RETRIES, RedisServer
from tailrace.redis.subscriber import OnRedirect
from tailrace.scripts import Command, with_text

CLUSTERS = ("redis+cluster://", "rediss+cluster://")
"""How the address of a cluster begins."""

PROBLEMS_S = RECEIVED_S + 1.0
"""For how long a primary's problems are looked for: longer than a message that does not come is waited for."""

AWAY_S = 0.1
"""The same of one that did not respond to the last call: a heartbeat has 0.25 s for all of them."""

T = TypeVar("T")


class RedisCluster(RedisServer):
    """The primaries of a cluster and this process' connections to them, as one server.

    What only one server has (its run, redis-py's client) is asked of a primary.
    """

    def __init__(self, primaries: Primaries, retries: int = RETRIES) -> None:  # (no connection of its own)
        self._primaries = primaries
        self._retries = retries

    @classmethod
    def connect(cls, url: str, setting: str = "", retries: int = RETRIES) -> Self:
        """A cluster by the addresses of some of its servers; nothing is connected yet. `setting`: the variable that has
        them.

        Raises:
            Misconfigured: the address is none of a cluster.
        """
        return cls(Primaries.at(url, setting), retries)

    async def primaries(self) -> Sequence[Primary]:
        """The servers that have slots.

        Raises:
            RedisUnavailable: no server of the cluster responds.
        """
        await self._primaries.known()
        return self._primaries.all

    def primary_of(self, key: str) -> Primary:
        """The server that has this key.

        Raises:
            RedisUnavailable: no server has its slot, or none has been asked yet.
        """
        return self._primaries.of_slot(slot_of(key))

    def subscriber(
        self,
        read_interval_s: float = 0.0,
        on_connected: Callable[[], None] | None = None,
        on_redirect: OnRedirect | None = None,  # noqa: ARG002 - of a primary's
    ) -> Channels:
        """A connection to each primary that receives what is published there. Start it, and close it before this."""
        return ClusterSubscriber(self._primaries, read_interval_s, on_connected)

    @property
    def primary_count(self) -> int:
        return max(1, len(self._primaries.all))

    async def close(self) -> None:
        await self._primaries.close()

    @property
    def is_away(self) -> bool:
        """Whether a primary did not respond when it was needed last, or none of the servers."""
        return self._primaries.is_away

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def execute_many(self, commands: Sequence[Command], *, retries: int | None = None) -> list[Any]:
        """As of `RedisServer`, but a primary that is away makes errors of the replies to its own commands.

        Raises:
            RedisUnavailable: no server of the cluster responds.
        """
        await self._primaries.known()
        replies: list[Any] = [None] * len(commands)
        await self._send(commands, range(len(commands)), replies)
        if not any(type(reply) is Refusal for reply in replies):
            return replies
        repetition = ClusterRepetition(self._primaries, self._retries if retries is None else retries)
        while again := await repetition.due(commands, replies):
            asking = [index for index in again if replies[index].is_asking]
            await self._ask(commands, asking, replies)
            await self._send(commands, [index for index in again if index not in asking], replies)
        return [reply.error if type(reply) is Refusal else reply for reply in replies]

    async def _send(self, commands: Sequence[Command], indexes: Sequence[int], replies: list[Any]) -> None:
        """Send these commands, each to its primary, and put their replies into their places."""
        by_primary: dict[Primary | None, list[int]] = {}
        owner_of = self._primaries.owner_of
        for index in indexes:
            by_primary.setdefault(owner_of(slot_of(key_of(commands[index]))), []).append(index)
        calls = [_send_to(primary, commands, some, replies) for primary, some in by_primary.items()]
        if len(calls) == 1:
            await calls[0]
        else:
            await asyncio.gather(*calls)

    async def _ask(self, commands: Sequence[Command], indexes: Sequence[int], replies: list[Any]) -> None:
        """Send these commands where their refusals ask for it."""
        for index in indexes:
            refusal, command = replies[index], commands[index]
            primary = refusal.asked(self._primaries)
            found: list[Any] = [None, None]
            await _send_to(primary, [ASKING, _whole(command)], range(2), found)
            replies[index] = found[1]

    async def execute_alone(self, *command: Any) -> Any:
        """As of `RedisServer`."""
        return await self._routed(command, lambda primary, command: primary.execute_alone(*command))

    async def read_page(self, *command: Any) -> Any:
        """As of `RedisServer`, with `PAGE_READS` at a time from each primary."""
        return await self._routed(command, lambda primary, command: primary.read_page(*command))

    async def read_bulk(self, *command: Any) -> memoryview | None:
        """As of `RedisServer`."""
        return await self._routed(command, lambda primary, command: primary.read_bulk(*command))

    async def _routed(self, command: Command, call: Callable[[Primary, Command], Awaitable[T]]) -> T:
        """The result of the call for the primary of the command's slot.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        await self._primaries.known()
        repetition = ClusterRepetition(self._primaries, self._retries)
        slot, asked = slot_of(key_of(command)), None
        while True:
            primary = asked or self._primaries.of_slot(slot)
            try:
                return await call(primary, (*ASKING, *_whole(command)) if asked else command)
            except REPEATABLE as error:
                refusal = Refusal(primary, error)
            if not await repetition.due([command], [refusal]):
                raise refusal.error
            asked = refusal.asked(self._primaries)

    # ── the servers ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def now(self) -> int:
        """The clock of a primary that responds, in milliseconds since the epoch.

        Raises:
            RedisUnavailable: none does.
        """
        primaries = sorted(await self.primaries(), key=lambda primary: primary.is_away)
        return await primaries[0].now()

    async def memory_percent(self) -> float:
        """Percent of `maxmemory` in use, of the fullest primary.

        Raises:
            RedisUnavailable: a primary does not respond.
        """
        return max(await asyncio.gather(*(primary.memory_percent() for primary in await self.primaries())))

    async def problems(self, uses: Uses = Uses.LOG, tag: str = "") -> tuple[list[str], list[str]]:
        """As of `RedisServer`, of each primary, by its address. One that does not respond deserves a warning: the logs
        of all others go on. `tag`: in place of one of its own.

        Raises:
            RedisUnavailable: no primary responds.
        """
        try:
            primaries = await self.primaries()
        except RedisRefused as error:
            return [f"it is no cluster, or this Redis user may not read its topology (CLUSTER SHARDS): {error}"], []
        found = await asyncio.gather(
            *(_problems_of(primary, uses, tag or primary.tag) for primary in primaries), return_exceptions=True
        )
        wrong, warnings, away = list[str](), list[str](), list[BaseException]()
        for primary, each in zip(primaries, found, strict=True):
            if isinstance(each, RedisUnavailable):
                away.append(each)
                warnings.append(f"{primary} does not respond, and its logs wait for it")
            elif isinstance(each, BaseException):
                raise each
            else:
                wrong += [f"{primary}: {problem}" for problem in each[0]]
                warnings += [f"{primary}: {problem}" for problem in each[1]]
        if len(away) == len(primaries):
            raise away[0]
        return wrong, warnings


async def _problems_of(primary: Primary, uses: Uses, tag: str) -> tuple[list[str], list[str]]:
    """
    Raises:
        RedisUnavailable: also where it takes long.
    """
    try:
        async with asyncio.timeout(AWAY_S if primary.is_away else PROBLEMS_S):
            return await primary.problems(uses, tag)
    except TimeoutError as error:
        raise RedisUnavailable(detail=f"{primary}: no reply in time") from error


def _whole(command: Command) -> Command:
    """A command that may follow ASKING: a script with its text. If a digest were unknown, its repetition would not
    follow it."""
    return with_text(command) if command[0] == "EVALSHA" else command


async def _send_to(
    primary: Primary | None, commands: Sequence[Command], indexes: Sequence[int], replies: list[Any]
) -> None:
    """Send these commands to one primary, and put their replies, or refusals, into their places."""
    found: Sequence[Any]
    try:
        if primary is None:
            raise SlotUnavailable(detail="no server of the cluster has the slot")
        found = await primary.execute_many([commands[index] for index in indexes])
    except RedisUnavailable as error:
        found = [error] * len(indexes)
    for index, reply in zip(indexes, found, strict=True):
        replies[index] = Refusal(primary, reply) if isinstance(reply, REPEATABLE) else reply


def connect_log_server(url: str, setting: str) -> RedisServer:
    """The server or the cluster that the address of the setting names; nothing is connected yet.

    Raises:
        Misconfigured: the address is no Redis URL.
    """
    return (RedisCluster if url.startswith(CLUSTERS) else RedisServer).connect(url, setting)
