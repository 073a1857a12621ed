"""A generation in a real Redis, and the attempt that writes it. The log is on one server, then on a cluster."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from conftest import LEASE_MS
from support.cluster import Cluster
from support.log_places import Place, client_of, server_of
from support.log_writer import LogWriter
from support.stored_log import create_generation
from tailrace.log import Log

LONG_ON_A_CLUSTER = ("test_state_machine.py",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long already is not played twice in a default run."""
    for item in items:
        if item.path.name in LONG_ON_A_CLUSTER and "cluster" in item.name:
            item.add_marker(pytest.mark.long)


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue("valkey" if request.param == "server" else "formed_cluster")
    return found


@pytest.fixture
async def redis(place: Place) -> AsyncIterator[Any]:
    client = client_of(place)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def log(place: Place, redis: Redis) -> AsyncIterator[Log]:
    server = await server_of(place)
    yield Log(server, LEASE_MS)
    await server.close()


@pytest.fixture
async def fill_memory(place: Place) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A call from which on every server refuses each write that takes memory."""
    ports = [node.port for node in place.nodes] if isinstance(place, Cluster) else [place.port]

    async def limit(maxmemory: int) -> None:
        for port in ports:
            async with Redis(port=port) as client:
                await client.config_set("maxmemory", maxmemory)

    async def fill() -> None:
        await limit(1)

    yield fill
    await limit(0)


@pytest.fixture
async def generation_id(log: Log) -> str:
    return await create_generation(log)


@pytest.fixture
async def writer(log: Log, generation_id: str) -> LogWriter:
    return await LogWriter.acquire(log, generation_id, "one", worker="first")
