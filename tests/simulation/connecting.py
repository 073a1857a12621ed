"""What connections cost the product on this machine: opened, refused, silent, and resubscribed.

CPU of the frontend and of Redis, for each of some hundred readers with a log of its own.
"""

import asyncio
from collections.abc import Mapping

from redis.asyncio import Redis

from bench.children import load
from bench.delivery import TAILRACE
from bench.harness import Usage, get, product, usage
from simulation.measured import CALM_S, LIMITS
from support.stack import Stack

READERS = 1000
KEEPALIVE_S = 2.0
SILENT_S = 6.0
RESUBSCRIBED_S = 2.0


async def connection_costs() -> Mapping[str, float]:
    """µs of CPU by the name of a constant."""
    async with product(**LIMITS, keepalive_s=str(KEEPALIVE_S)) as stack:
        costs = await _served(stack)
    async with product(**{**LIMITS, "max_readers": "1"}) as stack:
        return {**costs, "refusal": await _refused(stack)}


async def _served(stack: Stack) -> Mapping[str, float]:
    frontend = await stack.add_frontend()
    pids = {"frontend": frontend.pid, "redis": stack.redis.pid}
    async with load("bench.reading") as readers, load("bench.appending", "worker", stack.redis.url) as append:
        names = await append.do("create", logs=READERS, owner="open")
        requests = [get(TAILRACE.path_of(name)) for name in names]
        idle = await usage(SILENT_S, pids)
        opening = asyncio.create_task(readers.do("follow", port=frontend.port, requests=requests))
        opened = await usage(_long_enough(), pids)
        await opening
        silent = await usage(SILENT_S, pids)
        async with Redis.from_url(stack.redis.url) as redis:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        resubscribed = await usage(RESUBSCRIBED_S, pids)

    intervals = SILENT_S / KEEPALIVE_S
    return {
        "connect": _more_us(opened, "frontend", idle),
        "join": _more_us(opened, "redis", idle),
        "keepalive": _more_us(silent, "frontend", idle) / intervals,
        "position": _more_us(silent, "redis", idle) / intervals,
        "page": _more_us(resubscribed, "frontend", silent),
        "page_redis": _more_us(resubscribed, "redis", silent),
    }


def _more_us(used: Usage, name: str, before: Usage) -> float:
    """µs a reader, beyond what was spent before in as much time."""
    more_s = used.cpu_s[name] - before.cpu_s[name] * used.seconds / before.seconds
    return 1e6 * max(0.0, more_s) / READERS


def _long_enough() -> float:
    """Seconds in which all connections are opened."""
    return READERS / 250


async def _refused(stack: Stack) -> float:
    frontend = await stack.add_frontend()
    pids = {"frontend": frontend.pid}
    async with load("bench.reading") as readers, load("bench.appending", "worker", stack.redis.url) as append:
        (name,) = await append.do("create", logs=1, owner="open")
        request = get(TAILRACE.path_of(name))
        await readers.do("follow", port=frontend.port, requests=[request])
        await asyncio.sleep(CALM_S)
        refusing = asyncio.create_task(readers.do("follow", port=frontend.port, requests=[request] * READERS))
        used = await usage(_long_enough(), pids)
        await refusing
    return 1e6 * used.cpu_s["frontend"] / READERS
