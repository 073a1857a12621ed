"""200 live readers, without and with 2,000 stalled ones beside them on the same process.

A stalled reader requests a log of a megabyte, reads the status line and nothing more, so its socket is full. The write
timeout, which would cut it after 30 s, is longer than the trial. Its memory is the growth of the frontend when the
stalled readers connect, without kernel buffers.
"""

import asyncio
from collections.abc import Sequence

from bench import procfs
from bench.children import load
from bench.delivery import SETTLE_S, TAILRACE, Shape, window
from bench.harness import get, product
from bench.measures import Finding

LIVE = Shape(logs=200, rate=20)
STALLED = 2000
LONG_LOGS = 4
LONG_TOKENS = 5000
LONG_TOKEN = "~" + 199 * "x"
FILL_S = 2.0


async def stalled(seconds: float) -> Sequence[Finding]:
    limits = {"client_write_timeout_s": "600", "max_readers_per_caller": "20000"}
    async with (
        product(**limits) as stack, TAILRACE.web(stack) as web,
        load("bench.appending", "log", stack.redis.url) as filling, load("bench.reading") as idlers,
        load("bench.appending", "worker", stack.redis.url) as append, load("bench.reading") as readers,
    ):  # fmt: skip
        long = await filling.do("create", logs=LONG_LOGS)
        await filling.do("fill", logs=list(range(LONG_LOGS)), tokens=LONG_TOKENS, texts=[LONG_TOKEN])
        live = await append.do("create", logs=LIVE.logs)
        await readers.do("follow", port=web.port, requests=[get(TAILRACE.path.format(name)) for name in live])
        await append.do("start", rate=LIVE.rate)
        await asyncio.sleep(SETTLE_S)
        pids = {"web": web.pid, "redis": stack.redis.pid}
        without = await window(seconds, pids, append, readers)
        before = procfs.rss_bytes(web.pid)
        requests = [get(TAILRACE.path.format(long[i % LONG_LOGS])) for i in range(STALLED)]
        await idlers.do("stall", port=web.port, requests=requests)
        await asyncio.sleep(FILL_S)
        grown = procfs.rss_bytes(web.pid) - before
        beside = await window(seconds, pids, append, readers)
        left = await idlers.do("report")
    latencies: dict[str, float] = {}
    for side, trial in (("without", without), ("with", beside)):
        latencies |= {f"{side}: p50 ms": trial.latency.p50, f"{side}: p99 ms": trial.latency.p99}
        latencies[f"{side}: web µs an event"] = trial.web_us()
    return [
        Finding("stalled/p99", beside.latency.p99 / without.latency.p99, latencies),
        Finding("stalled/rss", grown / STALLED / 1000, {"stalled": STALLED, "cut": left["cut"]}),
    ]
