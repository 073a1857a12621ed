"""An attempt on a real log: the ways to end, and what it does with an upstream's stream."""

import logging
from typing import Any

import pytest

from support.attempts import MAX_ATTEMPTS, AttemptHarness, ScriptedDialect
from support.chat_chunks import end, text_chunk
from tailrace import keys
from tailrace.events import Done
from tailrace.log.output import Output


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
