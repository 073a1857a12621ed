"""Faults on OpenAI's routes: replies that are lost, cancels at the end of an answer, clients that leave at once."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from openai import AsyncOpenAI, OpenAIError

from support.transcripts import UPSTREAMS
from support.webhook_receiver import Receiver, receiver
from system.chaos_stack import ChaosStack
from system.checker import Plan
from system.client_faults import RACE_RATE, RACE_TOKENS, Aim, in_turn
from system.injectors import Link, link
from system.load import Run
from system.openai_client import CHAT, RESPONSES, Place, Stream, body_of, form, has_all_tokens, places, read, streaming
from system.wire_client import CUT, ask
from tailrace import keys

OWNER = "open"
POLL_S = 0.01

# ── resume equality ──────────────────────────────────────────────────────────────────────────────────────────────────

ROUTES = ((CHAT, "chatcmpl-"), (RESPONSES, "resp_"))
CHUNK_S = 0.004
"""Between two chunks, so that most of them become entries of their own."""


async def resume_equality(run: Run) -> None:
    """Each upstream's answer, read live, then behind each of its numbers on another frontend: together, the whole."""
    async with run.stack(workers=1, frontends=2, upstream_retries="0") as stack:
        names = list(UPSTREAMS)
        run.rng.shuffle(names)
        for name in names[: run.size["transcripts"]]:
            run.report(name)
            generation_id = await _answered_with(stack, UPSTREAMS[name])
            paths = [f"{route}/{form(prefix, generation_id)}?stream=true" for route, prefix in ROUTES]
            live = await asyncio.gather(*(read(stack.ports[0], path) for path in paths))
            for path, whole in zip(paths, live, strict=True):
                await _resume_everywhere(run, stack, f"{name} {path}", path, whole)


async def _answered_with(stack: ChaosStack, chunks: list[dict[str, Any]]) -> str:
    """The id of a generation that the upstream answers with these chunks."""
    steps: list[dict[str, Any]] = []
    for chunk in chunks:
        steps += [{"chunk": chunk}, {"sleep": CHUNK_S}]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "?"}], "script": [*steps, {"done": True}]}
    status, answer = await ask(stack.ports[0], "POST", "/v1/generations", body)
    assert status == 202, answer
    return str(answer["id"])


async def _resume_everywhere(run: Run, stack: ChaosStack, where: str, path: str, whole: Stream | None) -> None:
    """Every `every`-th number, and the last one."""
    if whole is None or not whole.is_whole:
        return run.wrong("hang", where, "the live stream did not end")
    found = places(whole.received)
    await in_turn_over(found[:: run.size["every"]] + found[-1:], partial(_resume, run, stack, where, path, whole))
    return None


async def _resume(run: Run, stack: ChaosStack, where: str, path: str, whole: Stream, place: Place) -> None:
    rest = await read(stack.ports[1], f"{path}&starting_after={place.number}")
    run.runs += 1
    if rest is None or not rest.is_whole:
        run.wrong("hang", where, f"no whole stream behind {place.number}")
    elif whole.received[: place.end] + rest.received != whole.received:
        run.wrong("rewritten", where, f"behind {place.number}: {rest.received[:300]!r}")


async def in_turn_over(places: list[Place], one: Any, at_once: int = 4) -> None:
    await in_turn(len(places), at_once, lambda number: one(places[number]))


# ── retry storm ──────────────────────────────────────────────────────────────────────────────────────────────────────

LOST = 2
"""Replies of each request that are lost. openai-python sends a request three times."""


async def retry_storm(run: Run) -> None:
    """Requests of openai-python whose first two replies are lost: three attempts are one call of the upstream."""
    async with run.stack(workers=2, frontends=2, upstream_retries="0") as stack:
        plans = run.plans(12, 24.0, before=({"sleep": 0.3},))

        async def one(number: int) -> None:
            await _lose_replies(run, stack, next(plans), number)
            run.report(f"{number} requests")

        await in_turn(run.size["requests"], run.size["at once"], one)
        async with stack.client(stack.queue) as redis:
            generations = await redis.zcard(keys.owned(OWNER))
        asked = run.size["requests"]
        run.check(generations == asked, "doubled", f"{asked} requests have become {generations} generations")
        run.notes.append(f"{asked} requests, {LOST * asked} replies lost, {generations} generations")


