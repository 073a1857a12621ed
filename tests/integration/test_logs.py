"""The log of whole processes as JSON: a line for each step of a generation's life, none for a token, no content."""

import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.stack import Stack, stack
from system import canaries

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER = "canary-answer-1f77"
HANG: dict[str, Any] = {"hang": True}
ENDED: list[dict[str, Any]] = [{"delta": {"content": f"{ANSWER} {n}"}} for n in range(50)] + [
    {"delta": {}, "finish_reason": "stop"},
    {"done": True},
]
ALWAYS = {"ts", "level", "event", "message", "process", "pid", "logger"}
OF_STEPS = {"generation", "owner", "model"}


class Product:
    def __init__(self, running: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = running
        self.api = Api(http, running.url)

    def lines(self) -> list[dict[str, Any]]:
        """Every line of every process, in the order of time."""
        outputs = [process.output for process in (*self.stack.frontends, *self.stack.workers)]
        return sorted((json.loads(line) for text in outputs for line in text.splitlines()), key=lambda each: each["ts"])

    def steps(self, generation_id: str) -> list[dict[str, Any]]:
        return [each for each in self.lines() if each.get("generation") == generation_id and each["event"] != "log"]

    async def create(self, *steps: dict[str, Any]) -> str:
        messages = [{"role": "user", "content": canaries.PROMPT}]
        return await self.api.create_scripted(*steps, messages=messages)

    async def wait_for(self, generation_id: str, event: str, times: int = 1) -> None:
        async def is_logged() -> bool:
            return [each["event"] for each in self.steps(generation_id)].count(event) >= times

        await eventually(is_logged)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    async with (
        stack(workers=1, frontends=1, log_format="json", lease_s="1", drain_s="0") as running,
        aiohttp.ClientSession() as http,
    ):
        yield Product(running, http)


async def test_life_of_a_generation_is_a_line_a_step(product: Product) -> None:
    generation_id = await product.create(*ENDED)
    await product.api.wait_for_result(generation_id)
    await product.api.read(generation_id)
    await product.wait_for(generation_id, "ended")
    steps = product.steps(generation_id)
    assert [each["event"] for each in steps] == ["created", "attempt_began", "ended"]
    assert all(each.keys() >= ALWAYS | OF_STEPS for each in steps)
    _, began, ended = steps
    assert began["epoch"] == ended["epoch"] > 0
    assert (ended["attempt"], ended["worker"], ended["status"]) == (1, began["worker"], "completed")
    assert ended["timings"]["total"] >= ended["timings"]["first_token"]


async def test_lost_worker_and_restart_are_lines(product: Product) -> None:
    generation_id = await product.create(ENDED[0], HANG)
    stream = await product.api.stream(generation_id)
    await stream.until("text")
    worker = product.stack.workers[0]
    worker.send(signal.SIGKILL)
    await worker.wait()
    await worker.start()
    await product.wait_for(generation_id, "restarted")
    await product.api.cancel(generation_id)
    await product.wait_for(generation_id, "ended")
    events = [each["event"] for each in product.steps(generation_id)]
    assert [each for each in events if each in ("worker_lost", "taken_over", "restarted")] == [
        "worker_lost", "taken_over", "restarted"
    ]  # fmt: skip
    (restarted,) = [each for each in product.steps(generation_id) if each["event"] == "restarted"]
    assert (restarted["reason"], restarted["attempt"]) == ("worker_lost", 2)


async def test_handover_is_a_line(product: Product) -> None:
    generation_id = await product.create(ENDED[0], HANG)
    await product.wait_for(generation_id, "attempt_began")
    worker = product.stack.workers[0]
    await worker.stop()
    await worker.start()
    await product.wait_for(generation_id, "attempt_began", times=2)
    assert "handed_over" in [each["event"] for each in product.steps(generation_id)]
    await product.api.cancel(generation_id)


async def test_no_line_has_content_or_a_secret(product: Product) -> None:
    """After the tests above."""
    await product.api.request(
        "GET", f"/v1/generations?ticket={canaries.TICKET}", headers={"Authorization": f"Bearer {canaries.KEY}"}
    )
    logs = {process.role: process.output for process in (*product.stack.frontends, *product.stack.workers)}
    secrets = [*canaries.secrets_of(product.stack.environment), ANSWER]
    assert secrets[0] == "sk-upstream-secret"
    assert canaries.leaks(logs, secrets) == []
    assert all(each.keys() >= ALWAYS for each in product.lines())
