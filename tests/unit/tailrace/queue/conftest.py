from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from tailrace.queue import Queue


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis)


@pytest.fixture
async def full(redis: Redis) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A call that fills the server's memory."""

    async def fill() -> None:
        await redis.config_set("maxmemory", 1)

    yield fill
    await redis.config_set("maxmemory", 0)
