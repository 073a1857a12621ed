"""Fair queueing: a caller with 10,000 waiting generations beside one that creates one; weights of 3 and 1.

`behind`: from the POST of the second caller to the beginning of its answer, in times of a job (`JOB_S`), while the
first one has all slots: the wait for the next slot is below 1. `weights`: the ends of both callers while each has more
waiting than can run; their ratio, to that of the weights. `enqueue`: what the script that enqueues takes of Redis
(`INFO commandstats`) where 10,000 jobs wait, for callers that have some of them and for new ones.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Sequence

from redis.asyncio import Redis

from bench.harness import product
from bench.measures import Finding
from bench.workloads.create import NO_LIMIT
from support.stack import Stack
from system.wire_client import ask
from tailrace import keys
from tailrace.queue import Queue
from tailrace.queue.arq_jobs import job_id_of
from tailrace.settings import Settings
from tailrace_demo import running

WAITING = 10_000
SLOTS = 20
JOB_S = 0.5
TRIALS = 10
WEIGHT = 3
ENQUEUED = 5_000
AT_ONCE = 32
KEYS = {"a": "key-of-a", "b": "key-of-b"}
JOB = {
    "model": "scripted", "messages": [{"role": "user", "content": "Go."}],
    "script": [{"delta": {"content": "x"}}, {"sleep": JOB_S}, {"done": True}],
}  # fmt: skip


async def fair(seconds: float) -> Sequence[Finding]:
    behind = await starts_behind()
    ratio, ends = await ends_by_weight(seconds)
    known, new = await enqueue_us()
    return [
        Finding("fair/behind", max(behind) / JOB_S, {"p50 ms": 1000 * statistics.median(behind), "trials": TRIALS}),
        Finding("fair/weights", max(ratio, 1 / ratio), {f"ends of {name}": ends[name] for name in KEYS}),
        Finding("fair/enqueue", max(known, new), {"a caller with jobs µs": known, "a new caller µs": new}),
    ]


def settings(**more: str) -> dict[str, str]:
    listed = ",".join(f"{name}:{key}" for name, key in KEYS.items())
    return {
        **NO_LIMIT,
        "api_keys": listed,
        "ticket_secret": "0123456789abcdef",
        "max_requests_per_minute_per_caller": "10000000",
        "max_jobs": str(SLOTS),
        **more,
    }


async def create(stack: Stack, owner: str) -> str:
    """The id of a new generation of this caller."""
    port, key = stack.frontends[0].port, f"Bearer {KEYS[owner]}"
    status, answer = await ask(port, "POST", "/v1/generations", JOB, Authorization=key)
    assert status == 202, answer
    return str(answer["id"])


async def fill(stack: Stack, owner: str, count: int) -> None:
    """Create so many generations of this caller."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await create(stack, owner)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def starts_behind() -> list[float]:
    """Seconds from each POST of `b` to its first text, while the generations of `a` wait."""
    async with running() as upstream, product(upstream, **settings()) as stack:
        await stack.add_frontend()
        await fill(stack, "a", WAITING)
        worker = await stack.add_worker()
        await worker.wait_for_log("runs up to")
        await asyncio.sleep(2 * JOB_S)
        return [await first_text_s(stack) for _ in range(TRIALS)]


async def first_text_s(stack: Stack) -> float:
    began, generation_id = time.monotonic(), await create(stack, "b")
    port, key = stack.frontends[0].port, f"Bearer {KEYS['b']}"
    while time.monotonic() - began < 60:
        _, state = await ask(port, "GET", f"/v1/generations/{generation_id}?output=false", Authorization=key)
        if state["status"] != "queued":
            return time.monotonic() - began
        await asyncio.sleep(0.005)
    raise AssertionError("it has not begun after a minute")


async def ends_by_weight(seconds: float) -> tuple[float, Counter[str]]:
    """The ratio of ends to that of the weights, and the ends."""
    async with running() as upstream, product(upstream, **settings(weights=f"a={WEIGHT}")) as stack:
        await stack.add_frontend()
        await asyncio.gather(*(fill(stack, name, int(SLOTS / JOB_S * (seconds + 10))) for name in KEYS))
        worker = await stack.add_worker()
        await worker.wait_for_log("runs up to")
        before = await waiting(stack)
        await asyncio.sleep(seconds)
        ends = before - await waiting(stack)
        return ends["a"] / ends["b"] / WEIGHT, ends


async def waiting(stack: Stack) -> Counter[str]:
    """The jobs of each caller that wait."""
    redis: Redis = Redis.from_url(stack.redis.url)
    members = await redis.zrange(keys.QUEUE, 0, -1)
    await redis.aclose()
    return Counter(member.decode().rpartition("@")[2] for member in members)


async def enqueue_us() -> tuple[float, float]:
    """µs of Redis: for callers with waiting jobs, and for callers without."""
    async with product() as stack:
        queue = Queue.connect(Settings(redis_url=stack.redis.url))
        redis: Redis = Redis.from_url(stack.redis.url)
        await enqueue(queue, [f"c{number % 10}" for number in range(WAITING)])
        found = []
        for owners in ([f"c{number % 10}" for number in range(ENQUEUED)], [f"n{number}" for number in range(ENQUEUED)]):
            await redis.config_resetstat()
            await enqueue(queue, owners)
            stats = (await redis.info("commandstats"))["cmdstat_evalsha"]
            found.append(stats["usec"] / stats["calls"])
        await redis.aclose()
        await queue.server.close()
        return found[0], found[1]


async def enqueue(queue: Queue, owners: Sequence[str]) -> None:
    left = iter(owners)

    async def work() -> None:
        for owner in left:
            job_id = job_id_of(owner)
            await queue.jobs.enqueue(f"gen_{job_id[:20]}", job_id, 3600)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
