"""A real Redis for every test that requests one, empty at the start of each test."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from support.server_binary import use_named_binary
from tailrace.log import Log
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

LEASE_MS = 5000

LONGEST_FIRST = ("system", "browser", "integration", "clients", "contract", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by the duration of their kind: a process that takes a long file last would run alone."""
    tests = Path(__file__).parent
    items.sort(key=lambda item: LONGEST_FIRST.index(item.path.relative_to(tests).parts[0]))


use_named_binary()

# Test machines are shared, so the duration of an example means nothing.
settings.register_profile("tailrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tailrace")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    time.sleep(1.1)  # jobs of the second in which a server starts are held back for `HOLD_S`
    yield server
    server.stop()


@pytest.fixture
async def redis(valkey: EmbeddedServer) -> AsyncIterator[Redis]:
    client = connect(valkey.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def fill_memory(redis: Redis) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A call from which on the server refuses every write that takes memory."""

    async def fill() -> None:
        await redis.config_set("maxmemory", 1)

    yield fill
    await redis.config_set("maxmemory", 0)


@pytest.fixture
def log(redis: Redis) -> Log:
    return Log(RedisServer(redis), LEASE_MS)
