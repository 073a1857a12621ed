"""Faults, and the alert that each is meant to fire: `scripts/chaos --alerts [--fault NAME …]`.

For each fault a product of its own runs as processes, and a real Prometheus scrapes all of them and evaluates the rules
of `services/deploy/monitoring/rules.yml`. Before the fault no alert may fire; afterwards the alert that is meant must,
and others may only be those that the fault entails. Only how long a condition must last (`for`) is left out of the
rules; their expressions and windows are those of the file.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from support.prometheus import MISSING, Prometheus, is_installed, prometheus
from support.stack import stack
from support.upstreams import write_config
from system.alert_faults import FAULTS, SHORT, Fault, Play

WAIT_S = 90.0
QUIET_S = 3.0


class Verdict(NamedTuple):
    """What fired before the fault, whether the alert that is meant fired and after how long, and what else fired."""

    name: str
    before: set[str]
    took_s: float | None
    unmeant: set[str]

    @property
    def holds(self) -> bool:
        return not self.before and self.took_s is not None and not self.unmeant

    def __str__(self) -> str:
        fault = FAULTS[self.name]
        found = f"fires after {self.took_s:.1f} s" if self.took_s is not None else "DOES NOT FIRE"
        more = [f"before: {sorted(self.before)}"] if self.before else []
        more += [f"also: {sorted(self.unmeant)}"] if self.unmeant else []
        return f"{self.name:24} {fault.alert:26} {found}  {'  '.join(more)}"


@contextlib.asynccontextmanager
async def playing(fault: Fault) -> AsyncIterator[tuple[Play, Prometheus]]:
    """A product, and a Prometheus that scrapes all of it."""
    with tempfile.TemporaryDirectory(prefix="tailrace-alerts-", ignore_cleanup_errors=True) as folder:
        root, settings = Path(folder), {"lease_s": "1.5", **fault.settings}
        if fault.config:
            table = '[[upstreams]]\nname = "one"\nbase_url = "http://127.0.0.1:1/v1"\n'
            settings["config"] = str(write_config(root / "tailrace.toml", table))
        async with (
            aiohttp.ClientSession() as http,
            stack(workers=fault.workers, frontends=fault.frontends, **settings) as running,  # type: ignore[arg-type]
        ):
            play = Play(running, http, root)
            for worker in running.workers:
                await worker.wait_for_log("runs up to")
            jobs: dict[str, Sequence[int]] = {
                "tailrace-frontend": [each.port for each in running.frontends],
                "tailrace-worker": [each.operations_port for each in running.workers],
            }
            async with prometheus(root, jobs) as server:
                try:
                    yield play, server
                finally:
                    for each in play.opened:
                        each.close()
                    for process in (*running.workers, *running.frontends):
                        with contextlib.suppress(ProcessLookupError):
                            process.send(signal.SIGCONT)


async def judge(name: str) -> Verdict:
    """Play one fault."""
    fault = FAULTS[name]
    async with playing(fault) as (play, server):
        if not fault.config:
            await play.api.wait_for_result(await play.api.create_scripted(*SHORT))
        await asyncio.sleep(QUIET_S)
        before = await server.firing()
        began = time.monotonic()
        await fault.play(play)
        fired: set[str] = set()
        while fault.alert not in fired and time.monotonic() - began < WAIT_S:
            await asyncio.sleep(0.25)
            fired |= await server.firing()
        took_s = time.monotonic() - began if fault.alert in fired else None
        return Verdict(name, before, took_s, fired - fault.entails - {fault.alert})


async def main(names: Sequence[str]) -> int:
    """Play these faults, or all of them; the exit status is 1 where one fires another alert than the one meant."""
    if not is_installed():
        print(MISSING)
        return 2
    failed = 0
    for name in names or FAULTS:
        verdict = await judge(name)
        failed += not verdict.holds
        print(verdict, flush=True)
    print(f"{len(names or FAULTS)} faults, {failed} without the alert that is meant alone")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
