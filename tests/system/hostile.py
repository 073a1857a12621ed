"""Hostile clients: no reader waits, the frontend's memory stays, and each attack ends as documented.

    scripts/hostile [--attack NAME …] [--size short|full]

One frontend serves readers of running generations; attackers and readers are processes of their own. An attack fails

- if it has an end that is not in `ATTACKS`;
- if a token reaches a reader more than `DELAY_MS` after the upstream has sent it, or a reader is cut;
- if the frontend's resident memory peaks more than `MEMORY_MB` above what it was before the first attack;
- if a place for readers stays taken (a stray).
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from bench.children import Load, load
from support.metrics import sums
from system.chaos import allow_many_sockets
from system.chaos_stack import ChaosStack, chaos_stack
from system.checker import Plan
from system.hostile_attacks import ATTACKS
from system.scenarios import Size
from system.wire_client import ask

DELAY_MS = 250.0
MEMORY_MB = 64.0
READERS = {"short": 20, "full": 200}
GENERATIONS = 10
TOKENS_S = 10.0
SETTLE_S = 2.0
SETTINGS = {"client_write_timeout_s": "10", "max_connections": "2000", "max_jobs": "100"}


class Verdict(NamedTuple):
    """What an attack has done: the ends that its connections saw, and the harm to others."""

    name: str
    ends: dict[str, int]
    tokens: int
    oldest_ms: float
    cut: int
    grown_mb: float
    strays: int

    @property
    def undocumented(self) -> set[str]:
        return set(self.ends) - ATTACKS[self.name].ends

    @property
    def holds(self) -> bool:
        is_calm = self.oldest_ms <= DELAY_MS and self.cut == 0 and self.tokens > 0
        return is_calm and self.grown_mb <= MEMORY_MB and self.strays == 0 and not self.undocumented

    def row(self) -> str:
        ends = ", ".join(f"{count} × {end}" for end, count in sorted(self.ends.items()))
        figures = f"{self.tokens:7} {self.oldest_ms:9.0f} {self.cut:5} {self.grown_mb:9.1f} {self.strays:6}"
        return f"{self.name:28} {figures}  {'' if self.holds else 'FAILS '}{ends}"


HEAD = f"{'attack':28} {'tokens':>7} {'oldest ms':>9} {'cut':>5} {'grown MB':>9} {'strays':>6}  ends"


class Scene:
    """A frontend with its readers."""

    def __init__(self, stack: ChaosStack, readers: Load, attacker: Load) -> None:
        self.stack = stack
        self.readers = readers
        self.attacker = attacker
        self.target: list[object] = []

        self._readers = 0
        self._before_mb = 0.0

    async def set_up(self, readers: int) -> None:
        port, self._readers = self.stack.ports[0], readers
        plans = [Plan(f"g{number}", 10**6, TOKENS_S) for number in range(GENERATIONS)]
        running = [await self._create(plan) for plan in plans]
        large = await self._create(Plan("large", 1500, padding=4000))
        status, _ = await ask(port, "GET", f"/v1/generations/{large}?wait=30")
        assert status == 200
        self.target = [port, large, running[0]]
        await self.readers.do("follow", port=port, generation_ids=running, count=readers)
        await asyncio.sleep(SETTLE_S)
        pid = self.stack.frontends[0].pid
        _reset_peak(pid)
        self._before_mb = _peak_mb(pid)

    async def _create(self, plan: Plan) -> str:
        status, answer = await ask(self.stack.ports[0], "POST", "/v1/generations", plan.body())
        assert status == 202, answer
        return str(answer["id"])

    async def play(self, name: str, count: int) -> Verdict:
        await self.readers.do("begin")
        pid = self.stack.frontends[0].pid
        _reset_peak(pid)
        ends = (await self.attack({name: count}))[name]
        await asyncio.sleep(0.5)
        report = await self.readers.do("report")
        grown_mb = _peak_mb(pid) - self._before_mb
        return Verdict(name, ends, grown_mb=grown_mb, strays=await self.count_strays(), **report)

    async def attack(self, counts: dict[str, int]) -> dict[str, dict[str, int]]:
        """So many connections of each attack, all at once; by attack, how many of them ended how."""
        ends: dict[str, dict[str, int]] = await self.attacker.do("attack", counts=counts, target=self.target)
        return ends

    async def count_strays(self) -> int:
        """Places that are taken by others than the readers."""
        _, text = await ask(self.stack.ports[0], "GET", "/metrics")
        return int(sums(text.decode())["tailrace_readers"]) - self._readers


def _reset_peak(pid: int) -> None:
    """Measure the peak of resident memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_mb(pid: int) -> float:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) / 1024


@contextlib.asynccontextmanager
async def scene(size: Size) -> AsyncIterator[Scene]:
    """A product with one frontend that is being read from."""
    async with (
        chaos_stack([], workers=1, frontends=1, config={}, two_servers=False, topology="server", **SETTINGS) as stack,
        load("system.hostile_readers") as readers,
        load("system.hostile_attacks") as attacker,
    ):
        found = Scene(stack, readers, attacker)
        await found.set_up(READERS[size])
        yield found
        assert not stack.tracebacks(), stack.tracebacks()[0]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), metavar="NAME", help="may be repeated")
    parser.add_argument("--size", choices=("short", "full"), default="full")
    options = parser.parse_args()
    allow_many_sockets()
    failed = 0
    async with scene(options.size) as found:
        print(f"{READERS[options.size]} readers, {os.cpu_count()} cores\n{HEAD}\n{'-' * len(HEAD)}", flush=True)
        for name in options.attack or ATTACKS:
            verdict = await found.play(name, getattr(ATTACKS[name], options.size))
            failed += not verdict.holds
            print(verdict.row(), flush=True)
    print(f"load {os.getloadavg()[0]:.1f}, {failed} of {len(options.attack or ATTACKS)} attacks succeeded")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
