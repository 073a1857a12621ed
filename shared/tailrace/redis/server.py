"""One Redis server, as the rest of Tailrace sees it.

Rule 1: only this package imports redis-py. (The queue's arq module is the exception: arq runs on redis-py's client.)
Rule 2: the errors that leave are ours. `RedisUnavailable` passes, `RedisFull` needs room, `RedisRefused` is a mistake
of ours or of the operator. Rule 3: commands share one pipelined connection (`pipeline`). A command that blocks, or that
carries megabytes either way, gets a connection of its own (`execute_alone`), because it would delay all others; pages
share a second one, a few at a time (`read_page`). Rule 4: every command may be sent again, because keys and scripts
are made for that. A command whose reply was lost is repeated with backoff; one that timed out is not, because the
caller has waited long enough. Rule 5: a server that has become a replica is left (`primary_watch`).
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from tailrace.errors import RedisRefused, RedisUnavailable, TailraceError
from tailrace.process.throttle import Throttle
from tailrace.redis.bulk_reader import read_bulk
from tailrace.redis.channels import Channels
from tailrace.redis.check_steps import Names, Uses
from tailrace.redis.connection import DEMOTED, Demoted, connect, translated
from tailrace.redis.exchange import exchange
from tailrace.redis.fitness import TAG, Check, Fitness, check
from tailrace.redis.idle_connections import IDLE_S, IdleConnections
from tailrace.redis.outage import OutageLog, place_of
from tailrace.redis.pipeline import ConnectionInterrupted, Pipeline
from tailrace.redis.primary_watch import PrimaryWatch
from tailrace.redis.redirects import Redirected
from tailrace.redis.repetition import repeated
from tailrace.redis.server_run import RunWatch, ServerRun
from tailrace.redis.slots import Slots
from tailrace.redis.subscriber import OnRedirect, Subscriber
from tailrace.scripts import Command, with_text

RETRIES = 3

ASKING: Command = ("ASKING",)
"""Before a command that follows `Redirected` with the mark `asking`."""

LARGE_BYTES = 64 * 1024
"""Beyond this size a command's arguments are large."""

ONE_OF_A_CLUSTER = (
    "it is one server of a cluster; logs need all of them (redis+cluster://), a queue a server of its own"
)

PAGE_READS = 8
"""Pages that a process reads at the same time. Replies in flight take memory, and so do readers that wait. Measured as
KB a reader (one run each): 10,000 readers that connect take 16.0 with 4 at a time, 13.9 with 8, 13.1 with 16; 2,000
readers that connect to logs of a megabyte and stall take 148, 147 and 157.
"""

T = TypeVar("T")


