from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tailrace_cli.embedded import EmbeddedServer

Config = Callable[[str, str], Awaitable[None]]


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
