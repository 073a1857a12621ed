"""The product itself under the loads that `simulation.live_path` models: real processes, on this machine.

A process appends as a worker does; another has the clients, spread evenly over the frontends. Measured in one window:
CPU of each role from /proc, what was delivered, and the time from the making of a token to its read by a client. Beside
it, while no load runs, a probe: by how much a process that sleeps for a millisecond wakes up late.
"""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import procfs
from bench.children import Load, load
from bench.delivery import SETTLE_S, TAILRACE
from bench.harness import get, product, usage
from bench.quantiles import Latency
from simulation.path_load import PathShape
from support.stack import Stack

ROLES = ("frontend", "redis", "append", "readers")
LIMITS = {"max_readers": "20000", "max_readers_per_caller": "20000", "drain_s": "0", "drain_accept_s": "0"}
PROBE_S = 1.0
IDLE_S = 1.5
CALM_S = 0.5


class Trial(NamedTuple):
    """One trial. CPU is in cores (seconds a second); `idle`: the same before the first token. `others`: cores that
    other processes used; `delays`: of wake-ups, seconds; `connect_us`: CPU of a connection, by role."""

    shape: PathShape
    seconds: float
    cores: Mapping[str, float]
    idle: Mapping[str, float]
    delivered: int
    appended: int
    pipelines: int
    latency: Latency
    others: float
    delays: Sequence[float]
    connect_us: Mapping[str, float]

    def us(self, role: str) -> float:
        """µs of CPU a delivery."""
        return 1e6 * self.cores[role] * self.seconds / max(1, self.delivered)


async def measure(shape: PathShape, seconds: float) -> Trial:
    """One trial on a stack of its own."""
    delays = await asyncio.to_thread(wake_up_delays, PROBE_S)
    async with product(**LIMITS) as stack, load("bench.reading") as readers:
        await asyncio.gather(*(stack.add_frontend() for _ in range(shape.frontends)))
        async with load("bench.appending", "worker", stack.redis.url) as append:
            pids = {f"frontend{number}": each.pid for number, each in enumerate(stack.frontends)}
            pids |= {"redis": stack.redis.pid, "append": append.pid, "readers": readers.pid}
            names = await append.do("create", logs=shape.logs, owner="open")
            connect_us = await connect(stack, readers, names, shape, pids)
            await asyncio.sleep(CALM_S)
            idle = await usage(IDLE_S, pids)
            await append.do("start", rate=shape.rate)
            await asyncio.sleep(SETTLE_S)
            return await window(shape, seconds, pids, append, readers, by_role(idle.cpu_s), delays, connect_us)


async def connect(
    stack: Stack, readers: Load, names: Sequence[str], shape: PathShape, pids: Mapping[str, int]
) -> Mapping[str, float]:
    """Open the clients' connections; µs of CPU for one, of each role."""
    requests: list[list[str]] = [[] for _ in stack.frontends]
    for number, name in enumerate(name for name in names for _ in range(shape.readers)):
        requests[number % shape.frontends].append(get(TAILRACE.path_of(name)))
    before = {name: procfs.cpu_s(pid) for name, pid in pids.items()}
    for frontend, each in zip(stack.frontends, requests, strict=True):
        await readers.do("follow", port=frontend.port, requests=each)
    used = by_role({name: procfs.cpu_s(pid) - before[name] for name, pid in pids.items()})
    return {role: 1e6 * spent / (shape.logs * shape.readers) for role, spent in used.items()}


async def window(
    shape: PathShape, seconds: float, pids: Mapping[str, int], append: Load, readers: Load,
    idle: Mapping[str, float], delays: Sequence[float], connect_us: Mapping[str, float],
) -> Trial:  # fmt: skip
    await append.do("begin")
    await readers.do("begin")
    busy_before = machine_busy_s()
    used = await usage(seconds, pids)
    busy_s = machine_busy_s() - busy_before
    received, added = await asyncio.gather(readers.do("report"), append.do("report"))
    delays = [*delays, *await asyncio.to_thread(wake_up_delays, PROBE_S)]
    cores = {role: spent / used.seconds for role, spent in by_role(used.cpu_s).items()}
    others = max(0.0, busy_s / used.seconds - sum(cores.values()))
    latency = Latency(**received["latency"])
    return Trial(
        shape, used.seconds, cores, {role: spent / IDLE_S for role, spent in idle.items()}, latency.samples,
        added["appended"], added["round_trips"], latency, others, delays, connect_us,
    )  # fmt: skip


def by_role(spent: Mapping[str, float]) -> dict[str, float]:
    """Sums over the processes of a role, whose names are the role and a number."""
    return {role: sum(each for name, each in spent.items() if name.startswith(role)) for role in ROLES}


def machine_busy_s() -> float:
    """Seconds of CPU that all processes of this machine have used, with what the host took from it."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + sum(rest[:3])) / procfs.TICKS


def wake_up_delays(seconds: float) -> list[float]:
    """By how much sleeps of 1 ms were late, beyond the median, which is the timer's own."""
    late: list[float] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        before = time.monotonic()
        time.sleep(0.001)
        late.append(time.monotonic() - before - 0.001)
    median = statistics.median(late)
    return [max(0.0, each - median) for each in late]
