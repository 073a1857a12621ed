"""A run of one generation: when it runs nothing, and what it does before its first lease and at its end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.attempts import ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.ends import confirmations_on, terminate
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.events import Done, Upstream
from tailrace.ids import new_generation_id
from tailrace.log import Log, Outcome
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace.upstreams.prices import Price
from tailrace_worker.appenders import Appenders
from tailrace_worker.attempt import Attempt
from tailrace_worker.generation_run import GenerationRun
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream_pool import UpstreamPool


class Harness:
    """A generation that waits, and a run of it."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.log = log
        self.queue = queue_on(redis)
        self.confirmations = confirmations_on(log, self.queue)
        self.pool = UpstreamPool(Settings(), self.queue.upstreams, "this worker")
        self.appenders = Appenders(log, self.queue.index.register)
        self.generation_id = new_generation_id()
        self.job_id = ""
        self.generation_run = GenerationRun(
            Settings(), log, self.queue, self.confirmations, self.appenders, self.pool, "this worker", lambda: 0
        )

    async def run(self) -> None:
        await self.generation_run.run(self.generation_id, self.job_id)

    async def texts(self) -> list[str | None]:
        return [item.text for item in (await self.log.output(self.generation_id)).items()]

    async def done(self) -> Done | None:
        return await done_of_log(self.log, self.generation_id)


@pytest.fixture
async def harness(redis: Redis, log: Log) -> AsyncIterator[Harness]:
    harness = Harness(redis, log)
    await submit(log, harness.queue, record_of(id=harness.generation_id))
    harness.job_id = (await log.state(harness.generation_id)).job_id
    appending = asyncio.create_task(harness.appenders.run())
    yield harness
    await cancel_and_wait(appending)
    await harness.pool.close()


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


async def test_run_that_the_upstream_always_interrupts_counts_the_attempts_that_began_and_names_the_cause(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), ConnectionLost("it broke"))
    await harness.run()
    done, attempts = await harness.done(), Settings().max_attempts
    assert done is not None
    assert done.error is not None
    cause = "Too many attempts failed; the last one: the upstream broke off the answer."
    assert (done.status, done.error.code, done.error.message) == ("failed", "attempts_exhausted", cause)
    assert [item.text for item in done.output] == ["Hi"]
    assert dialect.opened == (await harness.log.state(harness.generation_id)).attempt == attempts
    (line,) = [each for each in caplog.messages if "attempts_exhausted" in each]
    assert cause in line
    assert f"(attempt {attempts}, " in line


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


async def test_log_names_the_cancel_that_stopped_a_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), asyncio.Event())
    running = asyncio.create_task(harness.run())
    async with asyncio.timeout(5):
        while not dialect.opened:  # noqa: ASYNC110 - the dialect signals nothing
            await asyncio.sleep(0.01)
        await terminate(harness.log, harness.queue, harness.generation_id, "cancelled")
        harness.generation_run.stop(Outcome.FENCED)
        await running
    assert f"{harness.generation_id}: stopped: another process ends it as cancelled" in caplog.messages


async def test_log_names_the_worker_from_which_a_run_was_taken_over(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lost = await harness.log.acquire(harness.generation_id, "token", worker="pm6pabcdefghijkl")
    assert await harness.log.release(harness.generation_id, lost.epoch, harness.job_id + "x") is Outcome.OK
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await harness.run()
    assert f"{harness.generation_id} taken over from pm6p (attempt 2)" in caplog.messages


async def test_log_has_no_take_over_of_a_first_run(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await harness.run()
    assert "taken over" not in caplog.text


async def test_measures_are_stored_with_the_first_content_by_one_command(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel before the first renewal of the lease has the upstream, the cost and the first content."""
    monkeypatch.setattr(Attempt, "price", Price(input=1, output=2))
    first = text_chunk("Hi") | {"id": "chatcmpl-1", "model": "m-1"}
    ScriptedDialect(monkeypatch, first, text_chunk("!"), text_chunk("?"), asyncio.Event())
    renew, renewals = harness.log.renew, 0

    async def count_renewals(*args: Any, **options: Any) -> Any:
        nonlocal renewals
        renewals += 1
        return await renew(*args, **options)

    monkeypatch.setattr(harness.log, "renew", count_renewals)
    running = asyncio.create_task(harness.run())
    async with asyncio.timeout(5):
        while harness.generation_run._storing or await harness.texts() != ["Hi!?"]:  # noqa: ASYNC110 - the run signals nothing
            await asyncio.sleep(0.01)
    await terminate(harness.log, harness.queue, harness.generation_id, "cancelled")
    harness.generation_run.stop(Outcome.FENCED)
    await running
    done = await harness.done()
    assert done is not None
    assert done.upstream == Upstream("chatcmpl-1", "m-1")
    assert done.timings.first_token is not None
    assert done.cost
    assert done.stream.chunks
    assert renewals == 1


async def test_run_that_is_interrupted_keeps_its_measures_in_the_attempts_that_follow(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hi"), ConnectionLost("it broke"))
    await harness.run()
    done, attempts = await harness.done(), Settings().max_attempts
    assert done is not None
    assert (done.stream.attempts, done.stream.chunks, done.stream.retries) == (attempts, attempts, 0)
    assert [each.code for each in done.stream.failed] == ["upstream_unreachable"] * attempts
    assert [each.delay is None for each in done.stream.failed] == [False] * (attempts - 1) + [True]
