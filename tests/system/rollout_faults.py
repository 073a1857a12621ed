"""Rollouts of both tiers as Kubernetes plays them, under readers of live answers and under short requests."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from support.stack import Frontend, Process
from system.chaos_stack import LEASE_S, ChaosStack
from system.load import Load, Run
from system.readers import FrontendPorts, Reader
from system.service_balancer import ServiceBalancer, is_ready, service_balancer
from system.wire_client import ask

GRACE_S = 10.0
"""What a pod has beyond DRAIN_S, and a worker beyond its lease as well, until it is killed."""

TOKENS, RATE = 50, 2.5
REQUESTS_S = 20
PATH = "/v1/generations?limit=1"


async def rollouts(run: Run) -> None:
    """Every frontend and worker is replaced, several times over, behind a Service that notices it seconds later."""
    drain_s, lag_s = run.size["drain_s"], run.size["lag_ms"] / 1000
    async with (
        run.stack(workers=run.size["pods"], frontends=run.size["pods"], drain_s=str(drain_s), drain_accept_s="5",
                  max_attempts="1") as stack,
        service_balancer(lag_s, run.rng) as service,
    ):  # fmt: skip
        for frontend in stack.frontends:
            service.add(frontend.port)
        await stack.until(lambda: len(service.endpoints) == run.size["pods"], 30, "the Service has no endpoints")
        load = Load(stack, run.rng, FrontendPorts(lambda: [service.port]))
        run.loads.append(load)
        rolling = asyncio.create_task(_roll(run, stack, service, drain_s))
        asking = asyncio.create_task(_ask_for_ever(run, service))
        each = run.size["readers"] // run.size["generations"]
        await load.play_until(
            run.plans(TOKENS, RATE), 0, lambda: not rolling.done(), run.size["generations"], stay=each, hop=0,
            timeout_s=240,
        )  # fmt: skip
        await rolling
        asking.cancel()
        _judge(run, load, service, drain_s)
        await load.reread()


async def _roll(run: Run, stack: ChaosStack, service: ServiceBalancer, drain_s: float) -> None:
    """Both Deployments are rolled out at once, `rollouts` times, and what has stopped is awaited at the end."""
    leaving: list[asyncio.Task[None]] = []
    await asyncio.sleep(drain_s)  # until the readers read
    for turn in range(run.size["rollouts"]):
        async with asyncio.TaskGroup() as tiers:
            tiers.create_task(_replace_all(run, stack, stack.frontends, service, leaving))
            tiers.create_task(_replace_all(run, stack, stack.workers, None, leaving))
        run.report(f"{turn + 1} rollouts")
    await asyncio.gather(*leaving)


async def _replace_all(
    run: Run,
    stack: ChaosStack,
    tier: Sequence[Process],
    service: ServiceBalancer | None,
    leaving: list[asyncio.Task[None]],
) -> None:
    """maxSurge 1, maxUnavailable 0: one more is ready for `minReadySeconds`, and then an old one stops."""
    for old in list(tier):
        if service:
            await _start_frontend(stack, service)
        else:
            worker = await stack.add_worker()
            await _wait_until_ready(worker, worker.operations_port)
        await asyncio.sleep(run.size["min_ready_s"])
        old.send(signal.SIGTERM)
        stack.forget(old)
        leaving.append(asyncio.create_task(_wait_for_exit(run, old, stack.fault())))


async def _start_frontend(stack: ChaosStack, service: ServiceBalancer) -> None:
    frontend = await stack.add_frontend()
    await _wait_until_ready(frontend, frontend.port)
    service.add(frontend.port)


async def _wait_until_ready(process: Process, port: int) -> None:
    deadline = time.monotonic() + 60
    while not await is_ready(port):
        assert time.monotonic() < deadline, process.output
        await asyncio.sleep(0.1)


async def _wait_for_exit(run: Run, old: Process, since: float) -> None:
    grace_s = run.size["drain_s"] + GRACE_S + (0 if isinstance(old, Frontend) else LEASE_S)
    try:
        async with asyncio.timeout(grace_s):
            status = await old.wait()
    except TimeoutError:
        run.wrong("grace", old.role, f"no exit within {grace_s:g} s")
        await old.stop(signal.SIGKILL)
        return
    run.runs += 1
    if isinstance(old, Frontend):
        run.samples.append(time.monotonic() - since)
    run.check(status == 0, "exit", f"{old.role}: status {status}\n{old.output[-1500:]}")


async def _ask_for_ever(run: Run, service: ServiceBalancer) -> None:
    """Short requests, each on a connection of its own: none may fail."""
    answers: Counter[int] = Counter()
    try:
        while True:
            status, answer = await ask(service.port, "GET", PATH, timeout=20)
            answers[status] += 1
            run.check(status == 200, "refused", f"GET {PATH}: {status} {answer}")
            await asyncio.sleep(1 / REQUESTS_S)
    finally:
        run.notes.append(f"short requests: {dict(answers)}")


def reconnects(readers: Iterable[Reader]) -> list[float]:
    """When readers have opened a connection again."""
    return sorted(visit.at for reader in readers for visit in reader.visits[1:])


def busiest_second(times: Sequence[float]) -> int:
    """The most of these times within a second."""
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] > 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def _judge(run: Run, load: Load, service: ServiceBalancer, drain_s: float) -> None:
    times, visits = reconnects(load.readers), [visit for reader in load.readers for visit in reader.visits]
    most, bound = busiest_second(times), run.size["readers"] / drain_s * 2
    run.check(most <= bound, "storm", f"{most} reconnects in a second; the bound is {bound:g}")
    run.check(service.refused == 0, "refused", f"{service.refused} connections")
    run.check(all(visit.status for visit in visits), "refused", "readers had connections without a response")
    empty = sum(visit.at in times and visit.until - visit.at < 0.2 for visit in visits)
    restarts = sum(reader.restarts for reader in load.readers)
    run.notes.append(
        f"{len(load.cases)} generations, {len(load.readers)} readers, {len(times)} reconnects, at most {most} in a "
        f"second (bound {bound:g}), {empty} of them to a pod that stopped; {restarts} restarts read"
    )
