"""200 live logs, 20 events a second each, scattered in time, a reader each: the cost of an event.

Beside it the floor (`bench.floor`): the same writes to the same readers, by a loop that does nothing else.
"""

import asyncio
import sys
from collections.abc import Sequence

from bench import procfs
from bench.children import environment, load, python
from bench.delivery import NAIVE, SETTLE_S, TAILRACE, Delivery, Shape, deliver
from bench.harness import get
from bench.measures import Finding

SCATTERED = Shape(logs=200, rate=20)


async def scattered(seconds: float) -> Sequence[Finding]:
    """One run: our trial, then the naive pattern's, each on a new stack; then the floor."""
    ours = await deliver(TAILRACE, SCATTERED, seconds)
    naive = await deliver(NAIVE, SCATTERED, seconds)
    beside = figures("Tailrace", ours) | figures("naive", naive) | {"floor: web µs": await floor_us(seconds)}
    beside["Tailrace: p99 ms by its metric"] = ours.lag_p99_ms
    return [Finding("scattered/web", ours.web_us() / naive.web_us(), beside)]


async def floor_us(seconds: float) -> float:
    """µs of CPU an event that is only written."""
    writing = await asyncio.create_subprocess_exec(
        *python("bench.floor"), env=environment(), stdout=asyncio.subprocess.PIPE, stderr=sys.stderr
    )
    assert writing.stdout is not None
    try:
        port = int(await writing.stdout.readline())
        async with load("bench.reading") as readers:
            await readers.do("follow", port=port, requests=[get("/")] * SCATTERED.logs)
            await asyncio.sleep(SETTLE_S)
            await readers.do("begin")
            before = procfs.cpu_s(writing.pid)
            await asyncio.sleep(seconds)
            used = procfs.cpu_s(writing.pid) - before
            report = await readers.do("report")
    finally:
        writing.kill()
        await writing.wait()
    return 1e6 * used / float(report["latency"]["samples"])


def figures(side: str, trial: Delivery) -> dict[str, float]:
    """The absolute figures of a side."""
    usage, events = trial.usage, trial.delivered
    absolute = {f"{side}: {name} µs": usage.us_an_event(events, name) for name in ("web", "redis", "append")}
    absolute |= {f"{side}: events an append": trial.batch_size, f"{side}: delivered share": trial.share}
    return absolute | {f"{side}: p50 ms": trial.latency.p50, f"{side}: p99 ms": trial.latency.p99}
