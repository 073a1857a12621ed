"""The probes of a worker. (`test_operations.py` has their HTTP.)"""

import asyncio
import json
from typing import Any

import pytest

from tailrace.errors import RedisUnavailable, Unavailable
from tailrace.process import recent
from tailrace.redis.check_steps import Uses
from tailrace_worker import health
from tailrace_worker.health import Health


class Server:
    """A server with these problems."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.warnings: list[str] = []
        self.is_away = False
        self.asked = 0
        self.uses = Uses(0)

    async def problems(self, uses: Uses) -> tuple[list[str], list[str]]:
        self.asked += 1
        self.uses = uses
        if self.is_away:
            raise RedisUnavailable
        return self.wrong, self.warnings


class Harness:
    def __init__(self) -> None:
        self.log_server, self.queue_server = Server(), Server()
        self.lost: list[str] = []
        log_server: Any = self.log_server
        queue_server: Any = self.queue_server
        self.health = Health(log_server, queue_server, lambda: self.lost)
        self.health.has_started = True

    async def get(self, path: str) -> Any:
        return json.loads((await self.health.routes()[path]()).body)

    async def refusal(self, path: str) -> str:
        with pytest.raises(Unavailable) as refused:
            await self.health.routes()[path]()
        return refused.value.message


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr(recent, "MAX_AGE_S", -1.0)
    return Harness()


async def test_worker_that_runs_passes_every_probe(harness: Harness) -> None:
    assert await harness.get("/livez") == await harness.get("/startupz") == {"status": "ok"}
    assert await harness.get("/readyz") == {"status": "ok", "warnings": []}


async def test_worker_without_redis_lives_and_is_not_ready(harness: Harness) -> None:
    harness.queue_server.is_away = True
    assert await harness.get("/livez") == await harness.get("/startupz") == {"status": "ok"}
    assert "Redis" in await harness.refusal("/readyz")
    harness.queue_server.is_away = False
    assert (await harness.get("/readyz"))["status"] == "ok"


async def test_worker_that_is_being_built_has_not_started(harness: Harness) -> None:
    harness.health.has_started = False
    assert await harness.refusal("/startupz") == "This worker is starting."
    assert await harness.get("/livez") == {"status": "ok"}


async def test_worker_that_stops_is_not_ready(harness: Harness) -> None:
    harness.health.is_stopping = True
    assert await harness.refusal("/readyz") == "This worker is stopping."
    assert await harness.get("/livez") == {"status": "ok"}


async def test_readiness_names_what_is_wrong_behind_its_server(harness: Harness) -> None:
    harness.log_server.warnings = ["appendonly is off"]
    harness.lost = ["of new work"]
    assert (await harness.get("/readyz"))["warnings"] == [
        "redis: appendonly is off", "the subscriber connection of new work is down"
    ]  # fmt: skip
    harness.queue_server.wrong = ["version 6"]
    assert await harness.refusal("/readyz") == "the queue's server: version 6"


async def test_readiness_tries_each_server_for_what_it_keeps(harness: Harness) -> None:
    await harness.get("/readyz")
    assert (harness.log_server.uses, harness.queue_server.uses) == (Uses.LOG, Uses.QUEUE)
    server: Any = harness.log_server
    await Health(server, None, list).check_ready()
    assert server.uses is Uses.BOTH


async def test_readiness_asks_redis_once_a_second_however_often_it_is_requested() -> None:
    harness = Harness()
    await asyncio.gather(*(harness.get("/readyz") for _ in range(50)))
    assert harness.log_server.asked == 1


async def test_readiness_of_a_heartbeat_waits_for_no_server(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READINESS_KEPT_S", 0.0)
    harness.queue_server.warnings = ["no append-only file"]
    refusal, warnings = await harness.health.readiness()
    assert (refusal, len(warnings)) == ("", 1)
    harness.log_server.wrong = ["maxmemory-policy is allkeys-lru"]
    assert "allkeys-lru" in (await harness.health.readiness())[0]
    harness.log_server.is_away = True
    assert (await harness.health.readiness())[0]
    answered = asyncio.Event()

    async def hangs(_: Uses) -> tuple[list[str], list[str]]:
        await answered.wait()
        return [], []

    monkeypatch.setattr(harness.log_server, "problems", hangs)
    assert await harness.health.readiness() == ("A server does not answer.", [])
    answered.set()


async def test_readiness_is_kept_for_a_while_but_not_that_of_a_worker_that_stops(harness: Harness) -> None:
    for _ in range(5):
        assert await harness.health.readiness() == ("", [])
    assert harness.log_server.asked == 1
    harness.health.is_stopping = True
    assert (await harness.health.readiness())[0] == "This worker is stopping."
