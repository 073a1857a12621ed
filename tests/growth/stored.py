"""Creating, running and listing generations while more and more of them wait, or are kept."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from bench import procfs
from bench.children import load
from bench.harness import usage
from bench.workloads.create import NO_LIMIT, post
from growth.delivery import MB
from growth.ground import product
from growth.results import Point
from support.stack import Frontend, Stack
from system.wire_client import ask
from tailrace import keys, scripts
from tailrace.events import GenerationRecord, Options
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.queue import Queue
from tailrace.queue.arq_jobs import job_id_of
from tailrace.redis.server import RedisServer, checked
from tailrace.settings import Settings

MEASURED = 2_000
"""Creations of one point."""

RUN = 1_000
"""Generations that are run for one point, at least."""

SWEPT_S = 10.0
"""Eight periods of the sweepers."""

HELD_OFF_S = 8.0
LONG_LEASE_S = 300

FILLING = 200

WARM_UP = 500
"""Creations before the first point."""

CONNECTIONS = 16
LISTED = 50
AT_ONCE = 500
OWNER = "open"
TIMEOUT_S = 60.0
LIMITS = {**NO_LIMIT, "max_requests_per_minute_per_caller": "100000000"}


async def waiting(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """One stack. A worker runs for each point, and is stopped before the next creations. No process sweeps, because its
    server is younger than a lease: `sweeping` has what that takes."""
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        settings = {**LIMITS, "lease_s": str(LONG_LEASE_S)}
        async with product(f"http://127.0.0.1:{port}/v1", **settings) as stack, _stored(stack) as stored:
            frontend = await stack.add_frontend()
            await _post(frontend, WARM_UP)
            for amount in amounts:
                await _fill(stored, amount)
                point = await _create(stack, frontend) | await _memory(stored.server, frontend)
                yield amount, point | await _run(stack, stored.server)


async def sweeping(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """One stack with one frontend, which therefore sweeps alone, while more and more generations wait."""
    async with product(**LIMITS) as stack, _stored(stack) as stored:
        frontend = await stack.add_frontend()
        await asyncio.sleep(HELD_OFF_S)
        for amount in amounts:
            await _fill(stored, amount)
            used = await usage(SWEPT_S, {"frontend": frontend.pid, "redis": stack.redis.pid})
            yield (
                amount,
                {
                    "frontend": 100 * used.cpu_s["frontend"] / used.seconds,
                    "Redis": 100 * used.cpu_s["redis"] / used.seconds,
                },
            )


async def kept(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """One stack without a worker; what was created is ended at once, as if one had run it."""
    async with product(**LIMITS) as stack, _stored(stack) as stored:
        frontend = await stack.add_frontend()
        await _post(frontend, WARM_UP)
        for amount in amounts:
            await _end_all(stored.server)
            missing = amount - await stored.server.execute("ZCARD", keys.owned(OWNER))
            await _fill(stored, max(0, missing))
            await _end_all(stored.server)
            point = await _create(stack, frontend)
            await _end_all(stored.server)
            pages = [await _list_s(frontend) for _ in range(LISTED)]
            listed = {"newest page": 1000 * statistics.median(pages)}
            yield amount, point | listed | await _memory(stored.server, frontend)


class Stored(NamedTuple):
    """What creates generations without a frontend."""

    log: Log
    queue: Queue

    @property
    def server(self) -> RedisServer:
        return self.queue.server


@asynccontextmanager
async def _stored(stack: Stack) -> AsyncIterator[Stored]:
    settings = Settings(redis_url=stack.redis.url)
    stored = Stored(Log.connect(settings), Queue.connect(settings))
    try:
        yield stored
    finally:
        await stored.log.server.close()
        await stored.queue.server.close()


async def _fill(stored: Stored, amount: int) -> None:
    """Create generations, as a frontend does, until so many wait."""
    left = iter(range(amount - await stored.server.execute("ZCARD", keys.QUEUE)))

    async def create() -> None:
        for _ in left:
            record = GenerationRecord(new_generation_id(), OWNER, "bench", Options(deadline_s=3600, retention_s=3600))
            job_id = job_id_of(OWNER)
            creation = await stored.log.create(record, msgspec.json.decode(BODY), job_id)
            await stored.queue.submit(record, creation.created, job_id, len(BODY))

    await asyncio.gather(*(create() for _ in range(FILLING)))


async def _post(frontend: Frontend, count: int) -> None:
    """Create so many generations. Their answers have five tokens and end at once."""
    connections = [await asyncio.open_connection("127.0.0.1", frontend.port) for _ in range(CONNECTIONS)]
    await post(connections, float("inf"), count, REQUEST)
    for _, writer in connections:
        writer.close()


async def _create(stack: Stack, frontend: Frontend) -> Point:
    """The cost of a creation."""
    before = procfs.cpu_s(frontend.pid), procfs.cpu_s(stack.redis.pid)
    await _post(frontend, MEASURED)
    used = procfs.cpu_s(frontend.pid) - before[0], procfs.cpu_s(stack.redis.pid) - before[1]
    return {"frontend": 1e6 * used[0] / MEASURED, "Redis": 1e6 * used[1] / MEASURED}


async def _memory(server: RedisServer, frontend: Frontend) -> Point:
    async with Redis.from_pool(server.client.connection_pool) as redis:
        used = int((await redis.info("memory"))["used_memory"])
    return {"Redis, memory": used / MB, "frontend, memory": procfs.rss_bytes(frontend.pid) / MB}


async def _run(stack: Stack, server: RedisServer) -> Point:
    """The cost of a generation that a new worker takes and runs."""
    worker = await stack.add_worker(max_jobs="50")
    await worker.wait_for_log("runs up to")
    was, began = await server.execute("ZCARD", keys.QUEUE), time.monotonic()
    before = procfs.cpu_s(worker.pid), procfs.cpu_s(stack.redis.pid)
    async with asyncio.timeout(TIMEOUT_S):
        while was - (left := await server.execute("ZCARD", keys.QUEUE)) < RUN:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)
    used = procfs.cpu_s(worker.pid) - before[0], procfs.cpu_s(stack.redis.pid) - before[1]
    count, took, memory = was - left, time.monotonic() - began, procfs.rss_bytes(worker.pid) / MB
    await worker.stop()
    costs = {"worker": 1e6 * used[0] / count, "Redis, running": 1e6 * used[1] / count}
    return costs | {"generations run": count / took, "worker, memory": memory}


async def _list_s(frontend: Frontend) -> float:
    """Of one page of the caller's list."""
    began = time.monotonic()
    status, answer = await ask(frontend.port, "GET", "/v1/generations?limit=20")
    assert status == 200, answer
    return time.monotonic() - began


