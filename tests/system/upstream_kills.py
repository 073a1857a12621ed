"""Workers are killed under a limit of concurrency: the upstream never has more calls than `max_concurrency` allows.

    PYTHONPATH=tests python -m system.upstream_kills [--kills 50]

The upstream itself counts its calls. A call of a worker that is killed ends when the kernel closes its connection; its
slot becomes free three leases later.
"""

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp

from support.api import Api
from support.stack import Stack, stack
from support.upstreams import NamedUpstream, named_upstreams, write_config

WORKERS = 3
LIMIT = 8
UNDER_WAY = 30
"""Generations at the same time: more than the upstream may have calls."""

LEASE_S = "0.5"
RUNS = " runs up to "
"""In the line that a worker logs once it takes generations."""


class Result(NamedTuple):
    """`most_in_use`: calls at the same time, as the upstream counts them. `ends`: generations by their status."""

    kills: int
    calls: int
    most_in_use: int
    ends: Counter[str]
    seconds: float


async def kill_under_load(kills: int, *, pause_s: float = 0.4) -> Result:
    """Kill a worker so often, each time another one at random, under a constant load; then let every one end."""
    upstream = NamedUpstream("limited", words=5, delay_s=0.06)
    with tempfile.TemporaryDirectory() as folder:
        async with named_upstreams(upstream), aiohttp.ClientSession() as http:
            config = write_config(Path(folder) / "tailrace.toml", upstream.table(max_concurrency=LIMIT))
            async with stack(
                workers=WORKERS, lease_s=LEASE_S, config=config, max_attempts="1000", upstream_wait_s="120"
            ) as product:  # fmt: skip
                return await _run(product, Api(http, product.url), upstream, kills, pause_s)


async def _run(product: Stack, api: Api, upstream: NamedUpstream, kills: int, pause_s: float) -> Result:
    began, stopping, ends = time.monotonic(), asyncio.Event(), Counter[str]()

    async def caller() -> None:
        while not stopping.is_set():
            ends[await _end_of(api, await api.create(model="m"))] += 1

    callers = [asyncio.create_task(caller()) for _ in range(UNDER_WAY)]
    await asyncio.sleep(1)
    for _ in range(kills):
        worker = random.choice(product.workers)
        await worker.stop(signal.SIGKILL)
        before = worker.output.count(RUNS)
        await worker.start()
        await _until(lambda: worker.output.count(RUNS) > before)  # noqa: B023 - awaited before the next one
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
    stopping.set()
    await asyncio.gather(*callers)
    return Result(kills, upstream.calls, upstream.most_in_use, ends, time.monotonic() - began)


async def _end_of(api: Api, generation_id: str) -> str:
    """The final status, however often the generation loses its worker."""
    while True:
        status: str = (await api.get(generation_id, "?wait=20")).value["status"]
        if status not in ("queued", "running"):
            return status


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    result = asyncio.run(kill_under_load(parser.parse_args().kills))
    print(f"{result}, limit {LIMIT}")
    assert result.most_in_use <= LIMIT


if __name__ == "__main__":
    main()
