"""The product of a curve. Its server does not rewrite its append-only file: a child that ends takes its CPU with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from bench import harness
from support.stack import Stack


@asynccontextmanager
async def product(upstream: str = "http://127.0.0.1:9/v1", **settings: str) -> AsyncIterator[Stack]:
    async with harness.product(upstream, **settings) as stack:
        async with Redis.from_url(stack.redis.url) as redis:
            await redis.config_set("auto-aof-rewrite-percentage", 0)
        yield stack