async def _lose_replies(run: Run, stack: ChaosStack, plan: Plan, number: int) -> None:
    """One request of one of four kinds; the second attempt is sent to another frontend than the first one."""
    async with link(stack.ports[0], run.rng) as way:
        attempts = Counter[str]()
        way.watch = lambda data: attempts.update(["sent"] if data.startswith(b"POST ") else [])
        way.cut_replies = 1.0
        client = AsyncOpenAI(base_url=f"http://127.0.0.1:{way.port}/v1", api_key="none", max_retries=LOST, timeout=30)
        async with client:
            asking = asyncio.create_task(_ask(client, plan, number))
            try:
                await _cut(stack, way, plan, asking, while_waiting=number % 8 >= 4)
                since = time.monotonic()
                text = await asking
                run.samples.append(time.monotonic() - since)
                run.check(has_all_tokens(text, plan), "lost", f"{plan.tag}: {text!r:.300}")
            except (OpenAIError, TimeoutError) as error:
                run.wrong("refused", plan.tag, repr(error))
            finally:
                asking.cancel()
    counts = await stack.calls(plan.tag)
    run.runs += attempts["sent"]
    run.check(attempts["sent"] == LOST + 1, "no effect", f"{plan.tag}: {attempts['sent']} attempts")
    run.check(counts["started"] == 1, "doubled call", f"{plan.tag}: {counts}")


async def _cut(stack: ChaosStack, way: Link, plan: Plan, asking: "asyncio.Task[str]", *, while_waiting: bool) -> None:
    """Lose two replies. `while_waiting`: the first connection is cut once the upstream is called, before any reply."""
    forced = 0
    async with asyncio.timeout(20):
        if while_waiting:
            while not (await stack.calls(plan.tag))["started"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_S)
            if not way.cuts:
                forced = 1
                way.cut()
        while way.cuts + forced < LOST and not asking.done():
            way.target = stack.ports[(way.cuts + forced) % 2]
            await asyncio.sleep(POLL_S)
    way.cut_replies = 0.0


async def _ask(client: AsyncOpenAI, plan: Plan, number: int) -> str:
    """The text of an answer: of both APIs, streamed and not."""
    path, streams = (CHAT, RESPONSES)[number % 2], number % 4 >= 2
    body = body_of(path, plan)
    extra = {"script": body.pop("script"), "script_id": body.pop("script_id")}
    make: Any = client.chat.completions.create if path == CHAT else client.responses.create
    answer = await make(**body, stream=streams, extra_body=extra)
    if streams:
        return "".join([_piece(each) async for each in answer])
    return str(answer.choices[0].message.content if path == CHAT else answer.output_text)


def _piece(event: Any) -> str:
    if hasattr(event, "choices"):
        return event.choices[0].delta.content or "" if event.choices else ""
    return str(event.delta) if event.type == "response.output_text.delta" else ""


# ── cancel against complete ──────────────────────────────────────────────────────────────────────────────────────────

CHAT_EACH = 5
"""Every fifth race is one of a chat completion, which sends no webhook."""

SETTLE_S = 2.0
"""After the last webhook, for one that should not be sent."""


async def openai_cancel_races(run: Run) -> None:
    """The cancel of a response races with its end: one terminal event for all readers, one webhook under one id."""
    async with receiver() as hooks, run.stack(workers=2, frontends=2, webhook_allow_private="true") as stack:
        aim, ends = Aim(run.rng), dict[str, str]()
        async with _endpoint(stack, hooks) as endpoint_id:

            async def race(number: int) -> None:
                route, prefix = ROUTES[number % CHAT_EACH != CHAT_EACH - 1]
                await _race(run, stack, aim, ends, route, prefix, number)
                if number % 20 == 0:
                    run.report(f"{number} races, {list(ends.values()).count('cancelled')} cancelled")

            await in_turn(run.size["races"], run.size["at once"], race)
            await _judge_webhooks(run, stack, hooks, endpoint_id, ends)
        run.runs = len(ends)
        won = list(ends.values()).count("cancelled")
        run.notes.append(f"{won} cancelled, {len(ends) - won} completed; {len(hooks.received)} webhooks")


