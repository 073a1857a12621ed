"""The log on one server and the queue on another: either may lose its data, go back to older data, or be away."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.attempts import ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.ends import confirmations_on, terminate
from support.log_writer import LogWriter
from support.logs import REQUEST, text_opened
from support.queues import LONGEST_LIFE_S
from support.stored_log import STARTED, done_of_log, expire_lease
from tailrace import keys
from tailrace.errors import Misconfigured, NotFound, RedisUnavailable
from tailrace.events import Done, Options
from tailrace.ids import new_token
from tailrace.lifecycle import confirmation, sweeper
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.sweeper import REQUEUES_AT_ONCE, Sweeper
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.redis.check_steps import Uses
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings
from tailrace_cli.embedded import EmbeddedServer, free_port
from tailrace_frontend.generations import Generations, IdempotencyKey
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.hub import Hub
from tailrace_worker.appenders import Appenders
from tailrace_worker.generation_run import GenerationRun
from tailrace_worker.upstream_pool import UpstreamPool
from tailrace_worker.worker import GenerationWorker

LEASE_MS = 200
OWNER = "anna"
OPTIONS = Options(deadline_s=60, retention_s=60)


@pytest.fixture(scope="session")
def second_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("second"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def queue_redis(second_valkey: EmbeddedServer) -> AsyncIterator[Redis]:
    client = connect(second_valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


Data = dict[bytes, tuple[bytes, int]]
"""Every key of a server: its value as `DUMP` gives it, and its time to live in ms, -1 for none."""


async def data_of(redis: Redis) -> Data:
    return {key: (await redis.dump(key), await redis.pttl(key)) for key in await redis.keys()}


async def roll_back(redis: Redis, data: Data) -> None:
    """As a restart with older data."""
    await redis.flushall()
    for key, (value, life) in data.items():
        await redis.restore(key, max(life, 0), value)


class Servers:
    """A log and a queue on two servers, and the processes that use them."""

    def __init__(self, log_redis: Redis, queue_redis: Redis) -> None:
        self.log_redis, self.queue_redis = log_redis, queue_redis
        self.log = Log(RedisServer(log_redis), LEASE_MS)
        self.queue = Queue(RedisServer(queue_redis), lease_ms=LEASE_MS, longest_life_s=LONGEST_LIFE_S)
        settings = Settings(max_attempts=3)
        self.confirmations = confirmations_on(self.log, self.queue)
        self.generations = Generations(settings, self.log, self.queue, self.confirmations, Hub(settings, self.log))

    async def create(self, key: IdempotencyKey | None = None) -> str:
        state, _ = await self.generations.create(OWNER, REQUEST, OPTIONS, key)
        return state.record.id

    async def run(self, generation_id: str) -> LogWriter:
        """A worker takes the job and begins to write."""
        await self.queue.jobs.mark_started((await self.log.state(generation_id)).job_id)
        writer = await LogWriter.acquire(self.log, generation_id, new_token(), worker="w")
        await writer.write(STARTED, text_opened())
        return writer

    async def extend_lease(self, generation_id: str) -> None:
        """Its worker has renewed the lease, for longer than any test takes."""
        until = await self.log.server.now() + 600_000
        await self.log_redis.execute_command("HSET", keys.state(generation_id), "lease", until)

    async def is_waiting(self, generation_id: str) -> bool:
        """Whether the next worker would find it."""
        state = await self.log.state(generation_id)
        return state.status == "queued" and await self.queue.jobs.is_waiting([state.job_id]) == [True]

    async def sweep(self) -> None:
        """As a process that did not sweep before, in the next period."""
        await self.log_redis.delete(*(keys.swept(shard) for shard in range(keys.UNFINISHED_SETS)))
        await Sweeper(self.log, self.queue, self.confirmations, max_attempts=3, connected_for=lambda: math.inf).sweep()

    async def sweep_until_waiting(self, generation_id: str) -> None:
        async with asyncio.timeout(10):
            while not await self.is_waiting(generation_id):
                await self.sweep()

    async def done(self, generation_id: str) -> Done:
        done = await done_of_log(self.log, generation_id)
        assert done is not None
        return done

    async def unfinished(self) -> list[str]:
        return [each for shard in await self.log.unfinished.shards() for each in await shard.list()]


@pytest.fixture
def servers(redis: Redis, queue_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Servers:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -CONFIRM_S)  # the test's servers may have just started
    return Servers(redis, queue_redis)


async def test_creation_spreads_over_both_servers(servers: Servers) -> None:
    generation_id = await servers.create()
    assert await servers.unfinished() == [generation_id]
    assert await servers.is_waiting(generation_id)
    on_the_log, on_the_queue = await data_of(servers.log_redis), await data_of(servers.queue_redis)
    assert {*on_the_log} == {
        each.encode() for each in (*keys.of_generation(generation_id)[:3], keys.unfinished(generation_id))
    }
    assert not [key for key in on_the_queue if b"{gen_" in key or b":unfinished:" in key]


# The queue's server loses its data


async def test_queued_generation_is_queued_again_after_the_queue_was_flushed(servers: Servers) -> None:
    generation_id = await servers.create()
    await servers.queue_redis.flushall()
    await servers.sweep_until_waiting(generation_id)
    assert await servers.queue.jobs.depth() == 1


async def test_queue_that_was_lost_is_queued_again_as_a_whole(servers: Servers) -> None:
    generation_ids = [await servers.create() for _ in range(3 * REQUEUES_AT_ONCE)]
    await servers.queue_redis.flushall()
    await servers.sweep()
    await asyncio.sleep(LEASE_MS / 1000)
    await servers.sweep()
    states = [await servers.log.state(each) for each in generation_ids]
    assert all(await servers.queue.jobs.is_waiting([state.job_id for state in states]))
    assert await servers.queue.jobs.depth() == len(states)


async def test_lost_worker_is_noticed_after_the_queue_was_flushed(servers: Servers) -> None:
    generation_id = await servers.create()
    await servers.run(generation_id)
    await servers.extend_lease(generation_id)
    await servers.queue_redis.flushall()
    await servers.sweep()
    assert (await servers.log.state(generation_id)).status == "running"
    await expire_lease(servers.log_redis, generation_id)
    await servers.sweep_until_waiting(generation_id)
    assert (await servers.log.state(generation_id)).attempt == 1


async def test_deadline_is_kept_after_the_queue_was_flushed(servers: Servers) -> None:
    generation_id = await servers.create()
    await servers.queue_redis.flushall()
    await servers.log_redis.execute_command("HSET", keys.state(generation_id), "deadline", 1)
    await servers.sweep()
    done = await servers.done(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")
    assert await servers.unfinished() == []


async def test_end_after_the_queue_was_flushed_leaves_only_what_it_was_charged(servers: Servers) -> None:
    generation_id = await servers.create()
    await servers.queue_redis.flushall()
    await terminate(servers.log, servers.queue, generation_id, "cancelled")
    assert await servers.unfinished() == []
    left = {name.decode() for name in await servers.queue_redis.keys()}
    assert left == {keys.use(OWNER), keys.settled(OWNER)}


async def test_job_that_a_rolled_back_queue_still_has_runs_nothing_twice(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = await servers.create()
    before = await data_of(servers.queue_redis)
    state = await servers.log.state(generation_id)
    await servers.run(generation_id)
    await servers.extend_lease(generation_id)
    await roll_back(servers.queue_redis, before)
    pool = UpstreamPool(Settings(), servers.queue.upstreams, "worker")
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    appenders = Appenders(servers.log, servers.queue.index.register)
    run = GenerationRun(
        Settings(), servers.log, servers.queue, servers.confirmations, appenders, pool, "another worker", lambda: 0
    )
    await run.run(generation_id, state.job_id)
    assert dialect.opened == 0
    assert await servers.queue.jobs.depth() == 0
    await pool.close()


async def test_removal_that_a_rolled_back_queue_has_lost_is_repeated(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue goes back to before the end; the worker has confirmed it a moment later."""
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.1)
    generation_id = await servers.create()
    before = await data_of(servers.queue_redis)
    job_id = (await servers.log.state(generation_id)).job_id
    pool = UpstreamPool(Settings(), servers.queue.upstreams, "worker")
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    appenders = Appenders(servers.log, servers.queue.index.register)
    appending = asyncio.create_task(appenders.run())
    try:
        run = GenerationRun(
            Settings(), servers.log, servers.queue, servers.confirmations, appenders, pool, "worker", lambda: 0
        )
        await run.run(generation_id, job_id)
        await roll_back(servers.queue_redis, before)
        assert (await servers.queue.load(OWNER))[:2] == (1, 1)
        confirming = asyncio.create_task(servers.confirmations.run())
        await servers.confirmations.drain(5)
        await cancel_and_wait(confirming)
    finally:
        await cancel_and_wait(appending)
        await pool.close()
    assert (await servers.queue.load(OWNER))[:2] == (0, 0)
    assert not await servers.queue_redis.keys("arq:*")


