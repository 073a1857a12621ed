"""60 upstream streams, 50 tokens a second each, into one worker; then more of them, until a core is 90 % full.

A chunk counts when it is in its log: the chunks that the upstream wrote in the window, less those still on their way,
which the age of the last entries shows. Ours is the product's worker with its queue, leases and everything else; the
naive one (`naive.worker`) has only its loop. The logs have no readers. The upstream (`bench.upstream`) is a process of
its own and keeps up with either. A number of streams is sustained while the last entries are younger than `FRESH_MS`;
the highest rate is interpolated between the last two steps, or is that of the last sustained one.
"""

import asyncio
import contextlib
import itertools
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from bench.children import Load, load, python, running
from bench.harness import product, usage
from bench.measures import Finding
from bench.timestamps import TIMESTAMP, now_us
from support.stack import Stack
from system.wire_client import ask
from tailrace import keys

STREAMS = 60
RATE = 50.0
MORE = (75, 90, 120, 150, 180, 240, 300, 400, 500, 600)
FULL = 0.9
FRESH_MS = 300.0
STEP_S = 2.0
SETTLE_S = 1.0
CALM_S = 3.0  # lets the cost of starting hundreds of answers pass
TIMEOUT_S = 60.0
REQUEST = {"model": "bench", "messages": [{"role": "user", "content": "Go on."}]}
AT_ONCE = 10


class Step(NamedTuple):
    """A window with so many streams: chunks appended a second, cores used, age of the last entries at its end."""

    rate: float
    worker: float
    redis: float
    upstream: float
    age_ms: float

    @property
    def is_sustained(self) -> bool:
        return self.age_ms <= FRESH_MS

    def us(self, cores: float) -> float:
        """µs of CPU a chunk."""
        return 1e6 * cores / self.rate


class Ingest(NamedTuple):
    """One trial: the window with 60 streams, and those with more, up to a full core."""

    steady: Step
    more: Sequence[Step]

    @property
    def fullest(self) -> Step:
        """The last sustained step."""
        return [self.steady, *(step for step in self.more if step.is_sustained)][-1]

    @property
    def sustained_rate(self) -> float:
        """Chunks a second at 90 % of a core."""
        for low, high in itertools.pairwise([self.steady, *self.more]):
            if high.is_sustained and low.worker < FULL <= high.worker:
                return low.rate + (FULL - low.worker) / (high.worker - low.worker) * (high.rate - low.rate)
        return self.fullest.rate


class Side(NamedTuple):
    """A worker under test: `start(n)` starts n more answers, which go into the Redis Streams `logs`."""

    pid: int
    start: Callable[[int], Awaitable[None]]
    logs: list[str]


Worker = Callable[[Stack], contextlib.AbstractAsyncContextManager[Side]]


async def ingest(seconds: float) -> Sequence[Finding]:
    ours, naive = await measure(tailrace_worker, seconds), await measure(naive_worker, seconds)
    beside: dict[str, float] = {}
    for side, trial in (("Tailrace", ours), ("naive", naive)):
        beside |= {f"{side}: worker µs": trial.steady.us(trial.steady.worker), f"{side}: held/s": trial.sustained_rate}
        beside[f"{side}: worker µs when full"] = trial.fullest.us(trial.fullest.worker)
        beside |= {f"{side}: cores when full": trial.fullest.worker, f"{side}: upstream cores": trial.fullest.upstream}
        beside[f"{side}: redis µs"] = trial.steady.us(trial.steady.redis)
        beside[f"{side}: age ms"] = trial.steady.age_ms
    full = ours.fullest
    redis = {"at tokens/s": full.rate, "µs at 3,000/s": ours.steady.us(ours.steady.redis)}
    return [
        Finding("ingest/worker", beside["Tailrace: worker µs"] / beside["naive: worker µs"], beside),
        Finding("redis/cpu", full.us(full.redis), redis),
    ]


