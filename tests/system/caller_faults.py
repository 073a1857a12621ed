"""A caller that takes what it can get, beside one that works as usual."""

import asyncio
import json
import os
import sys
from collections import Counter

from system.caller_process import ATTACKS
from system.chaos_stack import ChaosStack
from system.load import Run
from tailrace import keys

ANNA, MALLORY = "anna-key-1", "mallory-key-1"
KEYS = f"anna:{ANNA},mallory:{MALLORY}"
AT_MOST = 3.0
FLOOR_S = 0.005
"""A p99 below this is the machine's noise: three times of it is no harm."""


async def hostile_caller(run: Run) -> None:
    """One caller attacks at full speed in several ways; another's requests are all accepted, about as fast as else.

    Each attack follows a calm time of the same length, so that other work on the machine slows down both alike.
    """
    seconds, calm, answers = run.size["seconds"], list[float](), Counter[str]()
    async with run.stack(workers=1, api_keys=KEYS, ticket_secret="0123456789abcdef") as stack:
        await _call(stack, "steady", ANNA, 1)
        for attack in ATTACKS:
            run.report(attack)
            calm += await _steady(run, stack, seconds)
            (statuses, _), attacked = await asyncio.gather(
                _call(stack, attack, MALLORY, seconds), _steady(run, stack, seconds)
            )
            run.samples += attacked
            answers.update(statuses)
            run.notes.append(f"{attack}: p99 {1000 * _p99(attacked):.1f} ms; {statuses}")
            await _wait_until_all_have_ended(stack)
        run.runs = answers.total()
        run.check(answers["202"] > 0 < answers["429"], "not refused", f"the hostile caller was answered {answers}")
        before, under = _p99(calm), _p99(run.samples)
        run.notes.append(f"p99 {1000 * before:.1f} ms without, {1000 * under:.1f} ms under attack")
        limit = AT_MOST * max(before, FLOOR_S) * run.size["tolerance"]
        run.check(under <= limit, "late", f"p99 {1000 * before:.1f} ms became {1000 * under:.1f} ms")


async def _steady(run: Run, stack: ChaosStack, seconds: float) -> list[float]:
    """Seconds of each request of the other caller; all must be accepted."""
    statuses, took = await _call(stack, "steady", ANNA, seconds)
    run.check(statuses.keys() == {"202"}, "refused", f"the other caller was answered {statuses}")
    return took


def _p99(samples: list[float]) -> float:
    return sorted(samples)[int(0.99 * len(samples))]


async def _call(stack: ChaosStack, name: str, key: str, seconds: float) -> tuple[dict[str, int], list[float]]:
    """How often each status was answered to a caller, and the seconds of each request."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "system.caller_process", name, str(stack.ports[0]), key, str(seconds),
        stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, f"the {name} caller failed"
    statuses, took = json.loads(output)
    return statuses, took


async def _wait_until_all_have_ended(stack: ChaosStack) -> None:
    async with stack.client(stack.queue) as redis, asyncio.timeout(120):
        owners = ("anna", "mallory")
        while sum([await redis.zcard(keys.unfinished_of(each)) for each in owners]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
