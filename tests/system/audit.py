"""After every scenario: no stray keys, connections, tasks or file descriptors; every process holds what it held before.

A process keeps each end that it wrote for CONFIRM_S, or until CONFIRM_S after the last reconnection or loss since
(`tailrace.lifecycle.confirmation`), and no longer than the retention. So a check that finds something is repeated, and
only a round that began SETTLE_S after the scenario is final. (All checks used to be one round; after 10,000 races it
took longer than SETTLE_S, and reported what had been there at its beginning.)
"""

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from support.stack import Frontend, Process
from system.chaos_stack import ChaosStack
from system.checker import Violation
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace_cli.embedded import EmbeddedServer

Check = Callable[[], Awaitable[list[Violation]]]

KEPT = re.compile(
    r"tailrace:(\{gen_[a-z2-7]{26}\}:(state|log|tombstone)|swept:\d+|suspected:\d+|\{\d+\}:(swept|suspected)"
    r"|\{webhooks\}:(swept|known:wh_[a-z2-7]{26}|creation:\w*:[0-9a-f]{64})"
    r"|owner:\w*:(generations|stored|stored_until|rate|owed|chat:[0-9a-f]{64}|use|reserved|reserved_until|settled|outputs)"
    r"|owner:\w*:running|readers"
    r"|idempotency:\w*:[0-9a-f]{64}|workers|models(?:_failure)?:[a-z2-7]{16}|queue:health-check"
    r"|\{stats\}:(\d+:\d+(:durations)?|process:[a-z2-7]{16}:flushed)|worker_status:[a-z2-7]{16}|generations"
    r"|\{audit\}(:acts)?|upstream_calls|upstream_report:[a-z2-7]{16}|upstream:\w+:(circuit|failures|slots|news))"
)
UNFINISHED = re.compile(r"tailrace:owner:\w*:unfinished")
NEVER_EXPIRES = frozenset(
    f"tailrace:{name}" for name in ("workers", "upstream_calls", "generations", "{audit}", "{audit}:acts")
)
PASSING = re.compile(r"Sweeper\._sweep_server")
"""A task of a sweep, which ends with it."""

MADE_LATE = ("appender Appender.run",)
"""Tasks that a process has for each primary, from its first append there."""

SETTLE_S = CONFIRM_S + 3.5
SPARE_FILES = 2


class Footprint(NamedTuple):
    """Of one process: clients connected to its port, open files other than sockets, asyncio tasks by name."""

    clients: int
    files: int
    tasks: Counter[str]


async def footprint(stack: ChaosStack, process: Process) -> Footprint:
    links = _open_files(process.pid)
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    port = process.port if isinstance(process, Frontend) else -1
    files = sum(not link.startswith("socket:[") for link in links)
    return Footprint(_connections(inodes, port), files, await _tasks(stack, process))


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


async def _tasks(stack: ChaosStack, process: Process) -> Counter[str]:
    listed = stack.root / f"{process.pid}.tasks"
    listed.unlink(missing_ok=True)
    os.kill(process.pid, signal.SIGUSR2)
    for _ in range(100):
        if listed.exists():
            return Counter(line for line in listed.read_text().splitlines() if not PASSING.search(line))
        await asyncio.sleep(0.02)
    return Counter({"does not answer": 1})


async def baseline(stack: ChaosStack) -> dict[str, Footprint]:
    """Of an idle frontend and of an idle worker."""
    return {_kind(process): await footprint(stack, process) for process in stack.processes}


def _kind(process: Process) -> str:
    return "frontend" if isinstance(process, Frontend) else "worker"


async def audit(
    stack: ChaosStack, before: dict[str, Footprint], tags: Sequence[str], vanished: Collection[str] = ()
) -> list[Violation]:
    """Everything that is not as before, once processes had time to settle. `tags`: of the calls to the upstream;
    `vanished`: the generations that a server lost and that were reported as gone. Those count for their owner until
    their deadline, because no process can find that they are over."""
    settled_at = time.monotonic() + SETTLE_S
    checks: list[Check] = [
        partial(_held, stack, before), partial(_left_in_redis, stack, vanished), partial(_left_upstream, stack, tags)
    ]  # fmt: skip
    return [violation for check in checks for violation in await _final(check, settled_at)]


async def _final(check: Check, settled_at: float) -> list[Violation]:
    """The result of the first round of this check that finds nothing, or that begins after `settled_at`."""
    while True:
        began = time.monotonic()
        found = await check()
        if not found or began > settled_at:
            return found
        await asyncio.sleep(0.3)


async def _held(stack: ChaosStack, before: dict[str, Footprint]) -> list[Violation]:
    found = []
    per_primary = Counter(dict.fromkeys(MADE_LATE, len(await stack.log_primaries())))
    for process in stack.processes:
        name, began, now = f"{_kind(process)} {process.pid}", before[_kind(process)], await footprint(stack, process)
        more = now.tasks - began.tasks - per_primary
        if now.clients:
            found.append(Violation("stray connections", name, f"{now.clients} clients"))
        if now.files > began.files + SPARE_FILES:
            found.append(Violation("stray files", name, f"{began.files} became {now.files}"))
        if more:
            found.append(Violation("stray tasks", name, str(dict(more))))
    return found


async def _left_in_redis(stack: ChaosStack, vanished: Collection[str]) -> list[Violation]:
    servers = dict.fromkeys([*await stack.log_primaries(), stack.queue])
    return [each for server in servers for each in await _left_on(stack, server, vanished)][:5]


async def _left_on(stack: ChaosStack, server: EmbeddedServer, vanished: Collection[str]) -> list[Violation]:
    found = []
    async with stack.client(server) as redis:
        names = [name.decode() async for name in redis.scan_iter(count=1000)]
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.pttl(name)
        lives = await pipe.execute() if names else []
        for name, life in zip(names, lives, strict=True):
            if UNFINISHED.fullmatch(name):
                counted = [each.decode() for each in await redis.zrange(name, 0, -1)]
                stray = sorted(set(counted) - set(vanished))
                found += [Violation("stray key", "redis", f"{name} counts {each}") for each in stray]
            elif not KEPT.fullmatch(name):
                found.append(Violation("stray key", "redis", name))
            elif life == -1 and name not in NEVER_EXPIRES:
                found.append(Violation("stray key", "redis", f"{name} never expires"))
        channels = await redis.execute_command("PUBSUB", "SHARDCHANNELS", "tailrace:{gen_*")
        found += [Violation("stray channel", "redis", channel.decode()) for channel in channels]
        blocked = (await redis.info("clients"))["blocked_clients"]
        if blocked:
            found.append(Violation("stray connections", "redis", f"{blocked} blocked"))
    return found


async def _left_upstream(stack: ChaosStack, tags: Sequence[str]) -> list[Violation]:
    calls = [(tag, (await stack.calls(tag))["open"]) for tag in tags]
    return [Violation("stray call", "upstream", f"{tag}: {open_} still open") for tag, open_ in calls if open_][:5]
