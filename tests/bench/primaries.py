"""One primary against three: `PYTHONPATH=tests python -m bench.primaries` appends as fast as it can.

Each process appends eight rows to each of 240 logs of its own, as one call of `Log.append`, and begins again when it
has all replies. Servers: one without a cluster, a cluster of one primary, and one of three; no replicas, no file. They
run in turns, several times; a figure is the median, with its range. CPU is of the appending processes, and of all
primaries; where processes and primaries are more than the cores, they share these.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import uvloop

from bench import procfs
from bench.children import load, serve_commands
from bench.sinks import LogWriterSink
from support.cluster import running_cluster
from tailrace_cli.embedded import EmbeddedServer

LOGS, ROWS, SECONDS, RUNS = 240, 8, 4.0, 3
TEXT = "eight characters or so"
NO_FILE: Mapping[str, Any] = {"appendonly": "no"}
PROCESSES = (1, 2)


class Rate(NamedTuple):
    """Events a second, and µs of CPU an event."""

    events: float
    process_us: float
    redis_us: float


class Flooding:
    """Commands of an appending process."""

    def __init__(self, sink: LogWriterSink) -> None:
        self._sink = sink

    async def create(self) -> None:
        await self._sink.create(LOGS, "open")

    async def flood(self, seconds: float) -> int:
        """Append for so long; returns how many events."""
        ends, appended = time.monotonic() + seconds, 0
        texts = dict.fromkeys(range(LOGS), [TEXT] * ROWS)
        while time.monotonic() < ends:
            await self._sink.append(texts)
            appended += LOGS * ROWS
        return appended


@asynccontextmanager
async def one_server(root: Path) -> AsyncIterator[tuple[str, Sequence[int]]]:
    server = EmbeddedServer(root, **NO_FILE)
    await asyncio.to_thread(server.start)
    try:
        yield server.url, [server.pid]
    finally:
        server.stop()


@asynccontextmanager
async def cluster_of(root: Path, primaries: int) -> AsyncIterator[tuple[str, Sequence[int]]]:
    async with running_cluster(root, primaries=primaries, replicas=0, config=NO_FILE) as cluster:
        yield cluster.url, [node.server.pid for node in cluster.nodes]


SIDES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[tuple[str, Sequence[int]]]]] = {
    "one server": one_server,
    "a cluster of one primary": lambda root: cluster_of(root, 1),
    "a cluster of three primaries": lambda root: cluster_of(root, 3),
}


async def measured(side: str, processes: int) -> Rate:
    with TemporaryDirectory() as root:
        async with AsyncExitStack() as stack:
            url, pids = await stack.enter_async_context(SIDES[side](Path(root)))
            loads = [await stack.enter_async_context(load("bench.primaries", url)) for _ in range(processes)]
            await asyncio.gather(*(each.do("create") for each in loads))
            before = [procfs.cpu_s(each.pid) for each in loads], [procfs.cpu_s(pid) for pid in pids]
            began = time.monotonic()
            events = sum(await asyncio.gather(*(each.do("flood", seconds=SECONDS) for each in loads)))
            took = time.monotonic() - began
            after = [procfs.cpu_s(each.pid) for each in loads], [procfs.cpu_s(pid) for pid in pids]
    process_s, redis_s = (sum(now) - sum(then) for then, now in zip(before, after, strict=True))
    return Rate(events / took, 1e6 * process_s / events, 1e6 * redis_s / events)


def row(name: str, rates: Sequence[Rate]) -> str:
    cells = []
    for values in zip(*rates, strict=True):
        digits = 0 if median(values) > 1000 else 1
        cells.append(f"{median(values):,.{digits}f} [{min(values):,.{digits}f} – {max(values):,.{digits}f}]")
    return f"{name:46}" + "".join(f"{cell:>30}" for cell in cells)


async def main() -> None:
    names = {(side, count): f"{side}, {count} appending" for side in SIDES for count in PROCESSES}
    rates: Mapping[tuple[str, int], list[Rate]] = {key: [] for key in names}
    for number in range(RUNS):
        for side, count in names:
            rates[side, count].append(await measured(side, count))
        print(f"run {number + 1} of {RUNS}", file=sys.stderr)
    print(f"{'':46}{'events/s':>30}{'µs of a process':>30}{'µs of Redis':>30}")
    for key, name in names.items():
        print(row(name, rates[key]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve_commands(Flooding(LogWriterSink(sys.argv[1])))
    else:
        uvloop.run(main())
