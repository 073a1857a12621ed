"""The messages of Redis channels."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from tailrace.log.codec import Row, take_stamp, unpack
from tailrace.redis.channels import Channels
from tailrace.redis.server import RedisServer
from tailrace.redis.subscriber import Subscriber

TIMEOUT_S = 5.0
Messages = asyncio.Queue[bytes | None]


@asynccontextmanager
async def subscribed(server: Redis | RedisServer, *channels: str) -> AsyncIterator[Messages]:
    """The messages that are published on these channels within the block; None after a reconnect."""
    messages: Messages = asyncio.Queue()
    subscriber = server.subscriber() if isinstance(server, RedisServer) else Subscriber(server)
    for channel in channels:
        subscriber.add(channel, messages.put_nowait)
    subscriber.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert [await messages.get() for _ in channels] == [None for _ in channels]
        yield messages
    finally:
        await subscriber.close()


def rows_of(message: bytes) -> list[Row]:
    """The rows of a message, without the stamp that some have."""
    rows = unpack(message)
    take_stamp(rows)
    return rows


def connection_of(channels: Channels) -> Subscriber:
    """The one connection of these channels, on a single server."""
    assert isinstance(channels, Subscriber)
    return channels
