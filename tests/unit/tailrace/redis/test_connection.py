import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ResponseError

from support.logs import REQUEST
from tailrace.errors import Misconfigured
from tailrace.events import GenerationRecord, Options
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, Log
from tailrace.redis.connection import TRANSIENT_ERRORS, connect, memory_percent, problems, server_run
from tailrace_cli.embedded import EmbeddedServer, free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """One that may be stopped."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def config(redis: Redis) -> AsyncIterator[Callable[[str, str], Awaitable[None]]]:
    """Sets what is set back afterwards."""
    before: dict[str, str] = {}

    async def change(name: str, value: str) -> None:
        before.setdefault(name, (await redis.config_get(name))[name])
        await redis.config_set(name, value)

    yield change
    for name, value in before.items():
        await redis.config_set(name, value)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "redis://:hunter2/cut@localhost", "redis://:hunter2@cache/0?db=zero"],
)
def test_what_is_no_redis_address_is_not_printed(url: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_REDIS_URL") as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_callers_wait_for_a_connection_when_all_are_busy(valkey: EmbeddedServer) -> None:
    client = connect(valkey.url, max_connections=2)
    assert await asyncio.gather(*(client.ping() for _ in range(50))) == [True] * 50
    info = await client.info("clients")
    assert info["connected_clients"] <= 2
    await client.aclose()


async def test_a_client_closes_all_that_it_opened(redis: Redis, valkey: EmbeddedServer) -> None:
    client = connect(valkey.url)
    await asyncio.gather(*(client.client_setname("to-be-closed") for _ in range(10)))
    assert await named(redis, "to-be-closed")
    await client.aclose()
    async with asyncio.timeout(5):
        while await named(redis, "to-be-closed"):
            await redis.ping()


async def named(redis: Redis, name: str) -> list[dict[str, str]]:
    return [each for each in await redis.client_list() if each["name"] == name]


async def test_a_command_survives_a_restart_of_the_server(server: EmbeddedServer) -> None:
    client = connect(server.url)
    await client.set("key", "value")
    for end in (server.stop, server.kill):
        end()
        server.start()
        assert await client.get("key") == b"value"
    await client.aclose()


async def test_a_server_that_is_away_passes() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(TRANSIENT_ERRORS):
        await client.ping()
    await client.aclose()


async def test_a_mistake_does_not_pass(redis: Redis) -> None:
    with pytest.raises(ResponseError) as refused:
        await redis.execute_command("NO SUCH COMMAND")
    assert not isinstance(refused.value, TRANSIENT_ERRORS)


async def test_a_server_that_has_lost_its_replicas_passes(
    redis: Redis, config: Callable[[str, str], Awaitable[None]], log: Log
) -> None:
    generation_id = GenerationRecord(new_generation_id(), "me", "m", Options(60, 60))
    await log.create(generation_id, REQUEST, "job_id")
    await log.acquire(generation_id.id, "token", worker="w")
    await config("min-replicas-to-write", "1")
    with pytest.raises(TRANSIENT_ERRORS, match="replicas"):
        await redis.set("key", "value")
    (answer,) = await log.append([AppendBatch(generation_id.id, 1, 0, [])])
    assert isinstance(answer, TRANSIENT_ERRORS)
    with pytest.raises(TRANSIENT_ERRORS):
        await log.acquire(generation_id.id, "another token", worker="w")


@pytest.mark.parametrize("word", ["BUSY", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN"])
async def test_what_a_server_answers_while_it_cannot_passes(redis: Redis, word: str) -> None:
    with pytest.raises(TRANSIENT_ERRORS):
        await redis.execute_command("EVAL", f"return redis.error_reply('{word} not now')", 0)
    with pytest.raises(ResponseError) as final:
        await redis.execute_command("EVAL", f"return redis.error_reply('{word}X never')", 0)
    assert not isinstance(final.value, TRANSIENT_ERRORS)


async def test_a_server_that_is_set_up_right_has_no_problems(redis: Redis) -> None:
    assert await problems(redis) == ([], [])


@pytest.mark.parametrize(
    ("name", "value", "wrong", "warnings"),
    [
        ("maxmemory-policy", "allkeys-lru", ["maxmemory-policy is allkeys-lru"], []),
        ("maxmemory-policy", "volatile-ttl", ["maxmemory-policy is volatile-ttl"], []),
        ("appendonly", "no", [], ["appendonly is off"]),
    ],
)
async def test_what_is_wrong_with_a_server_is_told(
    redis: Redis,
    config: Callable[[str, str], Awaitable[None]],
    name: str,
    value: str,
    wrong: list[str],
    warnings: list[str],
) -> None:
    await config(name, value)
    told = await problems(redis)
    assert [[each.partition(":")[0] for each in part] for part in told] == [wrong, warnings]


async def test_a_server_is_tried_by_many_at_once_and_nothing_is_left(redis: Redis) -> None:
    assert await asyncio.gather(*(problems(redis) for _ in range(20))) == [([], [])] * 20
    assert await redis.dbsize() == 0


async def test_what_a_try_that_died_has_left_harms_nobody(redis: Redis) -> None:
    await redis.execute_command("XADD", "tailrace:{check}:log", "1-1", "a", "b")
    assert await problems(redis) == ([], [])


async def test_a_full_server_is_another_matter(redis: Redis, config: Callable[[str, str], Awaitable[None]]) -> None:
    await config("maxmemory", "1")
    assert await problems(redis) == ([], [])


@pytest.mark.parametrize("lacking", ["-xadd", "-xrange", "-eval", "-info", "-spublish", "resetchannels", "resetkeys"])
async def test_a_user_who_may_not_do_what_we_do_is_told(redis: Redis, valkey: EmbeddedServer, lacking: str) -> None:
    await redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pass", "~*", "&*", "+@all", lacking)
    client = connect(valkey.url.replace("//", "//limited:pass@"))
    ((wrong,), warnings) = await problems(client)
    assert wrong.startswith("this Redis user may not do what Tailrace does: ")
    assert warnings == []
    await client.aclose()
    await redis.execute_command("ACL", "DELUSER", "limited")


class Saying(Redis):
    """A client whose server says this of itself."""

    def __init__(self, said: dict[str, Any], pool: ConnectionPool | None = None) -> None:
        super().__init__(connection_pool=pool)
        self.said = said

    async def info(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.said


@pytest.mark.parametrize("version", ["7.0.15", "8.1", "10.0.0", "255.255.255"])
async def test_redis_7_and_later_is_fine(redis: Redis, version: str) -> None:
    said = {"redis_version": version, "maxmemory_policy": "noeviction", "aof_enabled": 1}
    assert await problems(Saying(said, redis.connection_pool)) == ([], [])


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "0"])
async def test_an_older_server_is_told_so_and_not_tried(version: str) -> None:
    wrong, _ = await problems(Saying({"redis_version": version}))
    assert wrong == [f"version {version}: sharded pub/sub needs Redis >= 7 or Valkey"]


@pytest.mark.parametrize(
    ("said", "percent"),
    [
        ({"maxmemory": 0, "used_memory": 10}, 0),
        ({"maxmemory": 200, "used_memory": 50}, 25),
        ({"maxmemory": 100, "used_memory": 130}, 130),
        ({"used_memory": 10}, 0),
    ],
)
async def test_how_full_a_server_is(said: dict[str, Any], percent: float) -> None:
    assert await memory_percent(Saying(said)) == percent


async def test_a_limit_that_is_set_is_seen(redis: Redis, config: Callable[[str, str], Awaitable[None]]) -> None:
    assert await memory_percent(redis) == 0
    await config("maxmemory", str(1024**4))
    assert 0 < await memory_percent(redis) < 1


async def test_a_run_id_is_new_with_every_start(server: EmbeddedServer) -> None:
    client = connect(server.url)
    runs = []
    for _ in range(2):
        run, age = await server_run(client)
        assert (await server_run(client))[0] == run
        assert 0 <= age < 60
        runs.append(run)
        server.stop()
        server.start()
    assert len(set(runs)) == 2
    await client.aclose()
