from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

Config = Callable[[str, str], Awaitable[None]]
Limited = Callable[[str], Awaitable[RedisServer]]


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of the test's own, which it may stop."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def config(redis: Redis) -> AsyncIterator[Config]:
    """Sets options of the shared server, and resets them afterwards."""
    before: dict[str, str] = {}

    async def change(name: str, value: str) -> None:
        before.setdefault(name, (await redis.config_get(name))[name])
        await redis.config_set(name, value)

    yield change
    for name, value in before.items():
        await redis.config_set(name, value)


@pytest.fixture
async def fit(redis: Redis, config: Config) -> RedisServer:
    """The server with a limit of memory, which other tests may have lifted."""
    await config("maxmemory", str(1024**4))
    return RedisServer(redis)


@pytest.fixture
async def limited(redis: Redis, valkey: EmbeddedServer) -> AsyncIterator[Limited]:
    """Of a permission to take away: the server for a user that has every other one."""
    opened: list[RedisServer] = []

    async def connect(lacking: str) -> RedisServer:
        await redis.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pass", "~*", "&*", "+@all", lacking)
        opened.append(RedisServer.connect(valkey.url.replace("//", "//limited:pass@")))
        return opened[-1]

    yield connect
    for server in opened:
        await server.close()
    await redis.execute_command("ACL", "DELUSER", "limited")
