"""The cost of accepting a generation: POST /v1/generations over 32 connections, as fast as possible.

Beside it a plain route (`naive.create`): FastAPI, pydantic and arq's `enqueue_job`. No worker runs on either side.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from bench import procfs
from bench.children import running, uvicorn
from bench.harness import product
from bench.measures import Finding
from support.stack import Stack
from tailrace_cli.embedded import free_port

CONNECTIONS = 32
WARM_UP = 200
BODY = b'{"model": "bench", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": true}'
REQUEST = (
    b"POST /v1/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
NO_LIMIT = {
    "max_queued": "10000000", "max_unfinished_per_caller": "10000000", "max_stored_bytes_per_caller": str(1024**4),
}  # fmt: skip


class Trial(NamedTuple):
    """One side: requests a second, µs of web CPU and Redis commands a request, those inside scripts included."""

    rate: float
    web_us: float
    redis_us: float
    commands: float


async def create(seconds: float) -> Sequence[Finding]:
    async with product(**NO_LIMIT) as stack:
        frontend = await stack.add_frontend()
        ours = await trial(stack, frontend.pid, frontend.port, seconds)
    async with product() as stack:
        port = free_port()
        command, log = uvicorn("bench.naive.create:app", port), stack.root / "plain.log"
        async with running(command, log, REDIS_URL=stack.redis.url) as plain:
            await plain.wait_for_port(port)
            theirs = await trial(stack, plain.pid, port, seconds)
    beside = {f"Tailrace: {name}": value for name, value in ours._asdict().items()}
    beside |= {f"plain: {name}": value for name, value in theirs._asdict().items()}
    return [Finding("create/web", ours.web_us / theirs.web_us, beside)]


async def trial(stack: Stack, pid: int, port: int, seconds: float) -> Trial:
    redis: Redis = Redis.from_url(stack.redis.url)
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    await post(connections, float("inf"), WARM_UP)
    before = procfs.cpu_s(pid), procfs.cpu_s(stack.redis.pid), await commands(redis)
    began = time.monotonic()
    count = await post(connections, began + seconds)
    took = time.monotonic() - began
    used = procfs.cpu_s(pid) - before[0], procfs.cpu_s(stack.redis.pid) - before[1], await commands(redis) - before[2]
    for _, writer in connections:
        writer.close()
    await redis.aclose()
    return Trial(count / took, 1e6 * used[0] / count, 1e6 * used[1] / count, used[2] / count)


async def post(
    connections: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    until: float,
    most: float = float("inf"),
    request: bytes = REQUEST,
) -> int:
    """Send requests over all connections, until a time of `time.monotonic()` or so many; returns how many."""
    sent = 0

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < most and time.monotonic() < until:
            sent += 1
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202"), head
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)

    await asyncio.gather(*(work(*connection) for connection in connections))
    return sent


async def commands(redis: Redis) -> float:
    stats = await redis.info("commandstats")
    return float(sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info"))
