"""The measures, the usage and the cost in the end that an attempt writes."""

import asyncio
import json
from collections.abc import Iterator

import httpx2
import msgspec
import openai
import pytest

from support.attempts import AttemptHarness, Payload, ScriptedDialect
from support.chat_chunks import end, text_chunk
from support.logs import USAGE
from support.logs import record as record_of
from support.queues import submit
from support.stored_log import entries_of
from tailrace.events import Failure, Options, Stream, Text
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import Outcome
from tailrace.log.measures import Measures
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace.upstreams import UpstreamConfig
from tailrace.upstreams.prices import Price
from tailrace_worker import asking
from tailrace_worker.attempt import Attempt, UpstreamInterrupted
from tailrace_worker.upstream import retry_after
from tailrace_worker.upstream.errors import ConnectionLost


async def test_end_has_the_measures_of_the_stream(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [text_chunk("Hel"), text_chunk("lo"), end()]
    ScriptedDialect(monkeypatch, b"{not json", *chunks, b"[DONE]")
    await (await harness.attempt()).run("worker_lost")
    stream = (await harness.done()).stream
    sizes = [len(json.dumps(each).encode()) for each in chunks]
    assert stream.bytes == len(b"{not json") + sum(sizes) + len(b"[DONE]")
    assert (stream.attempts, stream.retries, stream.chunks, stream.malformed, stream.stalls) == (1, 0, 2, 1, 0)
    assert [bucket.count for bucket in stream.gaps] == [1]
    (gap,) = stream.slowest
    assert EntryId.parse(gap.after).epoch == (await harness.log.state(harness.generation_id)).epoch


async def test_slow_gap_is_after_the_entry_that_precedes_it_in_the_log(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    ScriptedDialect(monkeypatch, text_chunk("Hel"), text_chunk("lo"), go_on, text_chunk("!"), end())
    running = asyncio.create_task((await harness.attempt()).run("worker_lost"))
    await asyncio.sleep(0.1)
    go_on.set()
    await running
    gap = (await harness.done()).stream.slowest[0]
    entries = await entries_of(harness.log, harness.generation_id)
    texts = [entry for entry in entries if isinstance(entry.event, Text)]
    assert gap.seconds >= 0.09
    assert gap.after == str(texts[-2].id)
    assert texts[-1].event == Text(0, "!")


async def test_measures_count_the_requests_that_were_repeated(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings = Settings(upstream_retries=1)
    ScriptedDialect(monkeypatch, ConnectionLost("before any content"))
    await (await harness.attempt()).run("worker_lost")
    stream = (await harness.done()).stream
    assert stream.retries == 1
    first, second = stream.failed
    assert (first.code, first.upstream, second.code) == ("upstream_unreachable", None, "upstream_unreachable")
    assert first.delay is not None
    assert second.delay is None
    assert second.at == pytest.approx(first.at + first.delay, abs=0.1)


async def test_key_in_the_code_of_a_failure_is_not_in_the_measures(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.pool.redaction.add(["sk-secret-key"])
    response = httpx2.Response(400, request=httpx2.Request("POST", "http://upstream/v1"))
    body = {"message": "No.", "code": "bad_sk-secret-key"}
    ScriptedDialect(monkeypatch, openai.BadRequestError("No.", response=response, body=body))
    await (await harness.attempt()).run("worker_lost")
    (failed,) = (await harness.done()).stream.failed
    assert "secret" not in failed.code


async def test_time_without_redis_is_no_gap_of_the_upstream(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ScriptedDialect(monkeypatch, *[text_chunk("x" * 10_000)] * 40, end())
    running = asyncio.create_task((await harness.attempt()).run("worker_lost"))
    async with asyncio.timeout(5):
        while "Redis does not take" not in caplog.text:  # noqa: ASYNC110 - the attempt signals nothing
            await asyncio.sleep(0.01)
    appending = asyncio.create_task(harness.appenders.run())
    await running
    await cancel_and_wait(appending)
    assert (await harness.done()).timings.between_tokens_max < 0.9  # type: ignore[operator]


async def test_silence_before_a_timeout_is_the_slowest_gap(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings = Settings(upstream_idle_timeout_s=0.1, max_attempts=1)
    harness.generation_id = new_generation_id()
    options = Options(60, 60, on_interrupt="fail")
    await submit(harness.log, harness.queue, record_of(id=harness.generation_id, options=options))
    ScriptedDialect(monkeypatch, text_chunk("Hi"), text_chunk("!"), asyncio.Event())
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert done.error
    assert done.error.code == "upstream_timeout"
    assert done.stream.chunks == 2
    assert done.stream.slowest[0].seconds >= 0.09


async def test_cost_is_of_the_usage_and_the_price_of_the_upstream(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempt, "price", Price(input=1, output=2))
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end(), {"choices": [], "usage": USAGE}, b"[DONE]")
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.usage, done.cost) == (USAGE, (12 + 2 * 7) / 1e6)


async def test_answer_without_a_price_has_no_cost(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hi"), end(), {"choices": [], "usage": USAGE})
    await (await harness.attempt()).run("worker_lost")
    assert (await harness.done()).cost is None


async def test_request_that_the_upstream_refuses_uses_no_tokens_and_costs_nothing(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempt, "price", Price(input=1, output=2))
    response = httpx2.Response(400, request=httpx2.Request("POST", "http://upstream/v1"))
    ScriptedDialect(monkeypatch, openai.BadRequestError("No.", response=response, body=None))
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert done.usage == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "estimated": True}
    assert done.cost == 0


async def test_end_that_could_not_be_read_again_has_an_estimated_usage(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable = Failure("No.", "refused", 400)  # type: ignore[arg-type]
    monkeypatch.setattr(asking, "failure_from_exception", lambda _: unreadable)
    ScriptedDialect(monkeypatch, ValueError("not to be parsed"))
    await (await harness.attempt()).run("worker_lost")
    usage = (await harness.done()).usage
    assert usage
    assert usage["estimated"]


async def test_end_by_the_deadline_has_what_the_upstream_sent(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some upstreams send the usage so far with every chunk."""
    harness.generation_id = new_generation_id()
    record = record_of(id=harness.generation_id, options=Options(deadline_s=1, retention_s=60))
    await submit(harness.log, harness.queue, record)
    first = text_chunk("Hi") | {"usage": USAGE, "id": "chatcmpl-1", "service_tier": "flex"}
    ScriptedDialect(monkeypatch, first, asyncio.Event())
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert done.error
    assert done.error.code == "deadline_exceeded"
    assert (done.usage, done.upstream.id, done.stream.chunks) == (USAGE, "chatcmpl-1", 1)
    assert done.stream.slowest[0].seconds > 0.5, "the silence before the deadline"


async def test_attempt_counts_its_durations_for_the_metrics_also_where_another_process_ended_it(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, text_chunk("Hel"), text_chunk("lo"), asyncio.Event())
    attempt = await harness.attempt()
    counted: list[tuple[str, int]] = []
    monkeypatch.setattr(
        attempt._pool.admission, "measured", lambda name, timings, _: counted.append((name, timings.count))
    )
    running = asyncio.create_task(attempt.run("worker_lost"))
    async with asyncio.timeout(5):
        while not attempt.writer.output.has_items:  # noqa: ASYNC110 - the attempt signals nothing
            await asyncio.sleep(0.01)
    attempt.writer.stop(Outcome.FENCED)
    await running
    assert counted == [("default", 3)]


async def test_refused_continuation_counts_its_retries(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice 503, then 400, then the whole answer: four requests."""
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.001)
    harness.settings = Settings(upstream_retries=3, max_attempts=2)
    harness.generation_id = new_generation_id()
    options = Options(60, 60, on_interrupt="continue")
    await submit(harness.log, harness.queue, record_of(id=harness.generation_id, options=options))
    monkeypatch.setattr(UpstreamConfig, "can_continue", True)
    dialect = ScriptedDialect(monkeypatch, text_chunk("Hi"), ConnectionLost("x"), rest=[])
    interrupted = await harness.attempt()
    with pytest.raises(UpstreamInterrupted):
        await interrupted.run("worker_lost")
    answers = [503, 503, 400]

    def rest() -> Iterator[Payload]:
        status = answers.pop(0)
        response = httpx2.Response(status, request=httpx2.Request("POST", "http://upstream/v1"))
        yield openai.APIStatusError("No.", response=response, body=None)

    class Rests:
        def __iter__(self) -> Iterator[Payload]:
            return rest()

    dialect.rest, dialect.payloads = Rests(), [text_chunk("Hello"), end()]
    await (await harness.attempt(interrupted.measures())).run("upstream_lost")
    done = await harness.done()
    assert (done.output[-1].text, done.stream.retries) == ("Hello", 3)
    assert [each.code for each in done.stream.failed] == [
        "upstream_unreachable", "upstream_error", "upstream_error", "upstream_refused"
    ]  # fmt: skip


async def test_restart_keeps_the_measures_of_the_attempt_before(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScriptedDialect(monkeypatch, b"{no", text_chunk("Hi"), text_chunk("!"), ConnectionLost("in the middle"))
    first = await harness.attempt()
    with pytest.raises(UpstreamInterrupted):
        await first.run("worker_lost")
    measured = first.measures()
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end())
    await (await harness.attempt(measured)).run("upstream_lost")
    done = await harness.done()
    assert (done.stream.attempts, done.stream.chunks, done.stream.malformed) == (2, 3, 1)
    assert done.stream.bytes is not None
    assert measured.stream.bytes is not None
    assert done.stream.bytes > measured.stream.bytes
    assert done.timings.first_token == measured.first_token
    assert [gap.after for gap in done.stream.slowest] == [gap.after for gap in measured.stream.slowest]
    assert sum(bucket.count for bucket in done.stream.gaps) == 2, "one between two chunks, one before it broke off"


async def test_attempt_of_another_worker_begins_with_the_stored_measures(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = Measures(0.5, 4.0, 5.0, Stream(retries=2, chunks=9, bytes=90, malformed=1, stalls=1))
    lost = await harness.attempt()
    lease, measures = (
        (harness.generation_id, lost.writer.epoch, False),
        {harness.generation_id: msgspec.json.encode(earlier)},
    )
    await harness.log.renew([lease], measures=measures)
    ScriptedDialect(monkeypatch, text_chunk("Hello"), end())
    await (await harness.attempt()).run("worker_lost")
    done = await harness.done()
    assert (done.stream.retries, done.stream.chunks, done.stream.malformed, done.stream.stalls) == (2, 10, 1, 1)
    assert (done.timings.first_token, done.timings.between_tokens_max) == (0.5, 4.0)


async def test_end_without_another_request_names_the_upstream_that_answered_before(
    harness: AttemptHarness, appending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.generation_id = new_generation_id()
    options = Options(60, 60, on_interrupt="fail")
    await submit(harness.log, harness.queue, record_of(id=harness.generation_id, options=options))
    ScriptedDialect(monkeypatch, text_chunk("Hi") | {"id": "chatcmpl-1"}, asyncio.Event())
    lost = await harness.attempt()
    running = asyncio.create_task(lost.run("worker_lost"))
    async with asyncio.timeout(5):
        while not lost.writer.output.has_items:  # noqa: ASYNC110 - the attempt signals nothing
            await asyncio.sleep(0.01)
    measured = msgspec.structs.replace(lost.measures(), prices=(1, 2, None))
    await cancel_and_wait(running)
    await (await harness.attempt(measured)).run("worker_lost")
    done = await harness.done()
    assert done.error
    assert (done.error.code, done.upstream.id) == ("worker_lost", "chatcmpl-1")
    assert done.cost
