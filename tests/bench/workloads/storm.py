"""8,000 readers lose another frontend and reconnect to this one, on which 400 readers are live.

Each of the 8,000 reads a log of its own and comes back with `Last-Event-ID`, behind 20 entries that were written while
it was away. `DIALLED` of them are on their way at any moment: more than a listening socket keeps for a process by
default (2,048 connections). The 400 read 10 events a second each, from logs of their own; readers of either kind have a
process of their own. Measured: the time until all 8,000 have read what they had missed; meanwhile, the lag of the 400;
and the frontend's CPU beyond what it uses without the storm, for each reader that joins. Then an event is appended to
each of the 8,000 logs: a reader that does not receive it is not live, and fails the run.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from bench import procfs
from bench.children import Load, load
from bench.delivery import SETTLE_S, TAILRACE, Shape, window
from bench.harness import Served, get, product
from bench.measures import Finding
from bench.quantiles import Latency
from bench.reading import MARK

LIVE = Shape(logs=400, rate=10)
JOINS = 8000
DIALLED = 4000
MISSED = 20
QUIET_S = 2.0
ARRIVAL_S = 20.0
TEXT = "eight characters or so"
LIMITS = {"max_readers": "20000", "max_readers_per_caller": "20000"}


async def storm(seconds: float) -> Sequence[Finding]:
    async with (
        product(**LIMITS) as stack, TAILRACE.web(stack) as web,
        load("bench.appending", "log", stack.redis.url) as filling, load("bench.reconnecting") as joining,
        load("bench.appending", "worker", stack.redis.url) as append, load("bench.reading") as readers,
    ):  # fmt: skip
        await lose_their_frontend(filling, joining, web)
        live = await append.do("create", logs=LIVE.logs)
        await readers.do("follow", port=web.port, requests=[get(TAILRACE.path.format(name)) for name in live])
        await append.do("start", rate=LIVE.rate)
        await asyncio.sleep(SETTLE_S)
        pids = {"web": web.pid, "redis": stack.redis.pid}
        quiet = await window(QUIET_S, pids, append, readers)
        before = {name: procfs.cpu_s(pid) for name, pid in pids.items()}
        began = time.monotonic()
        await readers.do("begin")
        joined = await joining.do("reconnect", at_once=DIALLED)
        took = time.monotonic() - began
        used = {name: procfs.cpu_s(pid) - before[name] for name, pid in pids.items()}
        lag = Latency(**(await readers.do("report"))["latency"])
        await check_all_are_live(filling, joining)
    beside = {"without the storm: p99 ms": quiet.latency.p99, "without the storm: max ms": quiet.latency.max}
    beside |= {"live: p50 ms": lag.p50, "live: events": lag.samples}
    for name, cpu_s in used.items():
        idle_s = quiet.usage.cpu_s[name] / quiet.usage.seconds * took
        beside[f"a join: {name} µs"] = 1e6 * (cpu_s - idle_s) / JOINS
    waits = joined["latency"]
    beside |= {f"a join: {name} ms": waits[name] for name in ("p50", "p99", "max")}
    return [
        Finding("storm/p99", lag.p99, beside),
        Finding("storm/max", lag.max, {}),
        Finding("storm/all-live", 1000 * joined["seconds"], {"readers": JOINS}),
    ]


async def lose_their_frontend(filling: Load, joining: Load, web: Served) -> None:
    """Logs with readers that have read their beginning, are cut, and miss what is written then."""
    names = await filling.do("create", logs=JOINS)
    await joining.do("follow", port=web.port, requests=[get(TAILRACE.path.format(name)) for name in names])
    await joining.do("leave")
    await write(filling, [*[TEXT] * (MISSED - 1), TEXT + MARK.decode()])


async def write(filling: Load, texts: Sequence[str]) -> None:
    """Append texts to each log, one an entry."""
    await filling.do("fill", logs=list(range(JOINS)), tokens=len(texts), texts=texts, end=False)


async def check_all_are_live(filling: Load, joining: Load) -> None:
    """Wait until each reader has read one more event, exactly once."""
    await write(filling, [MARK.decode()])
    deadline = time.monotonic() + ARRIVAL_S
    report: dict[str, Any] = {}
    while report.get("marks") != 2 * JOINS and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        report = await joining.do("report")
    assert report == {"cut": 0, "marks": 2 * JOINS}, report