class RedisServer:
    """A server and this process' connections to it. Replies are as hiredis parses them: bytes, integers, lists.

    `retries`: how often a call is repeated where its connection was lost, unless it is called with another number.
    """

    tag = ""
    """Hash tag of keys that concern this server alone; "" where there is no other (`redis.cluster`)."""

    def __init__(self, client: Redis, outages: OutageLog | None = None, retries: int = RETRIES) -> None:
        self._client = client
        self._retries = retries
        self._outages = outages or OutageLog()
        self._pool = client.connection_pool
        self._pipeline = Pipeline(client)
        self._pages = Pipeline(client)
        self._page_reads = Slots(PAGE_READS)
        self._runs = RunWatch()
        self._primary = PrimaryWatch(self._pool, (self._pipeline, self._pages))
        self._connections = IdleConnections(self._pool, self._primary.was_left_since)
        self._fitness = Fitness()

    @classmethod
    def connect(cls, url: str, setting: str = "", retries: int = RETRIES) -> Self:
        """A server by its address; nothing is connected yet. `setting`: the variable that has the address. Outages of a
        server without one are not logged.

        Raises:
            Misconfigured: the address is not a Redis URL.
        """
        client = connect(url, setting=setting) if setting else connect(url)
        return cls(client, OutageLog(f"Redis at {place_of(url)} ({setting})" if setting else ""), retries)

    @property
    def client(self) -> Redis:
        """redis-py's client on the same connections, for arq."""
        return self._client

    def subscriber(
        self,
        read_interval_s: float = 0.0,
        on_connected: Callable[[], None] | None = None,
        on_redirect: OnRedirect | None = None,
    ) -> Channels:
        """A connection of its own that receives what is published. Start it, and close it before the server.

        The arguments are those of `Subscriber`. `read_interval_s`: between reads of many messages; 0: none.
        """
        subscriber = Subscriber(
            self._client,
            Throttle(read_interval_s) if read_interval_s else None,
            self._outages,
            on_connected,
            on_redirect,
        )
        self._primary.subscribers.append(subscriber)
        return subscriber

    async def close(self) -> None:
        """Close all connections. What waits on the shared one fails."""
        self._pipeline.close()
        self._pages.close()
        await self._client.aclose()

    @property
    def is_away(self) -> bool:
        """Whether the server did not respond when it was needed last."""
        return self._outages.is_away

    @property
    def is_waiting_since(self) -> object | None:
        """What stands for the oldest call that waits for replies, on the connection of commands or else on that of
        pages; None where none waits."""
        return self._pipeline.oldest or self._pages.oldest

    # ── as a cluster of one ──

    async def primaries(self) -> Sequence["RedisServer"]:
        """The servers that have keys: this one."""
        return [self]

    async def find_primary(self, key: str) -> "RedisServer":
        """As `primary_of`, of a cluster that may not be known yet.

        Raises:
            RedisUnavailable: no server has its slot, or none responds.
        """
        await self.primaries()
        return self.primary_of(key)

    def primary_of(self, key: str) -> "RedisServer":  # noqa: ARG002 - as a cluster's
        """The server that has this key: this one."""
        return self

    @property
    def primary_count(self) -> int:
        """How many servers have keys, as far as is known; at least 1."""
        return 1

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def execute(self, *command: Any) -> Any:
        """The reply to one command.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        (reply,) = await self.execute_many([command])
        if isinstance(reply, TailraceError):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Command], *, retries: int | None = None) -> list[Any]:
        """The replies to many commands, in order, in one round trip. A command that failed yields its error.

        `retries`: how often all of them are sent again where the connection was lost.

        Raises:
            RedisUnavailable: whether the commands were carried out is unknown.
        """
        return await self._through(self._pipeline, commands, self._retries if retries is None else retries)

    async def execute_alone(self, *command: Any) -> Any:
        """The reply to a command that blocks, or whose arguments or reply may be megabytes. One behind `ASKING` is
        sent after that, on the same connection.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        return await repeated(lambda: self._alone(command, exchange), self._retries, self._outages)

    async def read_page(self, *command: Any) -> Any:
        """The reply to a read of many entries, on the connection for those: at most `PAGE_READS` at a time, in order.

        Raises:
            RedisUnavailable: also where a page that was read meanwhile had no reply. (An error reply concerns its page
                alone: in a cluster, the slot of another one may be served.)
            RedisFull, RedisRefused.
        """
        await self._page_reads.acquire()
        try:
            commands = [ASKING, command[1:]] if command[:1] == ASKING else [command]
            reply = (await self._through(self._pages, commands, self._retries))[-1]
        except RedisUnavailable as error:
            self._page_reads.fail_waiting(error)
            raise
        finally:
            self._page_reads.release()
        if isinstance(reply, TailraceError):
            raise reply
        return reply

    async def read_bulk(self, *command: Any) -> memoryview | None:
        """The reply to a command that replies with one string, which may be megabytes, in one buffer of its size.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        return await repeated(lambda: self._alone(command, read_bulk), self._retries, self._outages)

    async def _through(self, pipeline: Pipeline, commands: Sequence[Command], retries: int) -> list[Any]:
        """The replies to commands that are sent over this connection: as `execute_many`."""
        began = time.monotonic()
        replies = await repeated(lambda: pipeline.execute(commands), retries, self._outages)
        failed = [i for i, reply in enumerate(replies) if isinstance(reply, Exception)]
        if not failed:
            return replies
        if any(isinstance(replies[i], DEMOTED) for i in failed):
            await self._leave(began)
        unknown = [i for i in failed if isinstance(replies[i], NoScriptError)]
        for i in failed:
            replies[i] = translated(replies[i])
        if unknown:
            sent = await self._through(pipeline, [with_text(commands[i]) for i in unknown], retries)
            for i, reply in zip(unknown, sent, strict=True):
                replies[i] = reply
        return replies

    async def _alone(self, command: Command, call: Callable[[Any, Command], Awaitable[T]]) -> T:
        """A command and its reply on a connection of the pool; again with the script's text where it is unknown."""
        try:
            return await self._on_connection(command, call)
        except NoScriptError:
            return await self._on_connection(with_text(command), call)

    async def _on_connection(self, command: Command, call: Callable[[Any, Command], Awaitable[T]]) -> T:
        connection = await self._connections.take()
        began = time.monotonic()
        is_usable = False
        try:
            if command[:1] == ASKING:
                await exchange(connection, ASKING)
                command = command[1:]
            reply = await call(connection, command)
            is_usable = True
        except (*DEMOTED, Demoted) as error:
            await self._leave(began)
            raise ConnectionInterrupted(str(error)) from error
        except ResponseError:
            is_usable = True
            raise
        except (RedisConnectionError, ConnectionError) as error:
            raise ConnectionInterrupted(str(error)) from error
        else:
            return reply
        finally:
            if not is_usable or self._primary.was_left_since(began):
                await connection.disconnect(nowait=True)
            await self._connections.give(connection)

    async def _leave(self, began: float) -> None:
        """Leave a server whose reply to a call that was sent at `began` shows that it is a replica."""
        if await self._primary.leave(began):
            with suppress(TailraceError):
                await self.run()  # another server may reply at the address already: for the subscribers

    # ── the server itself ───────────────────────────────────────────────────────────────────────────────────────────

    async def now(self) -> int:
        """The server's clock, in milliseconds since the epoch."""
        seconds, micros = await self.execute("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def run(self) -> ServerRun:
        """The current run. A server that does not let us ask counts as one that has always run.

        A server that has become a replica is left. As every process asks in each period of its sweeper, connections
        for pages and large replies that no call has used for a while are closed then.
        """
        self._pages.close_unused(IDLE_S)
        await self._connections.close_unused()
        try:
            info = await self._info("server", "replication")
        except RedisRefused:
            return ServerRun("", float("inf"))
        if info.get("role") == "slave":
            await self._primary.leave(time.monotonic())
        return self._runs.report(info)

    @property
    def known_run(self) -> ServerRun | None:
        """The run that the newest call of `run` found; None before the first."""
        return self._runs.known

    async def memory_percent(self) -> float:
        """Percent of `maxmemory` in use; 0 where there is no limit."""
        info = await self._info("memory")
        limit = int(info.get("maxmemory", 0))
        return 100 * int(info["used_memory"]) / limit if limit else 0.0

    async def problems(self, uses: Uses = Uses.BOTH, tag: str = TAG) -> tuple[list[str], list[str]]:
        """Problems that make the server unfit for what it keeps, and those that merely deserve a warning. What it
        lacks is tried on keys with this hash tag (`redis.fitness`).

        Raises:
            RedisUnavailable.
        """
        try:
            info = await self._info()
            if info.get("cluster_enabled") == "1" and not self.tag:
                return [ONE_OF_A_CLUSTER], []
            if lacking := await self._fitness.lacking(self._check(uses), uses, tag, info.get("run_id", "")):
                return list(lacking), []
        except Redirected:  # the slot of the tag is being moved
            return [], []
        except RedisRefused as error:
            return [f"this Redis user lacks a permission that Tailrace needs: {error}"], []
        wrong, warnings = [], []
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            wrong.append(f"maxmemory-policy is {policy}: it would evict running logs; set noeviction")
        if info.get("maxmemory") == "0":
            warnings.append("maxmemory is 0: nothing bounds the server but its host, and no work is refused before")
        if info.get("aof_enabled", "0") == "0":
            warnings.append("appendonly is off: a restart of the server loses its data")
        return wrong, warnings

    async def _info(self, *sections: str) -> dict[str, str]:
        text: bytes = await self.execute("INFO", *sections)
        info = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        if run_id := info.get("run_id"):
            self._primary.note_run(run_id)
        return info

    def _check(self, uses: Uses) -> Check:
        """The check of what the server lacks for these uses, on a connection of its own."""

        async def publish(channel: str, message: bytes) -> Any:
            return await self.execute("SPUBLISH", channel, message)

        async def on_connection(connection: Any, names: Names) -> list[str]:
            try:
                return await check(connection, publish, uses, names)
            finally:
                await connection.disconnect(nowait=True)

        async def run(names: Names) -> list[str]:
            return await repeated(
                lambda: self._on_connection((), lambda connection, _: on_connection(connection, names)), self._retries,
                self._outages,
            )  # fmt: skip

        return run


def checked(replies: list[Any]) -> list[Any]:
    """The same replies.

    Raises:
        RedisUnavailable, RedisFull, RedisRefused: the first error among them.
    """
    for reply in replies:
        if isinstance(reply, TailraceError):
            raise reply
    return replies
