"""Cancels and deletions that were acknowledged, and that a server with older data has lost."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import Case
from system.injectors import Snapshot
from system.load import Load, Run
from system.wire_client import ask

CANCELLED = frozenset({"cancelled"})
Act = Callable[[Run, Load, Case], Awaitable[None]]


async def rolled_back_cancel(run: Run) -> None:
    """The server loses cancels that were acknowledged: the generations are cancelled again, and not run again."""
    await _roll_back(run, _cancel, may_vanish=False)


async def rolled_back_delete(run: Run) -> None:
    """The server loses deletions that were acknowledged: the generations are deleted again, and not run again."""
    await _roll_back(run, _delete, may_vanish=True)


async def _roll_back(run: Run, act: Act, *, may_vanish: bool) -> None:
    """A quarter of the generations waits for a worker; the others run."""
    count = run.size["generations"]
    at_once = count - count // 4
    async with run.stack(workers=1, frontends=2, max_jobs=str(at_once)) as stack:
        for turn in range(run.size["rounds"]):
            load = run.load(stack)
            plans = [run.plan(400, 20.0, statuses=CANCELLED, may_vanish=may_vanish) for _ in range(count)]
            await asyncio.gather(*map(load.create, plans))
            readers = [load.reader(case, "stays") for case in load.cases]
            reading = [asyncio.create_task(reader.read(60)) for reader in readers]
            await stack.until(partial(_have_begun, load, count, at_once), 30, "they do not run")
            snapshot = Snapshot(stack.log_servers)
            await asyncio.gather(*(act(run, load, case) for case in load.cases))
            await asyncio.gather(*reading)
            calls = [(await stack.calls(case.plan.tag))["started"] for case in load.cases]
            await asyncio.sleep(run.rng.uniform(0, 0.3))
            stack.log.kill()
            snapshot.roll_back()
            await asyncio.sleep(LEASE_S if turn % 2 == 0 else 0)
            stack.log.start()
            await asyncio.sleep(LEASE_S + 4.5)  # jobs are held back for 3 s, sweeps for 3 s
            await load.reread()
            for case, before in zip(load.cases, calls, strict=True):
                await _judge(run, stack, case, before, may_vanish=may_vanish)
            run.runs += count
            run.report(f"{turn + 1} rounds")


def _have_begun(load: Load, count: int, running: int) -> bool:
    kinds = [{each.event.kind for each in reader.received} for reader in load.readers]
    return sum("text" in each for each in kinds) == running and sum("created" in each for each in kinds) == count


async def _cancel(run: Run, load: Load, case: Case) -> None:
    status, answer = await ask(load.ports.next(), "POST", f"/v1/generations/{case.generation_id}/cancel")
    run.check(
        status == 200 and answer["status"] == "cancelled", "status", f"the answer to a cancel is {status} {answer}"
    )


async def _delete(run: Run, load: Load, case: Case) -> None:
    status, answer = await ask(load.ports.next(), "DELETE", f"/v1/generations/{case.generation_id}")
    run.check(status == 200, "status", f"the answer to a DELETE is {status} {answer}")


async def _judge(run: Run, stack: ChaosStack, case: Case, calls: int, *, may_vanish: bool) -> None:
    """The generation is cancelled or deleted, and the upstream was not called again."""
    status, answer = await ask(stack.ports[0], "GET", f"/v1/generations/{case.generation_id}")
    if may_vanish:
        run.check(status == 410, "taken back", f"{case.plan.tag}: {status} {answer.get('status')}")
    else:
        run.check(status == 200 and answer["status"] == "cancelled", "taken back", f"{case.plan.tag}: {status}")
    now = (await stack.calls(case.plan.tag))["started"]
    run.check(now == calls, "run again", f"{case.plan.tag}: {calls} calls became {now}")
