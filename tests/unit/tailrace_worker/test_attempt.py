"""An attempt on a real log: the ways to end, what it does with an upstream's stream, and how it confirms its end."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.chat_chunks import end, text_chunk
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import Snapshot, done_of_log, expire, lose, stored_entries
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import Done, Json, Options
from tailrace.ids import new_generation_id, new_token
from tailrace.lifecycle import finalization
from tailrace.log import AppendResult, Log
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker import attempt as module
from tailrace_worker.appender import Appender
from tailrace_worker.attempt import CONFIRM_MARGIN_S, Attempt
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT

MAX_ATTEMPTS = 2
SLACK_S = 2.0  # a slow machine may take this long beyond a bound


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


async def test_attempt_beyond_the_limit_ends_the_generation_as_failed(harness: Harness) -> None:
    for _ in range(MAX_ATTEMPTS):
        await harness.attempt()
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")


async def test_attempt_past_the_deadline_ends_the_generation_as_failed(harness: Harness) -> None:
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")


async def test_end_of_an_attempt_runs_every_step_of_finalize(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    finalized = []

    async def record_it(_: Queue, state: GenerationState) -> None:
        finalized.append(state.record.id)

    monkeypatch.setattr(finalization, "STEPS", (record_it, *finalization.STEPS))
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    assert finalized == [harness.generation_id]
    assert await harness.queue.load("anna") == (0, 0, None)


class ScriptedDialect:
    """A dialect whose every stream has these payloads, one a read: chunks, or bytes as they are.

    `closed` counts the streams that were closed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *payloads: Json | bytes) -> None:
        self.closed = 0
        self._payloads = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in payloads]
        monkeypatch.setattr(module, "DIALECTS", {DEFAULT_DIALECT: Dialect(self._open, ChatTranslator)})

    async def _open(self, _: UpstreamClient, __: Json) -> AsyncGenerator[list[bytes], None]:
        try:
            for payload in self._payloads:
                yield [payload]
        finally:
            self.closed += 1


@pytest.fixture
async def appending(harness: Harness) -> AsyncIterator[None]:
    task = asyncio.create_task(harness.appender.run())
    yield
    await cancel_and_wait(task)


async def test_attempt_writes_the_answer_and_its_end(
    harness: Harness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hel"), text_chunk("lo"), end("length"), b"[DONE]")
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, [item.text for item in done.output]) == ("incomplete", ["Hello"])


async def test_attempt_closes_a_half_read_stream_before_it_ends(
    harness: Harness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = ScriptedDialect(
        monkeypatch, text_chunk("Hi"), {"error": {"message": "Busy", "code": "busy"}}, text_chunk("more")
    )
    closed_at_end = []
    build_done = Output.build_done

    def recorded(*args: Any, **fields: Any) -> Done:
        closed_at_end.append(dialect.closed)
        return build_done(*args, **fields)

    monkeypatch.setattr(Output, "build_done", recorded)
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "busy")
    assert closed_at_end == [1]


async def test_attempt_logs_how_many_values_were_malformed(
    harness: Harness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, b"{not json", text_chunk("Hi"), {"choices": 7}, end())
    await (await harness.attempt()).run("worker_lost")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"{harness.generation_id}: upstream sent 2 malformed values"]


async def test_attempt_logs_no_warning_for_a_well_formed_answer(
    harness: Harness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await (await harness.attempt()).run("worker_lost")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


Ending = Callable[[int], Awaitable[Attempt]]
"""Of the retention in seconds: makes an attempt that has just written its end."""


@pytest.fixture
def ended(harness: Harness, appending: None, monkeypatch: pytest.MonkeyPatch) -> Ending:
    async def make(retention_s: int) -> Attempt:
        harness.generation_id = new_generation_id()
        record = record_of(id=harness.generation_id, options=Options(60, retention_s))
        await submit(harness.log, harness.queue, record)
        ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
        attempt = await harness.attempt()
        await attempt.run("worker_lost")
        return attempt

    return make


async def test_confirm_restores_an_end_that_redis_has_lost(
    harness: Harness, redis: Redis, ended: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    before = await stored_entries(redis, harness.generation_id)
    await lose(redis, harness.generation_id)
    await attempt.confirm(ReconnectSignal())
    assert await stored_entries(redis, harness.generation_id) == before
    assert (await harness.log.state(harness.generation_id)).status == "completed"
    assert await harness.queue.load("anna") == (1, 1, None)  # the fixture's generation, which waits


async def test_confirm_writes_the_end_again_on_a_server_with_older_data(
    harness: Harness, redis: Redis, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end(), b"[DONE]")
    attempt = await harness.attempt()
    older = await Snapshot.take(redis, harness.generation_id)
    await attempt.run("worker_lost")
    before = await stored_entries(redis, harness.generation_id)
    await older.bring_back()
    await attempt.confirm(ReconnectSignal())
    assert await stored_entries(redis, harness.generation_id) == before
    assert await harness.queue.load("anna") == (0, 0, None)


async def test_confirm_restores_nothing_that_has_expired(
    harness: Harness, redis: Redis, ended: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 0.1)
    attempt = await ended(60)
    await expire(redis, harness.generation_id)
    await attempt.confirm(ReconnectSignal())
    assert not await redis.exists(keys.state(harness.generation_id), keys.log(harness.generation_id))


async def test_confirm_restores_nothing_once_the_retention_is_over(
    harness: Harness, redis: Redis, ended: Ending
) -> None:
    attempt = await ended(1)
    await asyncio.sleep(1)
    await lose(redis, harness.generation_id)
    await attempt.confirm(ReconnectSignal())
    assert not await redis.exists(*keys.of_generation(harness.generation_id))


async def test_confirm_ends_within_the_retention_while_redis_is_away(
    harness: Harness, ended: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def finish(*_: Any) -> AppendResult:
        raise RedisUnavailable

    attempt = await ended(1)
    monkeypatch.setattr(harness.log, "finish", finish)
    async with asyncio.timeout(1 - CONFIRM_MARGIN_S + SLACK_S):
        await attempt.confirm(ReconnectSignal())


async def test_confirm_ends_within_the_retention_while_connections_are_lost(
    harness: Harness, redis: Redis, ended: Ending
) -> None:
    async def lose_connections() -> None:
        while True:
            reconnects.notify()
            await asyncio.sleep(0.02)

    reconnects = ReconnectSignal()
    attempt = await ended(1)
    for key in keys.of_generation(harness.generation_id)[:2]:
        await redis.persist(key)  # every check finds the end, so the clock alone limits the task
    losing = asyncio.create_task(lose_connections())
    try:
        async with asyncio.timeout(1 - CONFIRM_MARGIN_S + SLACK_S):
            await attempt.confirm(reconnects)
    finally:
        await cancel_and_wait(losing)
