"""Retries of calls on the log and the queue: each of them may be repeated, and is repeated until the server is back."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tailrace.errors import RedisUnavailable
from tailrace.redis.outage import level_of

RETRY_S = 0.2

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def retry_transient(call: Callable[[], Awaitable[T]], *, longest_s: float = 0.0) -> T:
    """The result of the call, which is repeated while Redis is unavailable: every RETRY_S, or after pauses that double
    up to `longest_s`."""
    pause_s = RETRY_S
    while True:
        try:
            return await call()
        except RedisUnavailable as error:
            logger.log(level_of(error), "redis: %s: %s", type(error).__name__, error)
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25) if longest_s else pause_s)  # noqa: S311
            pause_s = min(2 * pause_s, max(RETRY_S, longest_s))
