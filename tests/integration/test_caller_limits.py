"""Limits of callers, with a worker and two frontends: they change at run time, and every end is charged once."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from support.api import Api, eventually
from support.stack import Stack, stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = "anna:anna-key-1,ben:ben-key-22,ops:ops-key-33;scopes=admin"
USAGE = {"prompt_tokens": 30, "completion_tokens": 70, "total_tokens": 100}
ANSWER: list[dict[str, Any]] = [
    {"delta": {"content": "Hello"}}, {"delta": {}, "finish_reason": "stop"}, {"usage": USAGE}, {"done": True},
]  # fmt: skip
QUESTION: Any = [{"role": "user", "content": "?"}]
HANG: list[dict[str, Any]] = [{"delta": {"content": "So far"}}, {"hang": True}]
CONFIG = """
[[upstreams]]
name = "primary"
base_url = "{url}"
api_key_env = "OPENAI_API_KEY"
prices = {{ "*" = {{ input = 1000.0, output = 2000.0 }} }}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    config = tmp_path_factory.mktemp("limits") / "tailrace.toml"
    async with stack(
        workers=0, frontends=0, api_keys=KEYS, ticket_secret="0123456789abcdef", lease_s="2", max_attempts="1",
        config=str(config),
    ) as running:  # fmt: skip
        await asyncio.to_thread(config.write_text, CONFIG.format(url=running.upstream))
        await running.add_worker()
        for _ in range(2):
            await running.add_frontend()
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def apis(running: Stack, http: aiohttp.ClientSession, key: str) -> list[Api]:
    """One caller, at each frontend."""
    return [Api(http, frontend.url, key) for frontend in running.frontends]


async def set_policy(running: Stack, http: aiohttp.ClientSession, name: str, **policy: Any) -> None:
    (ops, _) = apis(running, http, "ops-key-33")
    response = await ops.request("PUT", f"/v1/admin/callers/{name}", json=policy)
    assert response.status == 200, response.body


async def use_of(running: Stack, http: aiohttp.ClientSession, name: str) -> Any:
    (_, ops) = apis(running, http, "ops-key-33")
    return (await ops.request("GET", f"/v1/admin/callers/{name}")).value["use"]


async def test_limit_that_an_operator_changes_is_in_force_at_every_frontend(
    running: Stack, http: aiohttp.ClientSession
) -> None:
    annas = apis(running, http, "anna-key-1")
    for limit in (70, 0, 70, 0):
        await set_policy(running, http, "anna", tokens_per_minute=limit)
        for anna in annas:

            async def is_in_force(anna: Api = anna, limit: int = limit) -> bool:
                headers = (await anna.list()).headers
                return headers.get("x-ratelimit-limit-tokens", "0") == str(limit)

            await eventually(is_in_force)


async def test_end_is_charged_in_tokens_and_dollars_and_a_spent_budget_refuses(
    running: Stack, http: aiohttp.ClientSession
) -> None:
    annas = apis(running, http, "anna-key-1")
    await set_policy(running, http, "anna", budget_day_usd=0.3)
    before = await use_of(running, http, "anna")
    for anna in annas:
        await anna.wait_for_result(await anna.create_scripted(*ANSWER, max_tokens=1))

    async def is_charged() -> bool:
        use = await use_of(running, http, "anna")
        return bool(use["day"]["tokens"] == before["day"]["tokens"] + 200 and use["reserved"]["tokens"] == 0)

    await eventually(is_charged)
    use = await use_of(running, http, "anna")
    assert use["day"]["usd"] == pytest.approx(before["day"]["usd"] + 0.34)
    assert use["month"] == use["day"] or use["month"]["tokens"] >= 200
    for url in (frontend.url for frontend in running.frontends):
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="anna-key-1", max_retries=2) as client:
            with pytest.raises(openai.RateLimitError) as raised:
                await client.chat.completions.create(model="scripted", messages=QUESTION)
        error = raised.value
        assert (error.code, error.type) == ("insufficient_quota", "insufficient_quota")
        assert "budget of this day" in error.message
        assert error.response.headers["tailrace-budget-remaining"] == "day-usd=0"
        assert error.response.request.headers["x-stainless-retry-count"] in ("0", "2")
    await set_policy(running, http, "anna")
    assert (await annas[0].wait_for_result(await annas[0].create_scripted(*ANSWER)))["status"] == "completed"


async def test_openai_python_reads_the_headers_of_the_limits(running: Stack, http: aiohttp.ClientSession) -> None:
    await set_policy(running, http, "ben", tokens_per_minute=100, requests_per_minute=600)
    client = AsyncOpenAI(base_url=f"{running.frontends[1].url}/v1", api_key="ben-key-22", max_retries=0)

    async def is_in_force() -> bool:
        return "x-ratelimit-limit-tokens" in (await apis(running, http, "ben-key-22")[1].list()).headers

    await eventually(is_in_force)
    async with client:
        create = client.chat.completions.with_raw_response.create
        answer = await create(model="scripted", messages=QUESTION, max_tokens=899, extra_body={"script": ANSWER})
        headers = answer.headers
        assert answer.parse().usage.total_tokens == 100  # type: ignore[union-attr]
        assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-limit-requests"]) == ("100", "600")
        assert headers["x-ratelimit-remaining-tokens"] == "0", "899 tokens were reserved then"
        assert headers["x-ratelimit-reset-tokens"].endswith("s")
        with pytest.raises(openai.RateLimitError) as raised:
            await create(model="scripted", messages=QUESTION, max_tokens=900, extra_body={"script": ANSWER})
        assert raised.value.code == "rate_limit_exceeded"
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60


async def test_usage_of_a_generation_whose_worker_was_killed_is_charged_once(
    running: Stack, http: aiohttp.ClientSession
) -> None:
    await set_policy(running, http, "ben", tokens_per_minute=1_000_000)
    ben = apis(running, http, "ben-key-22")[0]

    async def nothing_runs() -> bool:
        use = await use_of(running, http, "ben")
        return bool(use["waiting"] + use["running"] == 0 and use["reserved"]["tokens"] == 0)

    await eventually(nothing_runs)
    before = (await use_of(running, http, "ben"))["month"]["tokens"]
    generation_id = await ben.create_scripted(*HANG, tailrace={"on_interrupt": "fail"})
    stream = await ben.stream(generation_id)
    await stream.until_text("So far")
    await running.workers[0].stop(signal.SIGKILL)
    await stream.until("done")
    stream.cut()
    usage = (await ben.wait_for_result(generation_id))["usage"]
    await eventually(nothing_runs)
    assert (await use_of(running, http, "ben"))["month"]["tokens"] == before + usage["total_tokens"] > before
    await running.workers[0].start()
    for _ in range(2):  # by a cancel and a delete of what has ended
        await ben.cancel(generation_id)
    await ben.delete(generation_id)
    answered = await ben.wait_for_result(await ben.create_scripted(*ANSWER))
    assert answered["status"] == "completed", answered
    await eventually(nothing_runs)
    assert (await use_of(running, http, "ben"))["month"]["tokens"] == before + usage["total_tokens"] + 100
