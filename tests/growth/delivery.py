"""Live delivery over more and more logs, and a worker over more and more answers, at the same rate in all."""

import asyncio
from collections.abc import AsyncIterator

from redis.asyncio import Redis

from bench import procfs
from bench.children import load
from bench.delivery import TAILRACE, Shape, window
from bench.harness import get, usage
from bench.workloads.ingest import CALM_S, SETTLE_S, ensure_streams, tailrace_worker
from growth.ground import product
from growth.results import Point

RATE = 2000.0
SECONDS = 5.0
JOINS_SETTLED_S = 500
"""Readers whose joining a window does not see, for each second before it."""

MB = 1024 * 1024


async def delivery(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """A stack for each amount."""
    for logs in amounts:
        limits = {"max_readers": "20000", "max_readers_per_caller": "20000"}
        async with (
            product(**limits) as stack, TAILRACE.web(stack) as web,
            TAILRACE.append(stack, web) as append, load("bench.reading") as readers,
        ):  # fmt: skip
            names = await append.do("create", logs=logs)
            await readers.do("follow", port=web.port, requests=[get(TAILRACE.path_of(name)) for name in names])
            shape = Shape(logs, RATE / logs)
            await append.do("start", rate=shape.rate)
            await asyncio.sleep(SETTLE_S + logs / JOINS_SETTLED_S)
            pids = {"web": web.pid, "redis": stack.redis.pid, "append": append.pid}
            trial = await window(SECONDS, pids, append, readers)
            assert not trial.cut, f"{trial.cut} readers lost their connection"
            costs = {
                label: trial.usage.us_an_event(trial.delivered, name)
                for label, name in (("frontend", "web"), ("Redis", "redis"), ("appending", "append"))
            }
            times = {"p50": trial.latency.p50, "p99": trial.latency.p99}
            yield logs, costs | times | {"frontend, in all": procfs.rss_bytes(web.pid) / MB}


async def running(amounts: tuple[int, ...]) -> AsyncIterator[tuple[int, Point]]:
    """One worker that gets more and more answers."""
    async with load("bench.upstream") as upstream:
        port = await upstream.do("listen")
        async with (
            product(f"http://127.0.0.1:{port}/v1") as stack, tailrace_worker(stack) as side,
            Redis.from_url(stack.redis.url),
        ):  # fmt: skip
            for streams in amounts:
                await ensure_streams(streams, side, upstream)
                await asyncio.sleep(CALM_S)
                await upstream.do("emit", streams=streams, rate=RATE / streams)
                await asyncio.sleep(SETTLE_S)
                before = await upstream.do("report")
                used = await usage(SECONDS, {"worker": side.pid, "redis": stack.redis.pid})
                tokens = (await upstream.do("report"))["written"] - before["written"]
                yield (
                    streams,
                    {
                        "worker": used.us_an_event(tokens, "worker"),
                        "Redis": used.us_an_event(tokens, "redis"),
                        "worker, memory": procfs.rss_bytes(side.pid) / MB,
                    },
                )
                await upstream.do("emit", streams=0, rate=1)
