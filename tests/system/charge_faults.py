"""What callers are charged, while workers and Redis are killed: the sum of all ends, each once."""

import asyncio
import time
from typing import Any

from system.chaos_stack import LEASE_S
from system.checker import Case
from system.load import Load, Run
from system.wire_client import ask
from tailrace.lifecycle.termination import CONFIRM_S

WORKER_LOST = frozenset({"worker_lost"})
CANCELLED = frozenset({"completed", "cancelled"})
LIMIT = "1000000000000"
"""Tokens a minute: no request is refused, and each one reserves."""


async def charges(run: Run) -> None:
    """Workers and Redis are killed while clients create and cancel: the owner is charged every end once."""
    async with run.stack(
        workers=run.size["workers"], frontends=2, max_tokens_per_minute_per_caller=LIMIT,
        budget_month_tokens_per_caller=LIMIT,
    ) as stack:  # fmt: skip
        load = run.load(stack)

        async def kill() -> None:
            for turn in range(run.size["kills"]):
                await asyncio.sleep(LEASE_S + run.rng.uniform(0.5, 1.5))
                if turn % 4 == 3:
                    stack.fault()
                    stack.log.kill()
                    stack.log.start()
                    await asyncio.sleep(CONFIRM_S + 1)  # nothing is swept before
                else:
                    await stack.kill(run.rng.choice(stack.workers))
                run.report(f"{turn + 1} kills, {len(load.cases)} generations")

        killing = asyncio.create_task(kill())
        plans = (
            run.plan(run.rng.randrange(1, 60), 30.0, on_interrupt="fail", failures=WORKER_LOST, statuses=CANCELLED)
            if i % 4 == 3
            else run.plan(run.rng.randrange(1, 60), 30.0, statuses=CANCELLED)
            for i in range(10**9)
        )
        cancelling = asyncio.create_task(_cancel_some(run, load))
        await load.play_until(plans, run.size["generations"], lambda: not killing.done(), run.size["at once"])
        await killing
        cancelling.cancel()
        await load.reread()
        used = sum([await _tokens(load, case) for case in load.cases])
        await asyncio.sleep(CONFIRM_S + 1)  # each end is confirmed by then, and its charge repeated
        charged = await _charged(load, used)
        run.runs = len(load.cases)
        run.check(charged["month"] == used, "charged", f"{charged['month']} tokens for ends of {used}")
        run.check(charged["reserved"] == 0, "reserved", f"{charged['reserved']} tokens are still reserved")
        run.notes.append(f"{len(load.cases)} ends of {used} tokens, {len(stack.faults)} kills")


async def _cancel_some(run: Run, load: Load) -> None:
    """Cancel one of the newest generations now and then."""
    while True:
        await asyncio.sleep(run.rng.uniform(0.1, 0.4))
        if load.cases:
            case = run.rng.choice(load.cases[-20:])
            await ask(load.ports.next(), "POST", f"/v1/generations/{case.generation_id}/cancel", timeout=10)


async def _tokens(load: Load, case: Case) -> int:
    """The tokens that the end of a generation names."""
    status, answer = await _get(load, f"/v1/generations/{case.generation_id}")
    assert status == 200, answer
    usage: Any = answer["usage"] or {"prompt_tokens": 0, "completion_tokens": 0}
    return int(usage["prompt_tokens"]) + int(usage["completion_tokens"])


async def _charged(load: Load, expected: int) -> dict[str, int]:
    """What the owner is charged, once it is as much as expected: a sweeper may still be about to charge some."""
    deadline = time.monotonic() + 15
    while True:
        status, answer = await _get(load, "/v1/admin/callers/open")
        assert status == 200, answer
        use = answer["use"]
        charged = {"month": use["month"]["tokens"], "reserved": use["reserved"]["tokens"]}
        if charged == {"month": expected, "reserved": 0} or time.monotonic() > deadline:
            return charged
        await asyncio.sleep(0.3)


async def _get(load: Load, path: str) -> tuple[int, Any]:
    """The answer, once Redis has been back for long enough."""
    deadline = time.monotonic() + 20
    while True:
        status, answer = await ask(load.ports.next(), "GET", path)
        if status not in (0, 503) or time.monotonic() > deadline:
            return status, answer
        await asyncio.sleep(0.2)
