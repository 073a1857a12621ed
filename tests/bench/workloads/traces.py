"""The cost of traces while their collector is dead: 20 generations at a time, of 200 tokens in 2 s, each with a reader.

Trials without and with `OTEL_EXPORTER_OTLP_ENDPOINT` alternate (off, on, on, off), each with fresh processes,
so that a machine that slows down concerns both. The measure is the CPU of the frontend and the worker a generation, of
both trials of a side together.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench import procfs
from bench.harness import product
from bench.measures import Finding
from support.stack import Stack
from system.wire_client import open_exchange
from tailrace_cli.embedded import free_port
from tailrace_demo import running

AT_ONCE = 20
WARM_UP = 40
SCRIPT = [{"tokens": {"count": 200, "rate": 100}}, {"delta": {}, "finish_reason": "stop"}, {"done": True}]
BODY = json.dumps(
    {"model": "scripted", "messages": [{"role": "user", "content": "Go."}], "stream": True, "script": SCRIPT}
).encode()
OFF: Mapping[str, str] = {}


class Trial(NamedTuple):
    """Generations, and seconds of CPU of the frontend and the worker."""

    generations: int
    web_s: float
    worker_s: float

    @property
    def ms(self) -> float:
        """Of CPU a generation."""
        return 1000 * (self.web_s + self.worker_s) / self.generations


async def traces(seconds: float) -> Sequence[Finding]:
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    trials = [await trial(variables, seconds) for variables in (OFF, on, on, OFF)]
    without, with_traces = joined(trials[0], trials[3]), joined(trials[1], trials[2])
    beside = {
        "without: ms a generation": without.ms, "with: ms a generation": with_traces.ms,
        "without: generations": without.generations, "with: generations": with_traces.generations,
        "without: second to first": trials[3].ms / trials[0].ms, "with: second to first": trials[2].ms / trials[1].ms,
    }  # fmt: skip
    return [Finding("traces/cpu", with_traces.ms / without.ms, beside)]


def joined(one: Trial, other: Trial) -> Trial:
    return Trial(one.generations + other.generations, one.web_s + other.web_s, one.worker_s + other.worker_s)


async def trial(variables: Mapping[str, str], seconds: float) -> Trial:
    async with running() as upstream, product(upstream) as stack:
        stack.environment |= variables
        frontend, worker = await stack.add_frontend(), await stack.add_worker()
        await worker.wait_for_log("runs up to")
        await play(stack, most=WARM_UP)
        before = procfs.cpu_s(frontend.pid), procfs.cpu_s(worker.pid)
        count = await play(stack, until=time.monotonic() + seconds)
        return Trial(count, procfs.cpu_s(frontend.pid) - before[0], procfs.cpu_s(worker.pid) - before[1])


async def play(stack: Stack, until: float = float("inf"), most: float = float("inf")) -> int:
    """Read generations to their ends, AT_ONCE at a time, until a time of `time.monotonic()` or so many; how many."""
    begun = 0

    async def work() -> None:
        nonlocal begun
        while begun < most and time.monotonic() < until:
            begun += 1
            await read_one(stack.frontends[0].port)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return begun


async def read_one(port: int) -> None:
    """Create a generation and read it to its end."""
    headers = {"Accept": "text/event-stream", "Content-Type": "application/json"}
    exchange = await open_exchange(port, "POST", "/v1/generations", headers, BODY)
    received = b"".join([piece async for piece in exchange.chunks()])
    exchange.close()
    assert b"event: done" in received, received[-200:]
