"""Workers die, callers cancel and clients leave while a caller has more generations than may run at once."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from signal import SIGSTOP
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.types import Receive, Send

from support.stack import Process
from support.upstreams import NamedUpstream, named_upstreams
from system.chaos_stack import ChaosStack
from system.load import Run
from system.wire_client import CUT, ask, open_exchange
from tailrace.process.tasks import cancel_and_wait

LIMIT = 6
WAITING = 30
"""Generations that are not ended: many more than may run."""

LEASE_S = 3.0
"""Longer than the start of a worker: those that begin after a loss find the leases of the dead ones."""

LONGEST_S = 3 * LEASE_S + 10
"""Until as many run as may, after the last fault: the lease of a run that was not removed, and a sweep."""

LONG_S = 4 * LEASE_S
"""A run that is longer than the lease by which it counts."""

SUSPENDED_S = 0.5
"""For so long a worker is suspended after the cancels: for less than its lease, so that its runs count."""

ESTABLISHED = "01"
"""Of Linux' /proc/net/tcp: neither side has closed."""

FINAL = ("completed", "incomplete", "failed", "cancelled")


class LimitedUpstream(NamedUpstream):
    """Reports each call that arrives while LIMIT others run.

    A call whose client has closed the connection, or was killed, does not run any more: the kernel knows that at once,
    the upstream's event loop later.
    """

    def __init__(self, run: Run) -> None:
        super().__init__("limited", words=10, delay_s=0.1)
        self._run = run
        self.most_running = 0

    async def _answer(self, client: int, receive: Receive, send: Send) -> None:
        if self.in_use >= self.most_running:
            running = {client, *self.clients.values()} & connected_clients(self.url)
            self.most_running = max(self.most_running, len(running))
            if len(running) > LIMIT:
                self._run.wrong("above", self._run.name, f"{len(running)} run, {LIMIT} may")
        await super()._answer(client, receive, send)


def connected_clients(url: str) -> set[int]:
    """The ports of those whose connections to this server are open on both sides."""
    server = urlsplit(url).port
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(client.partition(":")[2], 16)
        for _, local, client, state, *_ in rows
        if state == ESTABLISHED and int(local.partition(":")[2], 16) == server
    }


class Callers:
    """Keep the queue filled, and cancel generations at random, waiting and running ones."""

    def __init__(self, run: Run, stack: ChaosStack) -> None:
        self._run, self._stack = run, stack
        self.unfinished: dict[str, None] = {}
        self.cancels = self.departures = 0
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
            await self._create_one()

    async def _create_one(self, **fields: str) -> str:
        """Its id; empty where the answer was lost."""
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
        status, answer = await ask(self._port, "POST", "/v1/generations", body, timeout=10)
        if status != 202:
            return ""
        self.unfinished[answer["id"]] = None
        return str(answer["id"])

    async def cancel(self, count: int) -> None:
        """Cancel so many; one whose answer was lost is cancelled again."""
        for _ in range(count):
            while not self.unfinished:  # noqa: ASYNC110 - another task creates them
                await asyncio.sleep(0.05)
            await self._cancel_one(self._run.rng.choice(list(self.unfinished)))

    async def cancel_running(self) -> None:
        """Cancel all that run."""
        for generation_id in list(self.unfinished):
            if await self._status_of(generation_id) == "running":
                await self._cancel_one(generation_id)

    async def _cancel_one(self, generation_id: str) -> None:
        status, _ = await ask(self._port, "POST", f"/v1/generations/{generation_id}/cancel", {}, timeout=10)
        self.cancels += status == 200

    async def _status_of(self, generation_id: str) -> str:
        """Empty where the answer was lost."""
        status, answer = await ask(self._port, "GET", f"/v1/generations/{generation_id}?output=false", timeout=10)
        return str(answer["status"]) if status == 200 else ""

    async def leave(self, count: int) -> None:
        """Create so many that are cancelled without a reader, read each for a moment, and close its connection."""
        await asyncio.gather(*(self._leave_one() for _ in range(count)))

    async def _leave_one(self) -> None:
        if generation_id := await self._create_one(on_disconnect="cancel"):
            with contextlib.suppress(*CUT):
                reading = await open_exchange(self._port, "GET", f"/v1/generations/{generation_id}/events", {})
                await asyncio.sleep(self._run.rng.random())
                reading.close()
                self.departures += 1

    async def watch(self) -> None:
        """Forget those that have ended."""
        while True:
            for generation_id in list(self.unfinished):
                await self._look(generation_id)
            await asyncio.sleep(0.2)

    @contextlib.asynccontextmanager
    async def waiting_alone(self) -> AsyncIterator[None]:
        """Create as many as wait, and do nothing else during the block; then wait until all have ended."""
        for _ in range(WAITING):
            await self._create_one()
        yield
        watching = asyncio.create_task(self.watch())
        await self._stack.until(lambda: not self.unfinished, 120, "not all have ended")
        await cancel_and_wait(watching)

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
        if (status := await self._status_of(generation_id)) in FINAL:
            self.ends[status] += 1
            self.unfinished.pop(generation_id, None)


