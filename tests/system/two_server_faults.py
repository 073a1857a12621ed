"""The log and the queue on different servers: each of them loses its data, goes back, or fails over, alone."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Literal

from redis.asyncio import Redis

from support.api import eventually
from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import waits
from system.injectors import Link, Snapshot, delete_data, link
from system.load import Load, Run
from system.redis_faults import ACCEPTED_S, Window, have_begun, judge_vanished
from system.wire_client import ask
from tailrace.process.tasks import cancel_and_wait
from tailrace_cli.embedded import EmbeddedServer


async def queue_flushed(run: Run) -> None:
    """The queue is flushed while half of the generations wait in it, and the worker of the other half is dead."""
    async with run.stack(workers=1, frontends=1, two_servers=True) as stack:
        load = run.load(stack)
        for turn in range(run.size["rounds"]):
            playing = [asyncio.create_task(load.play(run.plan(40, 20.0))) for _ in range(run.size["generations"] // 2)]
            begun = turn * run.size["generations"] + len(playing)
            await stack.until(partial(have_begun, load, begun, "text"), 20, "they have no text")
            stack.workers[0].send(signal.SIGKILL)
            await stack.workers[0].wait()
            playing += [asyncio.create_task(load.play(run.plan(10, 20.0))) for _ in playing]
            await stack.until(partial(have_begun, load, begun + len(playing) // 2, "created"), 20, "not accepted")
            async with stack.client(stack.queue) as redis:
                await redis.flushall()
            stack.fault()
            await stack.workers[0].start()
            await asyncio.gather(*playing)
            run.runs += len(playing)
            run.report(f"{turn + 1} rounds")
        await load.reread()
        run.samples = waits(load.readers, stack.faults)


async def queue_emptied(run: Run) -> None:
    """The queue's server is killed and restarts without data, under load, and every second time a worker dies too."""
    async with run.stack(workers=2, frontends=2, two_servers=True) as stack:
        load = run.load(stack)

        async def empty() -> None:
            for done in range(run.size["kills"]):
                await asyncio.sleep(run.rng.uniform(0.5, 2))
                stack.fault()
                stack.queue.kill()
                delete_data([stack.queue])
                if done % 2:
                    await stack.kill(run.rng.choice(stack.workers))
                await asyncio.sleep(run.rng.uniform(0.1, 1.0))
                stack.queue.start()
                run.report(f"{done + 1} kills, {len(load.cases)} generations")

        await _play_during(run, load, asyncio.create_task(empty()))
        run.runs = run.size["kills"]
        run.samples = waits(load.readers, stack.faults)


async def log_rolled_back(run: Run) -> None:
    """The log's server goes back alone to before the ends, and the workers that wrote these die with it."""
    async with run.stack(workers=1, frontends=1, two_servers=True) as stack:
        load = run.load(stack)
        for turn in range(run.size["rounds"]):
            count = run.size["generations"]
            cases = await asyncio.gather(*(load.create(run.plan(20, 20.0)) for _ in range(count)))
            await asyncio.sleep(0.5)
            snapshot = Snapshot(stack.log_servers)
            for case in cases:
                await eventually(partial(_has_ended, stack, case.generation_id), 20)
            stack.fault()
            stack.workers[0].send(signal.SIGKILL)
            stack.log.kill()
            snapshot.roll_back()
            stack.log.start()
            restarted = time.monotonic()
            await stack.workers[0].wait()
            await stack.workers[0].start()
            readers = [load.reader(case, "stays") for case in cases]
            await asyncio.gather(*(reader.read(40) for reader in readers))
            run.samples += [reader.received[-1].at - restarted for reader in readers if reader.done]
            run.runs += count
            run.report(f"{turn + 1} rounds")
        await load.reread()


async def _has_ended(stack: ChaosStack, generation_id: str) -> bool:
    status, answer = await ask(stack.ports[0], "GET", f"/v1/generations/{generation_id}")
    return status == 200 and answer["status"] == "completed"


async def _play_during(run: Run, load: Load, faults: "asyncio.Task[None]") -> None:
    plans = run.plans(40, 20.0, may_vanish=True)
    try:
        await load.play_until(plans, run.size["generations"], lambda: not faults.done(), run.size["at once"])
        await faults
    finally:
        await cancel_and_wait(faults)
    await load.reread()