async def _end_all(server: RedisServer) -> None:
    """End all generations that wait, as `finalize` leaves them."""
    jobs = await server.execute("ZRANGE", keys.QUEUE, 0, -1)
    ids = await _ids_of(server, jobs)
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        states = checked(await server.execute_many([("HMGET", keys.state(each), "epoch", "seq") for each in some]))
        ends = [_end(each, int(epoch), int(seq)) for each, (epoch, seq) in zip(some, states, strict=True)]
        replies = checked(await server.execute_many(ends))
        assert all(reply == [b"OK"] for reply in replies), replies[:3]
        gone: list[Any] = [("SREM", keys.unfinished(each), each) for each in some]
        checked(await server.execute_many([*gone, ("ZREM", keys.unfinished_of(OWNER), *some)]))
    lists = (keys.QUEUE, keys.TAGS, keys.WAITING, keys.line(OWNER), keys.turns(OWNER))
    jobs_of = [f"arq:job:{job.decode()}" for job in jobs]
    for start in range(0, len(jobs_of), AT_ONCE):
        await server.execute("DEL", *jobs_of[start : start + AT_ONCE])
    await server.execute("DEL", *lists)


async def _ids_of(server: RedisServer, jobs: list[bytes]) -> list[str]:
    """The generations of waiting jobs, by the newest of their owner's list."""
    if not jobs:
        return []
    return [each.decode() for each in await server.execute("ZRANGE", keys.unfinished_of(OWNER), 0, -1)]


def _end(generation_id: str, epoch: int, seq: int) -> Any:
    row = (f"{epoch}-{seq + 1}", "done", DONE, "")
    return scripts.FINISH.on(keys.of_generation(generation_id), epoch, seq, "completed", b"", *row, 5, "", "")


BODY = b'{"model": "bench", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "tokens": 5}'
REQUEST = (
    b"POST /v1/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
DONE = b'{"status":"completed"}'
