"""After every scenario: no stray keys, connections, tasks or file descriptors; everything back where it began."""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support.stack import Frontend, Process
from system.checker import Violation
from system.fleet import Fleet

KEPT = re.compile(
    r"tailrace:(\{gen_[a-z2-7]{26}\}:(state|log|tombstone)|swept:\d+|owner:\w*:generations|idempotency:\w*:[0-9a-f]{64}"
    r"|workers|queue:health-check)"
)
FOR_EVER = frozenset({"tailrace:workers"})
SETTLE_S = 6.0
SPARE_FILES = 2


class Footprint(NamedTuple):
    """What a process holds: clients on its own port, other files than sockets, its asyncio tasks."""

    clients: int
    files: int
    tasks: Counter[str]


async def footprint(fleet: Fleet, process: Process) -> Footprint:
    links = _open_files(process.pid)
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    port = process.port if isinstance(process, Frontend) else -1
    files = sum(not link.startswith("socket:[") for link in links)
    return Footprint(_connections(inodes, port), files, await _tasks(fleet, process))


def _open_files(pid: int) -> list[str]:
    return [_target(each) for each in Path(f"/proc/{pid}/fd").iterdir()]


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return "socket:[0]"


def _connections(inodes: set[str], port: int) -> int:
    """Established connections to the port among these sockets."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[9] in inodes and int(row[1].split(":")[1], 16) == port and row[3] != "0A" for row in rows)


async def _tasks(fleet: Fleet, process: Process) -> Counter[str]:
    told = fleet.root / f"{process.pid}.tasks"
    told.unlink(missing_ok=True)
    os.kill(process.pid, signal.SIGUSR2)
    for _ in range(100):
        if told.exists():
            return Counter(told.read_text().splitlines())
        await asyncio.sleep(0.02)
    return Counter({"does not answer": 1})


async def baseline(fleet: Fleet) -> dict[str, Footprint]:
    """Of a frontend and of a worker that have nothing to do."""
    return {_kind(process): await footprint(fleet, process) for process in fleet.processes}


def _kind(process: Process) -> str:
    return "frontend" if isinstance(process, Frontend) else "worker"


async def audit(fleet: Fleet, before: dict[str, Footprint], tags: Sequence[str]) -> list[Violation]:
    """What is still not as it was once things had time to settle. `tags`: of the calls that the upstream had."""
    deadline = time.monotonic() + SETTLE_S
    while found := [
        *await _held(fleet, before), *await _left_in_redis(fleet), *await _left_upstream(fleet, tags)
    ]:  # fmt: skip
        if time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.3)
    return []


async def _held(fleet: Fleet, before: dict[str, Footprint]) -> list[Violation]:
    found = []
    for process in fleet.processes:
        name, began, now = f"{_kind(process)} {process.pid}", before[_kind(process)], await footprint(fleet, process)
        more = now.tasks - began.tasks
        if now.clients:
            found.append(Violation("stray connections", name, f"{now.clients} clients"))
        if now.files > began.files + SPARE_FILES:
            found.append(Violation("stray files", name, f"{began.files} became {now.files}"))
        if more:
            found.append(Violation("stray tasks", name, str(dict(more))))
    return found


async def _left_in_redis(fleet: Fleet) -> list[Violation]:
    found = []
    async with fleet.client() as redis:
        names = [name.decode() async for name in redis.scan_iter(count=1000)]
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.pttl(name)
        lives = await pipe.execute() if names else []
        for name, life in zip(names, lives, strict=True):
            if not KEPT.fullmatch(name):
                found.append(Violation("stray key", "redis", name))
            elif life == -1 and name not in FOR_EVER:
                found.append(Violation("stray key", "redis", f"{name} lives for ever"))
        channels = await redis.execute_command("PUBSUB", "SHARDCHANNELS", "tailrace:{gen_*")
        found += [Violation("stray channel", "redis", channel.decode()) for channel in channels]
        blocked = (await redis.info("clients"))["blocked_clients"]
        if blocked:
            found.append(Violation("stray connections", "redis", f"{blocked} blocked"))
    return found[:5]


async def _left_upstream(fleet: Fleet, tags: Sequence[str]) -> list[Violation]:
    calls = [(tag, (await fleet.calls(tag))["open"]) for tag in tags]
    return [Violation("stray call", "upstream", f"{tag}: {open_} still open") for tag, open_ in calls if open_][:5]