class Fleet(NamedTuple):
    """What the faults are injected into."""

    run: Run
    stack: ChaosStack
    upstream: LimitedUpstream
    callers: Callers

    async def fault(self) -> None:
        """Kill a worker, while generations are cancelled that it may have run."""
        self.upstream.delay_s = self.run.rng.choice([0.02, 0.05, 0.1])
        worker = self.run.rng.choice(self.stack.workers)
        await asyncio.gather(
            self._kill([worker]),
            self.callers.cancel(self.run.size["aborts at once"]),
            self.callers.leave(self.run.size["aborts at once"]),
        )

    async def lose_all(self) -> None:
        """Kill every worker while no client does anything: as many runs are lost as may run, and neither an end nor a
        creation moves another one back."""
        self.upstream.delay_s = LONG_S / self.upstream.words
        async with self.callers.waiting_alone():
            await self.stack.until(lambda: self.upstream.in_use == LIMIT, LONGEST_S, "not as many run as may")
            await self._kill(self.stack.workers)
            await self.check()
            self.upstream.delay_s = 0.0

    async def suspend_one(self) -> None:
        """Cancel all that run while a worker is suspended, then kill it: its calls are open until then, and count."""
        self.upstream.delay_s = LONG_S / self.upstream.words
        async with self.callers.waiting_alone():
            await self.stack.until(lambda: self.upstream.in_use == LIMIT, LONGEST_S, "not as many run as may")
            worker = self.run.rng.choice(self.stack.workers)
            worker.send(SIGSTOP)
            await self.callers.cancel_running()
            await asyncio.sleep(SUSPENDED_S)
            self.upstream.delay_s = 0.0
            await self._kill([worker])

    async def _kill(self, workers: Sequence[Process]) -> None:
        starts = [worker.output.count("runs up to") for worker in workers]
        await asyncio.gather(*(self.stack.kill(worker) for worker in workers))
        for worker, before in zip(workers, starts, strict=True):
            await self.stack.wait_until_working(worker, before + 1)
        self.run.runs += len(workers)
        self.run.report(
            f"{self.run.runs} kills, {self.callers.cancels} cancels, {self.callers.departures} departures, "
            f"{self.upstream.calls} calls"
        )

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


async def caller_limits(run: Run) -> None:
    """Workers are killed, generations cancelled and clients leave, while a caller has more than may run.

    Never do more, and never fewer for long.
    """
    upstream = LimitedUpstream(run)
    async with (
        named_upstreams(upstream),
        run.stack(
            workers=0,
            frontends=2,
            lease_s=str(LEASE_S),
            disconnect_grace_s="6",
            max_running_per_caller=str(LIMIT),
            max_attempts="1000",
        ) as stack,
    ):
        stack.environment["OPENAI_BASE_URL"] = upstream.url
        for _ in range(run.size["workers"]):
            await stack.wait_until_working(await stack.add_worker(worker_operations_address=""))
        await run.take_baseline(stack)
        fleet = Fleet(run, stack, upstream, Callers(run, stack))
        async with fleet.callers.at_work():
            for number in range(1, run.size["kills"] + 1):
                await fleet.fault()
                if number % run.size["kills until a check"] == 0:
                    await fleet.check()
            upstream.delay_s = 0.0
        for _ in range(run.size["losses"]):
            await fleet.lose_all()
            await fleet.suspend_one()
        callers = fleet.callers
        ends = ", ".join(f"{count} {status}" for status, count in sorted(callers.ends.items()))
        run.notes.append(
            f"{callers.cancels} cancels, {callers.departures} departures, {upstream.calls} calls, "
            f"{upstream.most_running} at once at most; {ends}"
        )
