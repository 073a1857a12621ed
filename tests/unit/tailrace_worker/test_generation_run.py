"""A run of one generation: when it runs nothing, and what it does before its first lease and at its end."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from support.attempts import ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.ends import confirmations_on, terminate
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.events import Done
from tailrace.ids import new_generation_id
from tailrace.log import Log, Outcome
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.generation_run import GenerationRun
from tailrace_worker.upstream.client import UpstreamClient


class Harness:
    """A generation that waits, and a run of it."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.log = log
        self.queue = queue_on(redis)
        self.confirmations = confirmations_on(log, self.queue)
        self.upstream = UpstreamClient(Settings())
        self.appender = Appender(log, self.queue.index.register)
        self.generation_id = new_generation_id()
        self.job_id = ""
        self.generation_run = GenerationRun(
            Settings(), log, self.queue, self.confirmations, self.appender, self.upstream, "this worker", lambda: 0
        )

    async def run(self) -> None:
        await self.generation_run.run(self.generation_id, self.job_id)

    async def done(self) -> Done | None:
        return await done_of_log(self.log, self.generation_id)


@pytest.fixture
async def harness(redis: Redis, log: Log) -> AsyncIterator[Harness]:
    harness = Harness(redis, log)
    await submit(log, harness.queue, record_of(id=harness.generation_id))
    harness.job_id = (await log.state(harness.generation_id)).job_id
    appending = asyncio.create_task(harness.appender.run())
    yield harness
    await cancel_and_wait(appending)
    await harness.upstream.close()


async def test_run_of_an_ended_generation_opens_no_stream(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await terminate(harness.log, harness.queue, harness.generation_id, "cancelled")
    await harness.run()
    assert harness.generation_run.state is None
    assert dialect.opened == 0
    assert len(harness.confirmations) == 0


async def test_run_of_a_generation_that_another_worker_runs_opens_no_stream_and_marks_its_job(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await harness.log.acquire(harness.generation_id, "token", worker="another worker")
    await harness.run()
    assert dialect.opened == 0
    assert await redis.zscore(keys.QUEUE, harness.job_id) is None
    assert (await harness.log.state(harness.generation_id)).worker == "another worker"


async def test_run_before_its_first_lease_has_nothing_to_stop_or_to_send(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.generation_run.stop(Outcome.FENCED)
    harness.generation_run.resend_from_last()
    assert harness.generation_run.state is None
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await harness.run()
    done = await harness.done()
    assert done is not None
    assert (done.status, [item.text for item in done.output]) == ("completed", ["Hi"])
    assert len(harness.confirmations) == 1


async def test_run_that_is_ending_is_neither_stopped_nor_sent_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`finish` alone finds out whether another process holds the generation."""
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    finish = harness.log.finish

    async def interfere_first(*arguments: object) -> object:
        harness.generation_run.stop(Outcome.FENCED)
        harness.generation_run.resend_from_last()
        return await finish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.log, "finish", interfere_first)
    await harness.run()
    done = await harness.done()
    assert done is not None
    assert done.status == "completed"
    assert harness.generation_run._current is not None
    assert not harness.generation_run._current.writer.stopped.done()
    assert harness.generation_run._current.writer.freeze() is None


async def test_run_that_is_stopped_writes_no_end(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), never := asyncio.Event())
    running = asyncio.create_task(harness.run())
    async with asyncio.timeout(5):
        while not dialect.opened:  # noqa: ASYNC110 - the dialect signals nothing
            await asyncio.sleep(0.01)
        harness.generation_run.stop(Outcome.FENCED)
        await running
    assert not never.is_set()
    assert dialect.closed == 1
    assert await harness.done() is None
