"""The cost of traces while their collector is dead: 20 generations at a time, of 200 tokens in 2 s, each with a reader.

Trials without and with `OTEL_EXPORTER_OTLP_ENDPOINT` alternate, each with fresh processes, in an order in which a
machine that becomes slower, or slower and faster again, concerns both sides alike. The measure is the CPU of the
frontend and the worker a generation, of the four trials of a side together. (Trials of one side differ by up to 11 %:
a difference of 2 % takes windows of 30 s.)
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
ORDER = (False, True, True, False, True, False, False, True)
"""Of the trials: whether with traces."""


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
    trials = [(traced, await trial(on if traced else OFF, seconds)) for traced in ORDER]
    with_traces = [each for traced, each in trials if traced]
    without = [each for traced, each in trials if not traced]
    beside: dict[str, float] = {}
    for name, side in (("without", without), ("with", with_traces)):
        beside |= {
            f"{name}: ms a generation": joined(side).ms, f"{name}: generations": joined(side).generations,
            f"{name}: least ms of a trial": min(each.ms for each in side),
            f"{name}: most ms of a trial": max(each.ms for each in side),
        }  # fmt: skip
    return [Finding("traces/cpu", joined(with_traces).ms / joined(without).ms, beside)]


def joined(trials: Sequence[Trial]) -> Trial:
    return Trial(
        sum(each.generations for each in trials), sum(each.web_s for each in trials),
        sum(each.worker_s for each in trials),
    )  # fmt: skip


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
