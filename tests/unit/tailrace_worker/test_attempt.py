"""An attempt on a real log: the ways to end, and what it does with an upstream's stream."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import httpx2
import msgspec
import openai
import pytest

from support.attempts import MAX_ATTEMPTS, AttemptHarness, ScriptedDialect
from support.chat_chunks import choice, chunk, end, text_chunk
from support.logs import record as record_of
from support.logs import text_opened, texts, token
from support.queues import submit
from tailrace import keys
from tailrace.errors import RedisFull, RedisRefused, TailraceError
from tailrace.events import Done, Extra, Failure, Options, Started
from tailrace.ids import new_generation_id
from tailrace.log import AppendBatch, Outcome
from tailrace.log.output import Output
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace_worker import asking as module
from tailrace_worker import writer
from tailrace_worker.attempt import UpstreamInterrupted
from tailrace_worker.upstream import retry_after
from tailrace_worker.upstream.errors import ConnectionLost, Unreadable
from tailrace_worker.writer import MAX_UNSENT_BYTES


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


async def test_end_with_an_error_quotes_no_key_of_any_payload_before(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-secret-of-one-123456"
    harness.pool.redaction.add([key])
    error = {"error": "Unauthorized", "message": f"key {key}"}
    ScriptedDialect(monkeypatch, text_chunk("Hi"), chunk(debug=f"Bearer {key}", region="eu"), error)
    attempt = await harness.attempt()
    extras, write = [], attempt.ending.write

    async def recorded(done: Done, extra: Extra) -> Outcome:
        extras.append(extra)
        return await write(done, extra)

    monkeypatch.setattr(attempt.ending, "write", recorded)
    await attempt.run("worker_lost")
    assert (await harness.done()).status == "failed"
    assert [extra.chunk_fields for extra in extras] == [{"debug": "Bearer ***", "region": "eu"}]


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
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.001)
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
    assert 64 * 1024 <= len(done.output[0].text or "") < 100 * 5000
    assert dialect.closed == 1


async def test_attempt_is_not_cut_by_its_many_rows_nor_by_what_earlier_attempts_wrote(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MERGE_CHARACTERS", 0)  # a row for each token, as an idle worker writes them
    harness.settings = harness.settings.model_copy(update={"max_log_bytes": 64 * 1024, "max_attempts": 3})
    tokens = [text_chunk("abc")] * (60 * 1024 // 3)
    for _ in range(2):
        ScriptedDialect(monkeypatch, *tokens, ConnectionLost("in the middle"))
        with pytest.raises(UpstreamInterrupted):
            await (await harness.attempt()).run("upstream_lost")
    ScriptedDialect(monkeypatch, *tokens, end())
    await (await harness.attempt()).run("upstream_lost")
    done = await harness.done()
    assert (done.status, done.error) == ("completed", None)
    assert "".join(item.text or "" for item in done.output) == "abc" * len(tokens)


async def test_attempt_reads_no_further_while_redis_takes_nothing(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    harness.settings = harness.settings.model_copy(update={"upstream_idle_timeout_s": 0.2})
    logprobs = {"content": [token("x" * 100)]}
    payload = json.dumps(chunk(choice({"content": "x" * 2000}, logprobs=logprobs))).encode()
    read: list[int] = []

    def counted() -> Iterator[bytes]:
        for n in range(1000):
            read.append(n)
            yield payload

    ScriptedDialect(monkeypatch, *[]).payloads = chain(counted(), [end(), b"[DONE]"])
    running = asyncio.create_task((await harness.attempt()).run("worker_lost"))
    async with asyncio.timeout(5):
        while "Redis does not take" not in caplog.text:  # noqa: ASYNC110 - the attempt signals nothing
            await asyncio.sleep(0.01)
    await asyncio.sleep(1)  # five times the upstream's idle timeout: it does not count, since nothing is read
    assert MAX_UNSENT_BYTES < len(read) * len(payload) <= MAX_UNSENT_BYTES + 2 * len(payload)
    appending = asyncio.create_task(harness.appenders.run())
    await running
    await cancel_and_wait(appending)
    assert "the upstream is read again after" in caplog.text
    done = await harness.done()
    assert (done.status, done.error) == ("completed", None)
    assert done.output[0].text == 1000 * 2000 * "x"


async def test_attempt_that_waits_for_redis_ends_when_it_is_fenced(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dialect = ScriptedDialect(monkeypatch, *[text_chunk("x" * 10_000)] * 1000)
    attempt = await harness.attempt()
    running = asyncio.create_task(attempt.run("worker_lost"))
    async with asyncio.timeout(5):
        while "Redis does not take" not in caplog.text:  # noqa: ASYNC110 - the attempt signals nothing
            await asyncio.sleep(0.01)
    attempt.writer.stop(Outcome.FENCED)
    async with asyncio.timeout(5):
        await running
    assert dialect.closed == 1


async def test_chunks_without_content_never_stop_an_attempt(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = text_chunk("") | {"padding": None, "system": "y" * 1000}
    ScriptedDialect(monkeypatch, text_chunk("Hi"), *[silent] * 2000, end())
    async with asyncio.timeout(20):
        await (await harness.attempt()).run("worker_lost")
    assert (await harness.done()).status == "completed"


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
    assert (await harness.queue.load("anna"))[:2] == (0, 0)


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


async def test_attempt_ends_as_failed_where_its_end_could_not_be_read_again(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = Failure("No.", "refused", 400)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "failure_from_exception", lambda _: unreadable)
    ScriptedDialect(monkeypatch, ValueError("not to be parsed"))
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.status, done.error and done.error.code) == ("failed", "internal_error")
    assert "the end could not be read again" in caplog.text


def status_error(status: int) -> openai.APIStatusError:
    request = httpx2.Request("POST", "http://upstream/v1/chat/completions")
    kind = openai.RateLimitError if status == 429 else openai.InternalServerError
    return kind("No.", response=httpx2.Response(status, request=request), body=None)


@pytest.mark.parametrize(
    ("foreground", "error", "is_repeated"),
    [
        (True, status_error(500), True),
        (True, status_error(429), False),
        (True, TimeoutError(), False),
        (False, status_error(500), True),
        (False, status_error(429), True),
        (False, ConnectionLost("before the first content"), True),
        (False, Unreadable("is HTML"), False),
    ],
)
async def test_attempt_repeats_what_the_table_allows_and_the_client_would_not(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, foreground: bool, error: Exception,
    is_repeated: bool, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.001)
    harness.generation_id = new_generation_id()
    await submit(harness.log, harness.queue, record_of(id=harness.generation_id, foreground=foreground))
    dialect = ScriptedDialect(monkeypatch, error)
    await (await harness.attempt()).run("worker_lost")
    assert (await harness.done()).status == "failed"
    retries = harness.settings.upstream_retries if is_repeated else 0
    assert dialect.opened == 1 + retries
    lines = [each.getMessage() for each in caplog.records if "sent again" in each.getMessage()]
    assert [line.partition(": ")[0] for line in lines] == [harness.generation_id] * retries
    for n, line in enumerate(lines, start=1):
        assert f"(retry {n} of {retries}): The " in line


async def test_log_line_of_an_end_has_the_result(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end())
    await (await harness.attempt()).run("worker_lost")
    began, line = [each for each in caplog.messages if harness.generation_id in each]
    assert began.endswith(": attempt 1 begins")
    assert re.fullmatch(r"gen_\w+ completed  demo  ~2 tokens  \d\.\d s  first \d\.\d\d s", line)


async def test_log_line_of_a_failure_has_the_reason(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    response = httpx2.Response(401, request=httpx2.Request("POST", "http://upstream/v1"))
    ScriptedDialect(
        monkeypatch, openai.AuthenticationError("", response=response, body={"message": "Incorrect API key provided."})
    )
    await (await harness.attempt()).run("worker_lost")
    (record,) = [each for each in caplog.records if harness.generation_id in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert re.fullmatch(
        r"gen_\w+ failed  demo  upstream_auth: The upstream does not accept the key in OPENAI_API_KEY \(status 401\)\."
        r" \[https://\S+: Incorrect API key provided\.\]  \(attempt 1, \d\.\d s\)",
        record.getMessage(),
    )
    done = await harness.done()
    assert done.error
    assert "Incorrect" not in done.error.message


@pytest.mark.parametrize(("first", "setting"), [(0.05, "FIRST_TOKEN"), (5, "IDLE")])
async def test_silence_of_the_upstream_names_its_setting(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch, first: float, setting: str
) -> None:
    harness.settings = Settings(upstream_first_token_timeout_s=first, upstream_idle_timeout_s=0.05, max_attempts=1)
    payloads = [] if setting == "FIRST_TOKEN" else [text_chunk("Hi")]
    ScriptedDialect(monkeypatch, *payloads, asyncio.Event())
    attempt = await harness.attempt()
    attempt.writer.state = msgspec.structs.replace(
        attempt.writer.state,
        record=record_of(
            id=harness.generation_id, options=Options(deadline_s=3600, retention_s=3600, on_interrupt="fail")
        ),
    )
    await attempt.run("worker_lost")
    done = await harness.done()
    assert done.error
    assert done.error.code == "upstream_timeout"
    assert done.error.message == f"The upstream sent no content for 0.05 s (TAILRACE_UPSTREAM_{setting}_TIMEOUT_S)."