@contextlib.asynccontextmanager
async def tailrace_worker(stack: Stack, **settings: str) -> AsyncIterator[Side]:
    """The product's worker; clients create its generations over HTTP."""
    frontend, worker = await stack.add_frontend(), await stack.add_worker(max_jobs="1000", **settings)
    await worker.wait_for_log("runs up to")
    logs: list[str] = []

    async def create() -> None:
        status, generation = await ask(frontend.port, "POST", "/v1/generations", REQUEST)
        assert status == 202, generation
        logs.append(keys.log(generation["id"]))

    async def more(count: int) -> None:
        for _ in range(count // AT_ONCE):
            await asyncio.gather(*(create() for _ in range(AT_ONCE)))

    yield Side(worker.pid, more, logs)


@contextlib.asynccontextmanager
async def naive_worker(stack: Stack) -> AsyncIterator[Side]:
    """The naive worker, which reads the number of answers to start as a line on stdin."""
    command, log = python("bench.naive.worker"), stack.root / "naive.log"
    logs: list[str] = []
    async with running(command, log, OPENAI_BASE_URL=stack.upstream, REDIS_URL=stack.redis.url) as worker:

        async def more(count: int) -> None:
            logs.extend(f"stream-{number}" for number in range(len(logs), len(logs) + count))
            worker.write_line(str(count))

        yield Side(worker.pid, more, logs)


async def steady(worker: Worker, seconds: float) -> Step:
    """A window with 60 streams."""
    return (await measure(worker, seconds, more=())).steady


async def measure(worker: Worker, seconds: float, more: Sequence[int] = MORE) -> Ingest:
    """A window with 60 streams, and then with each of these numbers until a core is full."""
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        async with (
            product(f"http://127.0.0.1:{port}/v1") as stack, worker(stack) as side,
            Redis.from_url(stack.redis.url) as redis,
        ):  # fmt: skip
            pids = {"worker": side.pid, "redis": stack.redis.pid, "upstream": upstream.pid}
            await ensure_streams(STREAMS, side, upstream)
            first = await step(STREAMS, seconds, side, upstream, redis, pids)
            steps: list[Step] = []
            if more:
                await ensure_streams(more[-1], side, upstream)
                await asyncio.sleep(CALM_S)
            for streams in more:
                steps.append(await step(streams, min(seconds, STEP_S), side, upstream, redis, pids))
                if steps[-1].worker >= FULL or not steps[-1].is_sustained:
                    break
            return Ingest(first, steps)


async def ensure_streams(streams: int, side: Side, upstream: Load) -> None:
    """Start answers until the upstream has so many under way."""
    await side.start(streams - len(side.logs))
    async with asyncio.timeout(TIMEOUT_S):
        while (await upstream.do("report"))["streaming"] < streams:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)


async def step(streams: int, seconds: float, side: Side, upstream: Load, redis: Redis, pids: Mapping[str, int]) -> Step:
    """A window in which so many answers emit tokens."""
    await upstream.do("emit", streams=streams, rate=RATE)
    await asyncio.sleep(SETTLE_S)
    before, was_ms = await upstream.do("report"), await age_of_last(redis, side.logs, streams)
    used = await usage(seconds, pids)
    after, age_ms = await upstream.do("report"), await age_of_last(redis, side.logs, streams)
    pending = RATE * streams * (age_ms - was_ms) / 1000
    cores = {name: spent / used.seconds for name, spent in used.cpu_s.items()}
    return Step((after["written"] - before["written"] - pending) / used.seconds, **cores, age_ms=age_ms)


async def age_of_last(redis: Redis, logs: Sequence[str], streams: int) -> float:
    """The age of a log's newest timestamp, ms: the median of the logs that grow (the youngest ones)."""
    pipe = redis.pipeline(transaction=False)
    for log in logs:
        pipe.xrevrange(log, count=1)
    newest = []
    for rows in await pipe.execute():
        timestamps = TIMESTAMP.findall(b"".join(rows[0][1].values())) if rows else []
        newest.append(int(timestamps[-1]) if timestamps else 0)
    return (now_us() - statistics.median(sorted(newest)[-streams:])) / 1000