# The log's server goes back alone


async def test_end_that_is_lost_with_its_worker_is_found_after_the_log_went_back(servers: Servers) -> None:
    generation_id = await servers.create()
    writer = await servers.run(generation_id)
    before = await data_of(servers.log_redis)
    await writer.finish()
    await finalize(servers.log, servers.queue, writer.state)
    assert await servers.unfinished() == []
    await roll_back(servers.log_redis, before)
    await expire_lease(servers.log_redis, generation_id)
    await servers.sweep_until_waiting(generation_id)


async def test_job_that_the_queue_has_handed_out_is_found_after_the_log_went_back(servers: Servers) -> None:
    """The log has it wait under a job that the queue has no more."""
    generation_id = await servers.create()
    before = await data_of(servers.log_redis)
    await servers.run(generation_id)
    await roll_back(servers.log_redis, before)
    await servers.sweep_until_waiting(generation_id)


@pytest.mark.parametrize("moment", ["created", "running"])
async def test_every_moment_of_the_log_has_its_unfinished_generations_in_the_index(
    servers: Servers, moment: str
) -> None:
    generation_id = await servers.create()
    if moment == "running":
        await servers.run(generation_id)
    before = await data_of(servers.log_redis)
    await servers.generations.delete(generation_id, OWNER)
    await roll_back(servers.log_redis, before)
    assert await servers.unfinished() == [generation_id]
    assert not (await servers.log.state(generation_id)).is_final


