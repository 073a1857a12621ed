"""60 upstream streams, 50 tokens a second each, into one worker; then faster, until a core is 90 % full.

A chunk is what the upstream wrote while the window lasted. Ours is the product's worker with its queue, leases and all;
the naive one (`naive.worker`) has only its loop. The upstream (`bench.upstream`) is a process of its own and keeps up
with either. A rate is held when at least 97 % of what was offered was written: a worker that does not read fills its
sockets, and the upstream writes no more.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import NamedTuple

from bench.children import Load, load, python, running
from bench.measures import Finding
from bench.stage import product, usage
from support.stack import Stack
from system.wire_client import ask

STREAMS = 60
RATE = 50.0
FASTER = (100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0)
FULL = 0.9
HELD = 0.97
STEP_S = 2.0
SETTLE_S = 1.0
PATIENCE_S = 20.0
ASKED = {"model": "bench", "messages": [{"role": "user", "content": "Go on."}]}


class Step(NamedTuple):
    """A window at one rate: chunks a second offered and written, and cores used."""

    offered: float
    written: float
    worker: float
    redis: float
    upstream: float

    @property
    def is_held(self) -> bool:
        return self.written >= HELD * self.offered

    def us(self, cores: float) -> float:
        """µs of CPU a chunk."""
        return 1e6 * cores / self.written


class Ingest(NamedTuple):
    """One trial: the window at the common rate, and the faster ones up to a full core."""

    steady: Step
    faster: Sequence[Step]

    @property
    def fastest(self) -> Step:
        """The last that was held."""
        return [step for step in [self.steady, *self.faster] if step.is_held or step is self.steady][-1]

    @property
    def held(self) -> float:
        """Chunks a second at 90 % of a core, interpolated; the last rate that was held where it was not reached."""
        steps = [self.steady, *self.faster]
        for low, high in itertools.pairwise(steps):
            if low.worker < FULL <= high.worker and high.is_held:
                return low.written + (FULL - low.worker) / (high.worker - low.worker) * (high.written - low.written)
        return self.fastest.written


async def ingest(seconds: float) -> Sequence[Finding]:
    ours, naive = await take_in(tailrace_worker, seconds), await take_in(naive_worker, seconds)
    beside: dict[str, float] = {}
    for who, trial in (("Tailrace", ours), ("naive", naive)):
        beside |= {f"{who}: worker µs": trial.steady.us(trial.steady.worker), f"{who}: held/s": trial.held}
        beside[f"{who}: worker µs when full"] = trial.fastest.us(trial.fastest.worker)
        beside[f"{who}: Redis µs"] = trial.steady.us(trial.steady.redis)
    beside["upstream: µs"] = ours.steady.us(ours.steady.upstream)
    full = ours.fastest
    redis = {"tokens/s": full.written, "µs at 3,000/s": ours.steady.us(ours.steady.redis)}
    return [
        Finding("ingest/worker", beside["Tailrace: worker µs"] / beside["naive: worker µs"], beside),
        Finding("redis/cpu", full.us(full.redis), redis),
    ]


Worker = Callable[[Stack], contextlib.AbstractAsyncContextManager[int]]


@contextlib.asynccontextmanager
async def tailrace_worker(stack: Stack) -> AsyncIterator[int]:
    """The product's worker, asked by clients; none of them reads."""
    frontend, worker = await stack.add_frontend(), await stack.add_worker()
    await worker.says("runs up to")
    for _ in range(STREAMS):
        status, told = await ask(frontend.port, "POST", "/v1/generations", ASKED)
        assert status == 202, told
    yield worker.pid


@contextlib.asynccontextmanager
async def naive_worker(stack: Stack) -> AsyncIterator[int]:
    command, log = python("bench.naive.worker", str(STREAMS)), stack.root / "naive.log"
    addresses = {"OPENAI_BASE_URL": stack.upstream, "REDIS_URL": stack.redis.url}
    async with running(command, log, **addresses) as worker:
        yield worker.pid


async def take_in(side: Worker, seconds: float) -> Ingest:
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        async with product(f"http://127.0.0.1:{port}/v1") as stack, side(stack) as worker:
            async with asyncio.timeout(PATIENCE_S):
                while (await upstream.do("report"))["streaming"] < STREAMS:  # noqa: ASYNC110 - in another process
                    await asyncio.sleep(0.05)
            pids = {"worker": worker, "redis": stack.redis.pid, "upstream": upstream.pid}
            steady = await step(upstream, RATE, seconds, pids)
            faster: list[Step] = []
            for rate in FASTER:
                faster.append(await step(upstream, rate, min(seconds, STEP_S), pids))
                if faster[-1].worker >= FULL or not faster[-1].is_held:
                    break
            await upstream.do("speak", rate=0)
            return Ingest(steady, faster)


async def step(upstream: Load, rate: float, seconds: float, pids: Mapping[str, int]) -> Step:
    """A window at this rate, a stream."""
    await upstream.do("speak", rate=rate)
    await asyncio.sleep(SETTLE_S)
    before = await upstream.do("report")
    used = await usage(seconds, pids)
    after = await upstream.do("report")
    assert after["streaming"] == STREAMS, after
    cores = {name: spent / used.seconds for name, spent in used.cpu_s.items()}
    return Step(STREAMS * rate, (after["written"] - before["written"]) / used.seconds, **cores)
