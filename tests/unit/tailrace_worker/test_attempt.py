"""An attempt on a real log: the ways to end, and what it does with an upstream's stream."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from support.chat_chunks import end, text_chunk
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.events import Done, Json
from tailrace.ids import new_generation_id, new_token
from tailrace.lifecycle import finalization
from tailrace.log import Log
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker import attempt as module
from tailrace_worker.appender import Appender
from tailrace_worker.attempt import Attempt
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT

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