# Failover


class Pair:
    """A primary and its replica, behind links that can be cut: the product connects to `front`, the replica to
    `between`."""

    def __init__(self, replica: EmbeddedServer, front: Link, between: Link) -> None:
        self.primary = self.replica = replica
        self.front, self.between = front, between

    async def begin(self, primary: EmbeddedServer) -> None:
        """Have the replica follow this server."""
        self.primary, self.front.target = primary, primary.port
        await self.follow()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.front.port}/0"

    async def follow(self) -> None:
        """Have the replica follow the primary, and wait until it does."""
        self.between.target, self.between.black_hole = self.primary.port, False
        self.between.cut()
        async with Redis(port=self.replica.port) as replica:
            await replica.execute_command("REPLICAOF", "127.0.0.1", self.between.port)
            await eventually(partial(_is_synced, replica), 20)

    async def fail_over(self, lag_s: float) -> None:
        """Promote a replica that has received nothing for this long. The old primary is cut off."""
        self.between.black_hole = True
        await asyncio.sleep(lag_s)
        async with Redis(port=self.replica.port) as replica:
            await replica.execute_command("REPLICAOF", "NO", "ONE")
        self.primary, self.replica = self.replica, self.primary
        self.front.target = self.primary.port
        self.front.cut()


async def _is_synced(replica: Redis) -> bool:
    return bool((await replica.info("replication")).get("master_link_status") == "up")


@contextlib.asynccontextmanager
async def _pair(run: Run) -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="tailrace-chaos-", ignore_cleanup_errors=True) as folder:
        replica = EmbeddedServer(Path(folder), port=None, **AT_ONCE)
        replica.start()
        try:
            async with link(replica.port, run.rng) as front, link(replica.port, run.rng) as between:
                yield Pair(replica, front, between)
        finally:
            replica.kill()


AT_ONCE = {"repl-diskless-sync-delay": "0"}


async def queue_failover(run: Run) -> None:
    """The queue's server fails over to a replica that lags, under load."""
    async with _failing_over(run, "queue") as (load, _):
        for case in load.cases:
            for reader in case.readers:
                run.check(not reader.vanished, "vanished", reader.excerpt())


async def log_failover(run: Run) -> None:
    """The log's server fails over to a replica that lags, under load: what runs is restored, and nothing else lost."""
    async with _failing_over(run, "log") as (load, windows):
        judge_vanished(run, load, windows)


@contextlib.asynccontextmanager
async def _failing_over(run: Run, which: Literal["log", "queue"]) -> AsyncIterator[tuple[Load, list[Window]]]:
    """A product whose server of this name has failed over several times, and when accepted generations may be lost."""
    async with (
        _pair(run) as pair, run.stack(workers=0, frontends=0, two_servers=True, config=AT_ONCE) as stack
    ):  # fmt: skip
        server = stack.log if which == "log" else stack.queue
        assert isinstance(server, EmbeddedServer), "a cluster fails over by itself"
        await pair.begin(server)
        url = {"redis_url" if which == "log" else "queue_url": pair.url}
        for _ in range(2):
            await stack.add_frontend(**url)
            await stack.wait_until_working(await stack.add_worker(**url))
        await run.take_baseline(stack)
        load, windows = run.load(stack), list[Window]()

        async def fail_over() -> None:
            for done in range(run.size["failovers"]):
                await asyncio.sleep(LEASE_S + run.rng.uniform(0.5, 2))
                began, lag_s = time.monotonic(), run.rng.uniform(0.3, 1.0)
                await pair.fail_over(lag_s)
                windows.append((began - 0.5, stack.fault() + ACCEPTED_S))
                await asyncio.sleep(LEASE_S + 4)  # until the promoted server is no longer young
                await pair.follow()
                run.report(f"{done + 1} failovers, {len(load.cases)} generations")

        await _play_during(run, load, asyncio.create_task(fail_over()))
        run.runs = run.size["failovers"]
        run.samples = waits(load.readers, stack.faults)
        yield load, windows
