"""Clients of OpenAI's routes that leave before their answer has begun."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from signal import SIGKILL
from typing import Any, NamedTuple

from system.chaos_stack import LEASE_S, ChaosStack
from system.checker import Plan
from system.load import Run
from system.openai_client import CHAT, RESPONSES, Leaving, body_of, has_all_tokens
from system.wire_client import ask
from tailrace import keys

OWNER = "open"
GRACE_S = 6.0
RATE = 10.0
GOES_ON_S, ENDS_S = 8.0, 40.0
"""The length of answers that go on without a client, and of those that are cancelled: beyond the grace, both."""

FINAL = ("completed", "incomplete", "failed", "cancelled")
LATEST_S = GRACE_S + GOES_ON_S + 4 * LEASE_S + 10


class Kind(NamedTuple):
    """A request whose client leaves. `until`: what it still receives; `status`: how the generation must end."""

    path: str
    status: str
    fields: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    until: bytes = b""


KINDS = {
    "background stream": Kind(
        RESPONSES, "completed", {"background": True, "stream": True}, until=b"event: response.created\n"
    ),
    "background": Kind(RESPONSES, "completed", {"background": True}),
    "response stream": Kind(RESPONSES, "cancelled", {"stream": True}),
    "response": Kind(RESPONSES, "cancelled", {}),
    "chat stream": Kind(CHAT, "cancelled", {"stream": True}),
    "chat": Kind(CHAT, "cancelled", {}),
    "chat that goes on": Kind(CHAT, "completed", {"stream": True}, {"x-tailrace-on-disconnect": "continue"}),
}


async def client_gone(run: Run) -> None:
    """Clients leave at the first event or before, with a worker and without one: each generation ends by its policy."""
    settings: dict[str, Any] = {"disconnect_grace_s": str(GRACE_S), "max_jobs": "300"}
    async with run.stack(workers=1, frontends=2, **settings) as stack:
        worker, ends = stack.workers[0], Counter[str]()
        run.report("a worker runs")
        await _leave_all(run, stack, ends)
        worker.send(SIGKILL)
        await worker.wait()
        run.report("no worker runs")
        await _leave_all(run, stack, ends, restart=True)
        run.notes.append(", ".join(f"{count} × {end}" for end, count in sorted(ends.items())))


async def _leave_all(run: Run, stack: ChaosStack, ends: Counter[str], *, restart: bool = False) -> None:
    """Send requests of every kind, have all clients leave once the generations exist, and judge their ends.

    As many clients leave at once: a request that a frontend has not read by then creates nothing. `restart`: start the
    worker once the clients have left.
    """
    known = set(await _generations(stack))
    asked: dict[str, tuple[str, Plan]] = {}
    for number in range(run.size["clients"]):
        name = list(KINDS)[number % len(KINDS)]
        plan = _plan(run, KINDS[name])
        asked[plan.tag] = name, plan
    clients = await asyncio.gather(*(_send(stack, i, *each) for i, each in enumerate(asked.values())))
    async with asyncio.timeout(30):
        while len(set(await _generations(stack)) - known) < len(asked):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    at_once = {plan.tag: (name, plan) for name in KINDS for plan in [_plan(run, KINDS[name])]}
    clients += await asyncio.gather(*(_send(stack, i, *each, stays=False) for i, each in enumerate(at_once.values())))
    left_at = time.monotonic()
    for client in clients:
        client.leave()
    if restart:
        await stack.workers[0].start()
    await asyncio.sleep(1)  # for those that a frontend has read all the same
    found = set(await _generations(stack)) - known
    values = await asyncio.gather(*(_end_of(stack, each, left_at) for each in found))
    for value, took_s in values:
        await _judge(run, stack, *(asked | at_once)[value["request"]["script_id"]], value)
        ends[f"{value['status']}"] += 1
        if value["status"] == "cancelled":
            run.samples.append(took_s)
    run.runs += len(values)
    run.check(len(values) >= len(asked), "lost", f"{len(asked)} requests have become {len(values)} generations")


def _plan(run: Run, kind: Kind) -> Plan:
    """An answer that begins after a second, so that no client gets any of it."""
    seconds = GOES_ON_S if kind.status == "completed" else ENDS_S
    return run.plan(int(seconds * RATE), RATE, before=({"sleep": 1.0},))


async def _send(stack: ChaosStack, number: int, name: str, plan: Plan, *, stays: bool = True) -> Leaving:
    """`stays`: until the client has received what its kind still receives."""
    kind = KINDS[name]
    port = stack.ports[number % len(stack.ports)]
    client = await Leaving.send(port, kind.path, body_of(kind.path, plan, **kind.fields), kind.headers)
    if stays and kind.until:
        await client.wait_for(kind.until)
    return client


async def _generations(stack: ChaosStack) -> list[str]:
    async with stack.client(stack.queue) as redis:
        return [each.decode() for each in await redis.zrange(keys.owned(OWNER), 0, -1)]


async def _end_of(stack: ChaosStack, generation_id: str, since: float) -> tuple[Any, float]:
    """The generation at its end, or as it stands after so long, and the seconds that it took. (This is no reader.)"""
    while True:
        status, value = await ask(stack.ports[0], "GET", f"/v1/generations/{generation_id}")
        took_s = time.monotonic() - since
        if status == 200 and (value["status"] in FINAL or took_s > LATEST_S):
            return value, took_s
        assert took_s < 2 * LATEST_S, f"{status} {value}"
        await asyncio.sleep(0.25)


async def _judge(run: Run, stack: ChaosStack, name: str, plan: Plan, value: Any) -> None:
    status, error = value["status"], value["error"] or {}
    if status not in FINAL:
        return run.wrong(
            "stuck", name, f"{plan.tag} {value['id']} is {status} {LATEST_S:g} s after its client has left"
        )
    run.check(status == KINDS[name].status, "unexplained end", f"{name} {plan.tag}: {status} {error}")
    if status == "completed":
        text = "".join(item["text"] for item in value["output"])
        run.check(has_all_tokens(text, plan), "lost", f"{name} {plan.tag}: {text!r:.200}")
    else:
        run.check(error.get("code") == "client_disconnected", "unexplained end", f"{name} {plan.tag}: {error}")
    calls = await _settled_calls(stack, plan.tag)
    run.check(not calls["open"] and calls["started"] <= 1, "upstream", f"{name} {plan.tag}: {calls}")
    return None


async def _settled_calls(stack: ChaosStack, tag: str) -> dict[str, int]:
    """The upstream's count of the calls, once none is open, or after three seconds."""
    until = time.monotonic() + 3
    while (calls := await stack.calls(tag))["open"] and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return calls