async def test_restored_log_is_in_the_index(servers: Servers) -> None:
    generation_id = await servers.create()
    writer = await servers.run(generation_id)
    await servers.log_redis.flushall()
    await servers.log.restore(writer.state, REQUEST, writer.rows)
    assert await servers.unfinished() == [generation_id]
    await servers.sweep_until_waiting(generation_id)


async def test_generation_that_the_log_lost_while_it_waited_leaves_the_queue(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = await servers.create()
    job_id = (await servers.log.state(generation_id)).job_id
    await servers.log_redis.flushall()
    pool = UpstreamPool(Settings(), servers.queue.upstreams, "worker")
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    appenders = Appenders(servers.log, servers.queue.index.register)
    run = GenerationRun(
        Settings(), servers.log, servers.queue, servers.confirmations, appenders, pool, "worker", lambda: 0
    )
    await run.run(generation_id, job_id)
    assert (dialect.opened, await servers.queue.jobs.depth()) == (0, 0)
    await pool.close()
    with pytest.raises(NotFound):
        await servers.log.state(generation_id)


async def test_repeated_creation_makes_what_the_log_has_lost_again(servers: Servers) -> None:
    key = IdempotencyKey("key", b"body")
    generation_id = await servers.create(key)
    await servers.log_redis.flushall()
    assert await servers.create(key) == generation_id
    assert await servers.unfinished() == [generation_id]
    assert await servers.is_waiting(generation_id)


# The queue's server is away


@pytest.fixture
def away() -> Queue:
    """A queue whose server does not answer."""
    server = RedisServer.connect(f"redis://127.0.0.1:{free_port()}/0")
    return Queue(server, lease_ms=LEASE_MS, longest_life_s=LONGEST_LIFE_S)


async def test_run_goes_on_and_ends_while_the_queue_is_away(
    servers: Servers, away: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = await servers.create()
    job_id = (await servers.log.state(generation_id)).job_id
    pool = UpstreamPool(Settings(), servers.queue.upstreams, "worker")
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    appenders = Appenders(servers.log, away.index.register)
    appending = asyncio.create_task(appenders.run())
    try:
        run = GenerationRun(
            Settings(), servers.log, away, confirmations_on(servers.log, away), appenders, pool, "worker", lambda: 0
        )
        async with asyncio.timeout(5):
            await run.run(generation_id, job_id)
    finally:
        await cancel_and_wait(appending)
        await pool.close()
    assert (await servers.done(generation_id)).status == "completed"
    assert await servers.unfinished() == [generation_id]
    await servers.sweep()  # once the queue is back
    assert await servers.unfinished() == []
    assert (await servers.queue.load(OWNER))[:2] == (0, 0)


async def test_sweep_waits_for_the_queue(servers: Servers, away: Queue) -> None:
    generation_id = await servers.create()
    await servers.run(generation_id)
    await expire_lease(servers.log_redis, generation_id)
    with pytest.raises(RedisUnavailable):
        await Sweeper(servers.log, away, servers.confirmations, max_attempts=3, connected_for=lambda: math.inf).sweep()
    assert (await servers.log.state(generation_id)).status == "running"
    await servers.sweep_until_waiting(generation_id)


async def test_leases_are_renewed_while_the_queue_does_not_reply(
    valkey: EmbeddedServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = GenerationWorker(
        Settings(redis_url=valkey.url, queue_url=f"redis://127.0.0.1:{free_port()}/0", lease_s=0.5)
    )
    renewals, never = 0, asyncio.Event()

    async def renew(_: object) -> None:
        nonlocal renewals
        renewals += 1

    async def heartbeat(_: str) -> None:
        await never.wait()

    monkeypatch.setattr(worker.leases, "_by_server", lambda: {worker.log.server: []})
    monkeypatch.setattr(worker.leases, "_renew", renew)
    monkeypatch.setattr(worker.queue.presence, "heartbeat", heartbeat)
    tasks = [asyncio.create_task(worker.leases.run()), asyncio.create_task(worker._send_heartbeats())]
    async with asyncio.timeout(5):
        while renewals < 3:  # noqa: ASYNC110 - the stub signals nothing
            await asyncio.sleep(0.05)
    await cancel_and_wait(*tasks)
    await worker._close()


# Readiness


async def test_worker_names_the_server_that_it_refuses(
    valkey: EmbeddedServer, second_valkey: EmbeddedServer, redis: Redis, queue_redis: Redis
) -> None:
    worker = GenerationWorker(Settings(redis_url=valkey.url, queue_url=second_valkey.url))
    await worker.health.check_servers()
    await queue_redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Misconfigured, match=r"^the queue's server: maxmemory-policy is allkeys-lru"):
            await worker.health.check_servers()
    finally:
        await queue_redis.config_set("maxmemory-policy", "noeviction")
    await worker._close()


@pytest.fixture
async def services(valkey: EmbeddedServer, second_valkey: EmbeddedServer) -> AsyncIterator[Services]:
    services = Services(Settings(redis_url=valkey.url, queue_url=second_valkey.url))
    yield services
    await services.log.server.close()
    await services.queue.server.close()


async def test_readiness_names_the_problems_of_both_servers(
    services: Services, redis: Redis, queue_redis: Redis
) -> None:
    for server in (redis, queue_redis):
        await server.config_set("maxmemory", 1024**4)  # other tests may have lifted the limit
    assert await services.problems() == ([], [])
    try:
        await queue_redis.config_set("maxmemory-policy", "allkeys-lru")
        await queue_redis.config_set("appendonly", "no")
        (wrong,), (warning,) = await services.problems()
    finally:
        await queue_redis.config_set("maxmemory-policy", "noeviction")
        await queue_redis.config_set("appendonly", "yes")
    assert wrong.startswith("the queue's server: maxmemory-policy is allkeys-lru")
    assert warning.startswith("the queue's server: appendonly is off")


async def test_readiness_needs_both_servers(valkey: EmbeddedServer, redis: Redis) -> None:
    for away in ("redis_url", "queue_url"):
        urls: dict[str, Any] = {"redis_url": valkey.url, "queue_url": valkey.url}
        services = Services(Settings(**urls | {away: f"redis://127.0.0.1:{free_port()}/0"}))
        with pytest.raises(RedisUnavailable):
            await services.problems()
        await services.log.server.close()
        await services.queue.server.close()


async def test_readiness_asks_one_server_once(valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(Settings(redis_url=valkey.url))
    asked = 0

    async def problems(_: RedisServer, uses: Uses) -> tuple[list[str], list[str]]:
        nonlocal asked
        asked += 1
        assert uses is Uses.BOTH
        return [], ["a warning"]

    monkeypatch.setattr(RedisServer, "problems", problems)
    assert await services.problems() == ([], ["a warning"])
    assert asked == 1
