"""Calls that are repeated where their connection was lost, and what the log has of servers that do not respond."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

from tailrace.errors import RedisUnavailable, TailraceError
from tailrace.redis.connection import translated
from tailrace.redis.outage import OutageLog
from tailrace.redis.pipeline import ConnectionInterrupted

BACKOFF_S = 0.02
"""Before the second attempt; doubled for each further one, with jitter."""

T = TypeVar("T")


async def repeated(call: Callable[[], Awaitable[T]], retries: int, outages: OutageLog) -> T:
    """The result of the call, which is repeated up to `retries` times where its connection was lost.

    Raises:
        RedisUnavailable, RedisFull, RedisRefused.
    """
    retry = 0
    while True:
        try:
            result = await call()
        except ConnectionInterrupted as error:
            if retry == retries:
                raise _reported(error, outages) from error
            await asyncio.sleep(BACKOFF_S * 2**retry * random.uniform(0.5, 1))  # noqa: S311 - spreads load
            retry += 1
        except (RedisError, OSError) as error:
            raise _reported(error, outages) from error
        else:
            if outages.is_away:
                outages.report_success("commands")
            return result


def _reported(error: Exception, outages: OutageLog) -> TailraceError:
    ours = translated(error)
    if isinstance(ours, RedisUnavailable):
        outages.report_failure("commands", error)
    return ours
