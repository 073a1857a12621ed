"""The primary's address moves to the new primary, and the former one keeps its connections: all of them are left."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from support.api import eventually
from support.log_writer import LogWriter
from support.logs import text_opened
from support.queues import queue_on
from support.replication import replicate
from support.stored_log import STARTED, create_generation
from support.subscriptions import rows_of
from system.injectors import Link, link
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.ids import new_token
from tailrace.log import Log, Outcome
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import JOB
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer
from tailrace_worker.job_runner import JobRunner

TIMEOUT_S = 10.0


class Servers(NamedTuple):
    """Two servers, a client of each, and the address that leads to the primary."""

    address: Link
    primary: EmbeddedServer
    replica: EmbeddedServer
    first: Redis
    second: Redis

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.address.port}/0"

    async def swap(self) -> None:
        """The replica becomes the primary, the primary its replica, and the address moves. No connection is cut."""
        await replicate(self.first)
        await self.second.execute_command("REPLICAOF", "NO", "ONE")
        await self.first.execute_command("REPLICAOF", "127.0.0.1", self.replica.port)
        self.address.target = self.replica.port

    async def connections(self, kind: str) -> int:
        """Connections to the former primary through the address."""
        clients = await self.first.execute_command("CLIENT", "LIST", "TYPE", kind)
        return int(clients.count(b"id=")) - (kind == "normal")  # without `first`


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    primary, replica = EmbeddedServer(tmp_path / "primary"), EmbeddedServer(tmp_path / "replica")
    primary.start()
    replica.start()
    try:
        async with (
            Redis.from_url(primary.url, single_connection_client=True) as first,
            Redis.from_url(replica.url, single_connection_client=True) as second,
            link(primary.port, random.Random()) as address,
        ):
            await first.config_set("repl-diskless-sync-delay", 0)  # instead of waiting 5 s for more replicas
            await second.execute_command("REPLICAOF", "127.0.0.1", primary.port)
            await eventually(partial(_is_linked, second))
            yield Servers(address, primary, replica, first, second)
    finally:
        replica.stop()
        primary.stop()


async def _is_linked(replica: Redis) -> bool:
    return bool((await replica.info("replication"))["master_link_status"] == "up")


async def _until_ok(call: Any) -> Any:
    """Repeat the call, as workers do, until the new primary takes it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(RedisUnavailable):
                return await call()
            await asyncio.sleep(0.05)


async def test_moved_address_is_followed_by_pipeline_pool_and_subscriber(servers: Servers) -> None:
    log = Log(RedisServer.connect(servers.url), 60_000)
    generation_id = await create_generation(log)
    writer = await LogWriter.acquire(log, generation_id, "token", worker="w")
    await asyncio.gather(*(log.server.execute_alone("BLPOP", "nothing", 0.2) for _ in range(3)))  # fills the pool
    await log.server.run()  # as a sweeper does
    messages: asyncio.Queue[bytes | None] = asyncio.Queue()
    subscriber = log.server.subscriber()
    subscriber.add(keys.events(generation_id), messages.put_nowait)
    subscriber.start()
    try:
        async with asyncio.timeout(3 * TIMEOUT_S):
            assert await messages.get() is None
            await log.server.run()
            in_use = asyncio.create_task(log.server.execute_alone("XREAD", "BLOCK", 2000, "STREAMS", "nothing", "0-0"))
            await servers.swap()
            batch = writer.batch(STARTED, text_opened())
            assert (await _until_ok(lambda: writer.send(batch))).outcome is Outcome.OK
            await in_use
            await eventually(lambda: _has_none(servers, "normal"))
            await eventually(lambda: _has_none(servers, "pubsub"))
            while not messages.empty() or not subscriber.connected:
                await messages.get()
            later = await writer.write(STARTED)
            while not (message := await messages.get()):
                pass
            assert rows_of(message)[-1] == later.rows[-1]
    finally:
        await subscriber.close()
        await log.server.close()


async def _has_none(servers: Servers, kind: str) -> bool:
    return await servers.connections(kind) == 0


@pytest.mark.parametrize("way", ["execute_alone", "run"])
async def test_moved_address_is_followed_by_a_process_that_sends_nothing_else(servers: Servers, way: str) -> None:
    server = RedisServer.connect(servers.url)
    command = {"execute_alone": ("SET", "key", "value"), "run": ()}[way]
    try:
        await getattr(server, way)(*command)
        await servers.swap()
        await _until_ok(lambda: getattr(server, way)(*command))
        await eventually(lambda: _has_none(servers, "normal"))
        assert (await server.run()).run_id.startswith((await servers.second.info("server"))["run_id"])
    finally:
        await server.close()


async def test_moved_address_is_followed_where_the_replica_has_no_primary(servers: Servers) -> None:
    server = RedisServer.connect(servers.url)
    try:
        await server.execute("SET", "key", "value")
        await servers.first.config_set("replica-serve-stale-data", "no")
        await replicate(servers.first)
        await servers.second.execute_command("REPLICAOF", "NO", "ONE")
        await servers.first.execute_command("REPLICAOF", "127.0.0.1", 1)
        for way in ("execute", "execute_alone"):
            with pytest.raises(RedisUnavailable, match="MASTER"):
                await getattr(server, way)("GET", "key")
        servers.address.target = servers.replica.port
        assert await _until_ok(lambda: server.execute("GET", "key")) == b"value"
        await eventually(lambda: _has_none(servers, "normal"))
    finally:
        await server.close()


async def test_moved_address_is_followed_by_arq(servers: Servers) -> None:
    started = asyncio.Queue[str]()

    async def job(_: dict[Any, Any], generation_id: str, job_id: str) -> None:
        started.put_nowait(generation_id)
        await queue.jobs.mark_started(job_id)

    client = connect(servers.url)
    queue = queue_on(client)
    runner = JobRunner(queue, "this worker", {JOB: job}, max_jobs=5)
    running = asyncio.create_task(runner.main())
    try:
        async with asyncio.timeout(3 * TIMEOUT_S):
            await queue.jobs.enqueue("before", new_token(), 60)
            assert await started.get() == "before"
            await servers.swap()
            for name in ("a", "b", "c"):
                await _until_ok(partial(queue.jobs.enqueue, name, new_token(), 60))
            assert sorted([await started.get() for _ in "abc"]) == ["a", "b", "c"]
            await eventually(lambda: _has_none(servers, "normal"))
            await eventually(lambda: _is_idle(runner))
    finally:
        await cancel_and_wait(running)
        await client.aclose()


async def test_moved_address_is_followed_by_arq_alone(servers: Servers) -> None:
    client = connect(servers.url)
    arq = queue_on(client).jobs.arq
    try:
        await arq.set("key", "1")
        await servers.swap()
        async with arq.pipeline(transaction=True) as pipe:
            pipe.incr("key")
            pipe.expire("key", 60)
            assert await pipe.execute() == [2, True]
    finally:
        await client.aclose()


async def _is_idle(runner: JobRunner) -> bool:
    return runner.job_counter == 0
