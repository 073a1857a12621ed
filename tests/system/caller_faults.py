"""A caller that takes what it can get, beside one that works as usual."""

import asyncio
import json
import os
import sys

from system.chaos_stack import ChaosStack
from system.load import Run
from tailrace import keys

ANNA, MALLORY = "anna-key-1", "mallory-key-1"
KEYS = f"anna:{ANNA},mallory:{MALLORY}"
AT_MOST = 3.0
FLOOR_S = 0.005
"""A p99 below this is the machine's noise: three times of it is no harm."""


async def hostile_caller(run: Run) -> None:
    """One caller sends at full speed; another's requests are all accepted, and about as fast as before."""
    async with run.stack(workers=1, api_keys=KEYS, ticket_secret="0123456789abcdef") as stack:
        calm_s, attack_s = run.size["calm_s"], run.size["attack_s"]
        await _call(stack, "steady", ANNA, 1)
        calm, before = await _call(stack, "steady", ANNA, calm_s)
        run.report("attacks")
        (hostile, _), (statuses, run.samples) = await asyncio.gather(
            _call(stack, "hostile", MALLORY, attack_s), _call(stack, "steady", ANNA, attack_s)
        )
        run.runs = sum(hostile.values())
        run.check(hostile.keys() >= {"202", "429"}, "not refused", f"the hostile caller was answered {hostile}")
        run.check(calm.keys() == statuses.keys() == {"202"}, "refused", f"the other caller was answered {statuses}")
        p99, attacked = _p99(before), _p99(run.samples)
        limit = AT_MOST * max(p99, FLOOR_S) * run.size["tolerance"]
        run.check(attacked <= limit, "late", f"p99 {1000 * p99:.1f} ms became {1000 * attacked:.1f} ms")
        answers = ", ".join(f"{count} × {status}" for status, count in sorted(hostile.items()))
        run.notes.append(f"p99 before {1000 * p99:.1f} ms, under attack {1000 * attacked:.1f} ms; {answers}")
        run.report("waits for the generations")
        await _wait_until_all_have_ended(stack)


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
    async with stack.client() as redis, asyncio.timeout(120):
        owners = ("anna", "mallory")
        while sum([await redis.zcard(keys.unfinished_of(each)) for each in owners]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
