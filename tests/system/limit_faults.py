"""Workers die and callers cancel while a caller has more generations than may run at once."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

from support.upstreams import NamedUpstream, named_upstreams
from system.chaos_stack import LEASE_S, ChaosStack
from system.load import Run
from system.wire_client import ask
from tailrace.process.tasks import cancel_and_wait

LIMIT = 6
WAITING = 30
"""Generations that are not ended: many more than may run."""

LONGEST_S = 3 * LEASE_S + 10
"""Until as many run as may, after the last fault: the lease of a run that nobody removed, and a sweep."""

LONG_S = 4 * LEASE_S
"""A run that is longer than the lease by which it counts."""

NOTICED_S = 0.3
"""Until the upstream has noticed that a call was closed. Meanwhile the next one may arrive there."""

FINAL = ("completed", "incomplete", "failed", "cancelled")


class Callers:
    """Keep the queue filled, and cancel generations at random, waiting and running ones."""

    def __init__(self, run: Run, stack: ChaosStack) -> None:
        self._run, self._stack = run, stack
        self.unfinished: dict[str, float] = {}
        self.aborts = 0
        self.ends: Counter[str] = Counter()
        self.stopping = False

    @property
    def _port(self) -> int:
        return self._run.rng.choice(self._stack.ports)

    async def create(self) -> None:
        while not self.stopping:
            if len(self.unfinished) >= WAITING:
                await asyncio.sleep(0.05)
                continue
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            status, answer = await ask(self._port, "POST", "/v1/generations", body, timeout=10)
            if status == 202:
                self.unfinished[answer["id"]] = time.monotonic()

    async def abort(self, count: int) -> None:
        """Cancel so many; one whose answer was lost is cancelled again."""
        for _ in range(count):
            while not self.unfinished:  # noqa: ASYNC110 - another task creates them
                await asyncio.sleep(0.05)
            generation_id = self._run.rng.choice(list(self.unfinished))
            status, _ = await ask(self._port, "POST", f"/v1/generations/{generation_id}/cancel", {}, timeout=10)
            self.aborts += status == 200

    async def watch(self) -> None:
        """Forget those that have ended."""
        while True:
            for generation_id in list(self.unfinished):
                await self._look(generation_id)
            await asyncio.sleep(0.2)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Create and watch during the block, and then until all have ended."""
        tasks = [asyncio.create_task(work) for work in (self.create(), self.create(), self.watch())]
        try:
            yield
            self.stopping = True
            await self._stack.until(lambda: not self.unfinished, 120, "not all have ended")
        finally:
            await cancel_and_wait(*tasks)

    async def _look(self, generation_id: str) -> None:
        status, answer = await ask(self._port, "GET", f"/v1/generations/{generation_id}?output=false", timeout=10)
        if status == 200 and answer["status"] in FINAL:
            self.ends[answer["status"]] += 1
            self.unfinished.pop(generation_id, None)


class Fleet(NamedTuple):
    """What the faults are injected into."""

    run: Run
    stack: ChaosStack
    upstream: NamedUpstream
    callers: Callers

    async def fault(self) -> None:
        """Kill a worker, while generations are cancelled that it may have run."""
        self.upstream.delay_s = self.run.rng.choice([0.02, 0.05, 0.1])
        worker = self.run.rng.choice(self.stack.workers)
        starts = worker.output.count("runs up to")
        aborting = asyncio.create_task(self.callers.abort(self.run.size["cancels at once"]))
        await self.stack.kill(worker)
        await aborting
        await self.stack.until(lambda: worker.output.count("runs up to") > starts, 30, "a worker does not start")
        self.run.runs += 1
        self.run.report(f"{self.run.runs} kills, {self.callers.aborts} cancels, {self.upstream.calls} calls")

    async def check(self) -> None:
        """As many run as may, soon; and no more, although these runs are longer than the lease by which they count."""
        self.upstream.delay_s = LONG_S / self.upstream.words
        began = time.monotonic()
        while self.upstream.in_use < LIMIT:
            if time.monotonic() - began > LONGEST_S:
                return self.run.wrong("stuck", self.run.name, f"{self.upstream.in_use} run, {LIMIT} may")
            await asyncio.sleep(0.01)
        self.run.samples.append(time.monotonic() - began)
        await asyncio.sleep(LONG_S)
        return None

    async def watch(self) -> None:
        """Find out whether more run than may, for longer than the upstream takes to notice a closed call."""
        since = time.monotonic()
        while True:
            if self.upstream.in_use <= LIMIT:
                since = time.monotonic()
            elif time.monotonic() - since > NOTICED_S:
                return self.run.wrong("above", self.run.name, f"{self.upstream.in_use} run, {LIMIT} may")
            await asyncio.sleep(0.02)


async def caller_limits(run: Run) -> None:
    """Workers are killed and generations cancelled while a caller has more than may run.

    More do for NOTICED_S at most, and never fewer.
    """
    upstream = NamedUpstream("limited", words=10, delay_s=0.1)
    async with (
        named_upstreams(upstream),
        run.stack(workers=0, frontends=2, max_running_per_caller=str(LIMIT), max_attempts="1000") as stack,
    ):
        stack.environment["OPENAI_BASE_URL"] = upstream.url
        for _ in range(run.size["workers"]):
            await stack.wait_until_working(await stack.add_worker(worker_operations_address=""))
        await run.take_baseline(stack)
        fleet = Fleet(run, stack, upstream, Callers(run, stack))
        watching = asyncio.create_task(fleet.watch())
        async with fleet.callers.at_work():
            for number in range(1, run.size["kills"] + 1):
                await fleet.fault()
                if number % run.size["kills until a check"] == 0:
                    await fleet.check()
            upstream.delay_s = 0.0
        await cancel_and_wait(watching)
        ends = ", ".join(f"{count} {status}" for status, count in sorted(fleet.callers.ends.items()))
        run.notes.append(
            f"{fleet.callers.aborts} cancels, {upstream.calls} calls, {upstream.most_in_use} at once at most; {ends}"
        )
