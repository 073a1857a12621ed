"""An attempt on a real log: the ways to end, and what it does with an upstream's stream."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from support.attempts import MAX_ATTEMPTS, AttemptHarness, ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.logs import record as record_of
from support.logs import text_opened, texts
from support.queues import submit
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused, TailraceError
from tailrace.events import Done, Options, Started
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch
from tailrace.log.output import Output
from tailrace_worker import attempt as module


async def test_attempt_beyond_the_limit_ends_the_generation_as_failed(harness: AttemptHarness) -> None:
    for _ in range(MAX_ATTEMPTS):
        await harness.attempt()
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")


async def test_attempt_past_the_deadline_ends_the_generation_as_failed(harness: AttemptHarness) -> None:
    await harness.log.server.client.hset(keys.state(harness.generation_id), "deadline", "1")  # type: ignore[misc]
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")


async def test_attempt_writes_the_answer_and_its_end(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hel"), text_chunk("lo"), end("length"), b"[DONE]")
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, [item.text for item in done.output]) == ("incomplete", ["Hello"])


async def test_attempt_closes_a_half_read_stream_before_it_ends(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
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
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, b"{not json", text_chunk("Hi"), {"choices": 7}, end())
    await (await harness.attempt()).run("worker_lost")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"{harness.generation_id}: upstream sent 2 malformed values"]


async def test_attempt_logs_no_warning_for_a_well_formed_answer(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end())
    await (await harness.attempt()).run("worker_lost")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_attempt_requests_an_empty_answer_again_and_then_fails_the_generation(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_DELAY_S", 0.001)
    dialect = ScriptedDialect(monkeypatch)
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "upstream_empty")
    assert (dialect.opened, dialect.closed) == (1 + harness.settings.upstream_retries,) * 2


async def test_attempt_ends_an_answer_that_outgrows_the_log_as_incomplete(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings = harness.settings.model_copy(update={"max_log_bytes": 64 * 1024})
    dialect = ScriptedDialect(monkeypatch, *[text_chunk(5000 * "x")] * 100, end())
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("incomplete", "log_limit")
    assert 32 * 1024 - 5000 < len(done.output[0].text or "") < 100 * 5000
    assert dialect.closed == 1


async def test_attempt_with_a_defect_fails_the_generation_and_logs_the_error(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hel"), text_chunk("lo"), ZeroDivisionError("a defect"))
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "internal_error")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        f"{harness.generation_id}: the run failed"
    ]
    assert await harness.queue.load("anna") == (0, 0, None)


@pytest.mark.parametrize(
    ("error", "code"), [(RedisFull(), "out_of_memory"), (RedisRefused(detail="no permission"), "append_refused")]
)
async def test_attempt_whose_rows_redis_refuses_fails_the_generation(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, error: TailraceError, code: str
) -> None:
    async def refuse(batches: Sequence[AppendBatch]) -> list[TailraceError]:
        return [error] * len(batches)

    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), asyncio.Event())
    monkeypatch.setattr(harness.log, "append", refuse)
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", code)
    assert dialect.opened == dialect.closed


@pytest.mark.parametrize(("on_interrupt", "status"), [("fail", "failed"), ("restart", "completed")])
async def test_attempt_after_a_lost_one_begins_again_only_where_the_request_allows_it(
    harness: AttemptHarness,
    appending: None,
    monkeypatch: pytest.MonkeyPatch,
    on_interrupt: Literal["fail", "restart"],
    status: str,
) -> None:
    harness.generation_id = new_generation_id()
    record = record_of(id=harness.generation_id, options=Options(60, 60, on_interrupt=on_interrupt))
    await submit(harness.log, harness.queue, record)
    lost = (await harness.attempt()).writer
    for event in (Started(1, 1.0), text_opened(), *texts("Hel")):
        lost.add(event)
    await lost.flush()
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hello"), end())
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == (status, "worker_lost" if status == "failed" else None)
    assert [item.text for item in done.output] == ["Hel" if status == "failed" else "Hello"]
    assert dialect.opened == (status == "completed")
