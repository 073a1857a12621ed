"""Retries of calls on the log and the queue: each of them may be repeated, and is repeated until the server is back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tailrace.errors import RedisUnavailable

RETRY_S = 0.2

logger = logging.getLogger(__name__)
T = TypeVar("T")


async def retry_transient(call: Callable[[], Awaitable[T]]) -> T:
    """The result of the call, which is repeated every RETRY_S while Redis is unavailable."""
    while True:
        try:
            return await call()
        except RedisUnavailable as error:
            logger.warning("redis: %s: %s", type(error).__name__, error)
            await asyncio.sleep(RETRY_S)
