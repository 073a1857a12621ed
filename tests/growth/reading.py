"""Reading logs of more and more tokens: whole ones that have ended, and the rest of ones that are being written."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis

from bench import procfs
from bench.children import Load, load
from bench.delivery import TAILRACE, appends_to
from bench.harness import Served, get
from growth.delivery import MB
from growth.ground import product
from growth.results import Point
from tailrace import keys

TOKEN = "~text"
MARK = b"~"
REPLAYED = 2_000_000
"""Tokens that are read for one point, at least."""

MOST_ROUNDS = 300
TRIES = 15
SOME = 100
NO_LIMIT = {"max_log_bytes": "1000000000"}


async def replay(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """A stack for each amount, one reader at a time."""
    for tokens in amounts:
        async with (
            product(**NO_LIMIT) as stack, TAILRACE.web(stack) as web,
            appends_to("log")(stack, web) as append, load("bench.reading") as readers,
        ):  # fmt: skip
            (name,) = await append.do("create", logs=1)
            before = await _used(stack.redis.url)
            await append.do("fill", logs=[0], tokens=tokens, texts=[TOKEN], end=False)
            stored = await _used(stack.redis.url) - before
            await append.do("fill", logs=[0], tokens=1, texts=[TOKEN])
            requests = [get(TAILRACE.path_of(name), ["Connection: close"])]
            await readers.do("replay", port=web.port, requests=requests, seconds=0)
            procfs.reset_peak(web.pid)
            used = procfs.cpu_s(web.pid), procfs.cpu_s(stack.redis.pid)
            read = await _read(readers, web, requests, tokens + 1)
            spent = procfs.cpu_s(web.pid) - used[0], procfs.cpu_s(stack.redis.pid) - used[1]
            yield (
                tokens,
                {
                    "frontend": 1e9 * spent[0] / read,
                    "Redis": 1e9 * spent[1] / read,
                    "Redis, stored": stored / tokens,
                    "frontend at its peak": procfs.peak_bytes(web.pid) / MB,
                },
            )


async def _read(readers: Load, web: Served, requests: Sequence[str], tokens: int) -> int:
    """Read the log again and again; how many tokens were read."""
    rounds = min(MOST_ROUNDS, -(-REPLAYED // tokens))
    total = 0
    for _ in range(rounds):
        received = await readers.do("replay", port=web.port, requests=requests, seconds=0)
        assert received["tokens"] == tokens, f"{received['tokens']:,} tokens of {tokens:,} were received"
        total += tokens
    return total


async def _used(url: str) -> int:
    async with Redis.from_url(url) as redis:
        return int((await redis.info("memory"))["used_memory"])


async def resume(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """A stack for all amounts, a log for each. Nothing is appended while a reader resumes: it has caught up when it has
    the tokens behind its cursor; where there are none, when it has the head of the response."""
    async with product(**NO_LIMIT) as stack, TAILRACE.web(stack) as web, appends_to("log")(stack, web) as append:
        *names, warm_up = await append.do("create", logs=len(amounts) + 1)
        await append.do("fill", logs=[len(amounts)], tokens=SOME, texts=[TOKEN], end=False)
        for _ in range(5 * TRIES):
            await _caught_up_s(web.port, warm_up, "", SOME)
        for log, (name, tokens) in enumerate(zip(names, amounts, strict=True)):
            await append.do("fill", logs=[log], tokens=tokens, texts=[TOKEN], end=False)
            cursors = {
                "nothing behind": (await _cursor(stack.redis.url, name, 0), 0),
                "100 tokens behind": (await _cursor(stack.redis.url, name, min(SOME, tokens)), min(SOME, tokens)),
                "from the beginning": ("", tokens),
            }
            yield (
                tokens,
                {
                    label: 1000 * statistics.median([await _caught_up_s(web.port, name, *cursor) for _ in range(TRIES)])
                    for label, cursor in cursors.items()
                },
            )


async def _cursor(url: str, name: str, behind: int) -> str:
    """The cursor of a reader that lacks so many of the newest entries."""
    async with Redis.from_url(url) as redis:
        rows = await redis.xrevrange(keys.log(name), count=behind + 1)
        return str(rows[-1][0].decode())


async def _caught_up_s(port: int, name: str, cursor: str, tokens: int) -> float:
    """From the connection until so many tokens were received, seconds."""
    headers = [f"Last-Event-ID: {cursor}"] if cursor else []
    began, received = time.monotonic(), 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=16 * MB)
    writer.write(get(TAILRACE.path_of(name), headers).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    while received < tokens:
        data = await reader.read(65536)
        assert data, f"{received:,} of {tokens:,} tokens, then the end"
        received += data.count(MARK)
    took = time.monotonic() - began
    assert received == tokens
    writer.transport.abort()
    return took