@contextlib.asynccontextmanager
async def _endpoint(stack: ChaosStack, hooks: Receiver) -> AsyncIterator[str]:
    """A webhook endpoint for every end of a response, until the end of the block."""
    types = [f"response.{status}" for status in ("completed", "incomplete", "failed", "cancelled")]
    asked = {"name": "races", "url": f"{hooks.url}/ok", "event_types": types}
    status, answer = await ask(stack.ports[0], "POST", "/v1/webhook_endpoints", asked)
    assert status == 200, answer
    yield answer["id"]
    await ask(stack.ports[0], "DELETE", f"/v1/webhook_endpoints/{answer['id']}")


async def _race(
    run: Run, stack: ChaosStack, aim: Aim, ends: dict[str, str], route: str, prefix: str, number: int
) -> None:
    plan = run.plan(RACE_TOKENS, RACE_RATE)
    here, there = stack.ports[number % 2], stack.ports[1 - number % 2]
    body = body_of(route, plan, stream=True) | ({"background": True} if route == RESPONSES else {})
    try:
        async with asyncio.timeout(30), streaming(here, "POST", route, body) as stream:
            reading = asyncio.create_task(stream.read())
            await stream.first_text.wait()
            await asyncio.sleep(aim.delay_s())
            status = await _cancel(run, there, form("resp_", stream.generation_id))
            await reading
    except (*CUT, TimeoutError) as error:
        return run.wrong("hang", plan.tag, repr(error))
    run.check(len(stream.ends) == 1 and stream.ends_as_it_should, "two ends", f"{plan.tag}: {stream.events[-4:]}")
    run.check(stream.ends[-1:] == [status], "two ends", f"{plan.tag}: {status}, {stream.ends}")
    if status == "completed":
        run.check(has_all_tokens(stream.text, plan), "lost", f"{plan.tag}: {stream.text!r:.300}")
    aim.learn(status)
    ends[stream.generation_id] = status
    await _read_again(run, there, f"{route}/{form(prefix, stream.generation_id)}?stream=true", stream)
    return None


async def _cancel(run: Run, port: int, response_id: str) -> str:
    """The final status that the answer names; empty if there is no answer of 200."""
    began = time.monotonic()
    status, answer = await ask(port, "POST", f"{RESPONSES}/{response_id}/cancel")
    run.samples.append(time.monotonic() - began)
    run.check(status == 200, "status", f"the answer to a cancel is {status} {answer}")
    return str(answer["status"]) if status == 200 else ""


async def _read_again(run: Run, port: int, path: str, live: Stream) -> None:
    late = await read(port, path)
    received = late.received if late else b""
    run.check(received == live.received, "rewritten", f"{path}: {received[-300:]!r}, {live.received[-300:]!r}")


async def _judge_webhooks(run: Run, stack: ChaosStack, hooks: Receiver, endpoint_id: str, ends: dict[str, str]) -> None:
    """Each response has one webhook id, and its type is the response's end; a chat completion has none."""
    async with stack.log_client() as redis:
        due, until = keys.webhooks_due(endpoint_id), time.monotonic() + 30
        while await redis.zcard(due) and time.monotonic() < until:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_S)
    ids: dict[str, set[tuple[str, str]]] = {}
    for each in hooks.received:
        ids.setdefault(each.event["data"]["id"], set()).add((each.webhook_id, each.event["type"]))
    responses = {form("resp_", each): status for each, status in ends.items()}
    for response_id, found in ids.items():
        run.check(len(found) == 1, "two webhooks", f"{response_id}: {found}")
        named = {type_ for _, type_ in found}
        wanted = f"response.{responses.get(response_id)}"
        run.check(named == {wanted}, "two ends", f"{response_id}: {named}, {wanted}")
    expected = len(ends) - len(ends) // CHAT_EACH
    run.check(len(ids) == expected, "lost webhook", f"{len(ids)} responses of {expected} have a webhook")
