"""Every kind of end has a usage: the upstream's, or an estimate that is marked as one."""

import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.stack import Stack, stack
from tailrace.log import Log
from tailrace.redis.server import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Step = dict[str, Any]
GRACE_S = 6.0
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
ESTIMATE = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4, "estimated": True}
"""Of the question `Hello?` and the text of `TEXT`."""

TEXT: list[Step] = [{"delta": {"content": "So "}}, {"delta": {"content": "far"}}]
STOP: Step = {"delta": {}, "finish_reason": "stop"}
DONE: Step = {"done": True}
HANG: Step = {"hang": True}
FAIL = {"tailrace": {"on_interrupt": "fail"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stack]:
    settings: dict[str, Any] = {
        "lease_s": "0.5",
        "upstream_idle_timeout_s": "3",
        "max_attempts": "1",
        "upstream_retries": "0",
    }
    async with stack(**settings, disconnect_grace_s=str(GRACE_S), max_log_bytes="65536") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def api(running: Stack) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as http:
        yield Api(http, running.url)


async def with_text(api: Api, *steps: Step, **fields: Any) -> str:
    """The id of a generation whose text so far is in its log."""
    generation_id = await api.create_scripted(*TEXT, *steps, **fields)
    stream = await api.stream(generation_id)
    await stream.until_text("So far")
    stream.cut()
    return generation_id


async def ended(api: Api, generation_id: str) -> tuple[str, str | None, Any]:
    """Status, code of the error and usage; those of `done` are the same."""
    result = await api.wait_for_result(generation_id)
    done = (await api.read(generation_id)).events[-1].value
    assert done.get("usage") == result["usage"]
    assert done["stream"] == result["stream"]
    assert result["stream"]["attempts"] == 1
    return result["status"], result["error"] and result["error"]["code"], result["usage"]


ENDS: dict[str, tuple[list[Step], str, str | None, Any]] = {
    "complete, with a usage": ([*TEXT, STOP, {"usage": USAGE}, DONE], "completed", None, USAGE),
    "complete, without a usage": ([*TEXT, STOP, DONE], "completed", None, ESTIMATE),
    "cut by its length": ([*TEXT, STOP | {"finish_reason": "length"}, DONE], "incomplete", None, ESTIMATE),
    "truncated": (TEXT, "incomplete", "upstream_truncated", ESTIMATE),
    "truncated, after a usage": ([*TEXT, {"usage": USAGE}], "incomplete", "upstream_truncated", USAGE),
    "reset": ([*TEXT, {"reset": True}], "failed", "upstream_unreachable", ESTIMATE),
    "an error in the stream": (
        [*TEXT, {"chunk": {"choices": [], "error": {"message": "Busy.", "code": "busy"}}}], "failed", "busy", ESTIMATE,
    ),
    "silent": ([*TEXT, HANG], "failed", "upstream_timeout", ESTIMATE),
    "refused": (
        [{"status": 400, "json": {"error": {"message": "No.", "code": "bad"}}}], "failed", "bad",
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "estimated": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
async def test_end_by_the_upstream_has_a_usage(api: Api, end: str) -> None:
    steps, status, code, usage = ENDS[end]
    generation_id = await api.create_scripted(*steps, **FAIL)
    assert await ended(api, generation_id) == (status, code, usage)


async def test_answer_beyond_the_limit_has_a_usage(api: Api) -> None:
    generation_id = await api.create_scripted({"delta": {"content": 100_000 * "x"}}, HANG)
    status, code, usage = await ended(api, generation_id)
    assert (status, code) == ("incomplete", "log_limit")
    assert usage == {"prompt_tokens": 2, "completion_tokens": 25_000, "total_tokens": 25_002, "estimated": True}


async def test_cancelled_answer_has_a_usage(api: Api) -> None:
    generation_id = await with_text(api, HANG)
    await api.cancel(generation_id)
    assert await ended(api, generation_id) == ("cancelled", None, ESTIMATE)


async def test_cancelled_answer_has_the_measures_of_the_last_renewal(running: Stack, api: Api) -> None:
    generation_id = await with_text(api, HANG)
    log = Log(RedisServer.connect(running.redis.url), 500)

    async def is_measured() -> bool:
        return (await log.measures(generation_id)).stream.chunks == 2

    await eventually(is_measured)
    result = (await api.cancel(generation_id)).value
    await log.server.close()
    assert (result["stream"]["chunks"], result["stream"]["attempts"]) == (2, 1)
    assert result["timings"]["first_token"] > 0
    assert result["stream"]["slowest"]


async def test_answer_past_its_deadline_has_a_usage(api: Api) -> None:
    generation_id = await with_text(api, HANG, tailrace={"deadline_s": 1})
    assert await ended(api, generation_id) == ("failed", "deadline_exceeded", ESTIMATE)


async def test_answer_whose_client_has_left_has_a_usage(api: Api) -> None:
    endless = {"tokens": {"count": 10_000, "rate": 5}}
    generation_id = await with_text(api, endless, tailrace={"on_disconnect": "cancel"})

    async def has_ended() -> bool:  # asked without `?wait=`, which counts as a reader
        return bool((await api.get(generation_id)).value["status"] != "running")

    await eventually(has_ended, 3 * GRACE_S)
    status, code, usage = await ended(api, generation_id)
    assert (status, code) == ("cancelled", "client_disconnected")
    assert usage["estimated"]
    assert usage["completion_tokens"] > ESTIMATE["completion_tokens"]


@pytest.mark.parametrize("on_interrupt", ["fail", "restart"])
async def test_answer_that_lost_its_worker_has_a_usage(running: Stack, api: Api, on_interrupt: str) -> None:
    generation_id = await with_text(api, HANG, tailrace={"on_interrupt": on_interrupt})
    await running.workers[0].stop(signal.SIGKILL)
    try:
        status, _, usage = await ended(api, generation_id)
    finally:
        await running.workers[0].start()
    assert (status, usage) == ("failed", ESTIMATE)


async def test_generation_that_no_worker_has_begun_has_no_usage(running: Stack, api: Api) -> None:
    await running.workers[0].stop(signal.SIGKILL)
    try:
        generation_id = await api.create_scripted(*TEXT)
        await api.cancel(generation_id)
        result = await api.wait_for_result(generation_id)
    finally:
        await running.workers[0].start()
    assert (result["status"], result["usage"], result["cost"]) == ("cancelled", None, None)
    assert result["stream"] == {"attempts": 0}
