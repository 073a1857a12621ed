"""The load of `tailrace dev --load` in its parts; integration/test_dev_load.py has the whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from tailrace.errors import InvalidRequest
from tailrace.queue.caller_policies import NO_POLICY, CallerPolicy, parse_policy
from tailrace.settings import Settings
from tailrace_cli import dev
from tailrace_cli.access import opened
from tailrace_cli.embedded import EmbeddedServer
from tailrace_cli.load import LoadPlan, run_load
from tailrace_cli.load_mix import CALLERS, callers_in, description, models_of
from tailrace_cli.load_readers import LIVE, Reader, Readers
from tailrace_demo.answers import MODELS
from tailrace_demo.scenarios import ONCE, PREFIX, SCENARIOS

NAMES = tuple(callers_in(Settings()))
FRAMES = [f"id: 1-{n}\nevent: text\ndata: {{}}\n\n".encode() for n in range(1, 4)]


def test_every_model_of_the_load_is_one_of_the_demo() -> None:
    models = {model.partition("@")[0] for caller in CALLERS.values() for model in models_of(caller, has_faults=True)}
    names = {model.removeprefix(PREFIX).removesuffix(ONCE) for model in models if model.startswith(PREFIX)}
    assert names <= SCENARIOS.keys()
    assert {model for model in models if not model.startswith(PREFIX)} <= MODELS.keys()


def test_shares_of_the_callers_are_the_whole_rate() -> None:
    assert sum(caller.share for caller in CALLERS.values()) == pytest.approx(1)
    weights = [parse_policy(caller.policy).weight for caller in CALLERS.values()]
    assert len(set(weights)) == len(weights)


def test_load_without_faults_has_answers_alone() -> None:
    for caller in CALLERS.values():
        assert models_of(caller, has_faults=False).keys() == caller.answers.keys()
    assert "a and b; no faults: http://x/dashboard" in description(2, ["a", "b"], "http://x", has_faults=False)


def test_first_caller_of_open_mode_is_that_of_all_requests() -> None:
    assert NAMES == ("open", "mobile", "batch", "evals")
    assert list(callers_in(Settings(api_keys=SecretStr("me:a-key-of-mine")))) == ["web", "mobile", "batch", "evals"]


@pytest.mark.parametrize("rate", [0.0, -1.0, 50.1, float("nan"), float("inf")])
def test_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(InvalidRequest, match="up to 50 generations a second"):
        dev.main(Settings(), load_rate=rate)


class Frontend:
    """Sends FRAMES after the cursor, or refuses. `cursors`: of the requests."""

    def __init__(self) -> None:
        self.cursors: list[str | None] = []
        self.status = 200
        self.released = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        cursor = request.headers.get("last-event-id")
        self.cursors.append(cursor)
        response = web.StreamResponse(status=self.status, headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if cursor is None:
            await response.write(FRAMES[0] + FRAMES[1] + FRAMES[2][:9])
            await self.released.wait()
        return response


@pytest.fixture
async def served() -> AsyncIterator[tuple[Frontend, aiohttp.ClientSession]]:
    frontend, app = Frontend(), web.Application()
    app.router.add_get("/v1/admin/generations/{id}/events", frontend.answer)
    app.router.add_get("/v1/generations/{id}/events", frontend.answer)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as http:
        yield frontend, http


@pytest.mark.parametrize("owner", ["open", "mobile"])
async def test_reader_that_returns_reads_on_after_its_last_whole_event(
    served: tuple[Frontend, aiohttp.ClientSession], monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    frontend, http = served
    monkeypatch.setattr("tailrace_cli.load_readers.STAYS_S", (0.5, 0.5))
    monkeypatch.setattr("tailrace_cli.load_readers.AWAY_S", 0)
    await Readers(http, "").read("gen_a", owner, Reader(leaves=True, returns=True))
    frontend.released.set()
    assert frontend.cursors == [None, "1-2"]


async def test_refusal_of_readers_is_reported_once(
    served: tuple[Frontend, aiohttp.ClientSession], caplog: pytest.LogCaptureFixture
) -> None:
    frontend, http = served
    frontend.status = 403
    frontend.released.set()
    readers = Readers(http, "a-key")
    for _ in range(3):
        await readers.read("gen_a", "web", LIVE)
    assert len(frontend.cursors) == 1
    (record,) = caplog.records
    assert "admin:content" in record.getMessage()


async def test_end_of_the_load_cancels_what_is_unfinished_and_removes_its_policies(
    redis: Redis, valkey: EmbeddedServer, tmp_path: Path
) -> None:
    """No worker is there: everything waits."""
    settings, ending = Settings(redis_url=valkey.url, data_dir=tmp_path), asyncio.Event()
    async with opened(settings) as access:
        await access.policies.put("mobile", CallerPolicy(weight=7))
        loading = asyncio.create_task(run_load(settings, LoadPlan(50), "http://127.0.0.1:1", lambda: False, ending))
        async with asyncio.timeout(20):
            while not all([(await access.generations.list(name, 1, None))[0] for name in NAMES]):  # noqa: ASYNC110 - Redis has it
                await asyncio.sleep(0.01)
            await access.policies.refresh()
            assert access.policies.policy("open").weight == 3
            ending.set()
            await loading
        await access.policies.refresh()
        assert {name: access.policies.policy(name) for name in NAMES} == {
            name: CallerPolicy(weight=7) if name == "mobile" else NO_POLICY for name in NAMES
        }
        for name in NAMES:
            states, _ = await access.generations.list(name, 100, None)
            assert {state.status for state in states} == {"cancelled"}
