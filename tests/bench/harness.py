"""The ground of a trial: Valkey and the processes under test, which are new and end with the block.

The figures of a trial come from one window: CPU of each process (web, worker, Redis, appends), events and their latency
at the clients, memory before and after.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import procfs
from support.stack import Stack


class Served(NamedTuple):
    """A frontend that delivers logs."""

    pid: int
    port: int


@contextlib.asynccontextmanager
async def product(upstream: str = "http://127.0.0.1:9/v1", **settings: str) -> AsyncIterator[Stack]:
    """Valkey with an append-only file, as in `tailrace dev`. The trial adds frontends and workers."""
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder), upstream, settings)
        stack.redis.start()
        try:
            yield stack
        finally:
            await stack.stop()


class Usage(NamedTuple):
    """Seconds of CPU of named processes over a window of `seconds`."""

    seconds: float
    cpu_s: Mapping[str, float]

    def us_an_event(self, events: float, *names: str) -> float:
        """µs of CPU an event, of these processes together."""
        return 1e6 * sum(self.cpu_s[name] for name in names) / events if events else float("nan")


async def usage(seconds: float, pids: Mapping[str, int]) -> Usage:
    """Measure these processes for so long."""
    before = {name: procfs.cpu_s(pid) for name, pid in pids.items()}
    began = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    return Usage(took, {name: procfs.cpu_s(pid) - before[name] for name, pid in pids.items()})


def get(path: str, headers: Sequence[str] = ()) -> str:
    """A GET of an event stream, as bytes on the wire."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream", *headers]
    return "\r\n".join([*lines, "", ""])
