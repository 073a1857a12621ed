"""An attempt on a real log: the ways to end that need no upstream."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.events import Done
from tailrace.ids import new_generation_id, new_token
from tailrace.lifecycle import finalization
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.attempt import Attempt
from tailrace_worker.upstream.client import UpstreamClient

MAX_ATTEMPTS = 2


class Harness:
    """One generation, and the attempts at it."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.log = log
        self.queue = queue_on(redis)
        self.settings = Settings(max_attempts=MAX_ATTEMPTS)
        self.upstream = UpstreamClient(self.settings)
        self.appender = Appender(log, self.queue.index.register)
        self.generation_id = new_generation_id()

    async def attempt(self) -> Attempt:
        grant = await self.log.acquire(self.generation_id, new_token(), worker="this worker")
        return Attempt(self.settings, self.log, self.queue, self.appender, self.upstream, grant)

    async def done(self) -> Done:
        done = await done_of_log(self.log, self.generation_id)
        assert done is not None
        return done


@pytest.fixture
async def harness(redis: Redis, log: Log) -> AsyncIterator[Harness]:
    harness = Harness(redis, log)
    await submit(log, harness.queue, record_of(id=harness.generation_id))
    yield harness
    await harness.upstream.close()


async def test_an_attempt_beyond_the_limit_ends_the_generation_as_failed(harness: Harness) -> None:
    for _ in range(MAX_ATTEMPTS):
        await harness.attempt()
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")


async def test_an_attempt_past_the_deadline_ends_the_generation_as_failed(harness: Harness) -> None:
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")


async def test_the_end_of_an_attempt_runs_every_step_of_finalize(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    finalized = []

    async def record_it(_: Queue, state: GenerationState) -> None:
        finalized.append(state.record.id)

    monkeypatch.setattr(finalization, "STEPS", (record_it, *finalization.STEPS))
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    assert finalized == [harness.generation_id]
    assert await harness.queue.load("anna") == (0, 0, None)
