"""The asking of one upstream: what is repeated, how often, after which delay, and what its caller learns."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence

import httpx2
import openai
import pytest

from support.attempts import AttemptHarness
from support.chat_chunks import end, text_chunk
from tailrace.events import GenerationRecord, Json
from tailrace_worker import asking as asking_module
from tailrace_worker.asking import Answer, Asking, UpstreamFailed
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream import retry_after
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.conditions import CONDITIONS
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.errors import ConnectionLost, ErrorInStream

FAR_S = 60.0
HELD_BACK = {"choices": [{"index": 0, "delta": {"role": "assistant"}, "content_filter_results": {"hate": "safe"}}]}
NAMELESS = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]}

Payload = Json | bytes | Exception | asyncio.Event


@pytest.fixture(autouse=True)
def without_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_after, "FIRST_DELAY_S", 0.001)


def status_error(status: int, body: object = None, **headers: str) -> openai.APIStatusError:
    request = httpx2.Request("POST", "http://upstream/v1/chat/completions")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(status, headers=named, request=request)
    kind = openai.AuthenticationError if status == 401 else openai.APIStatusError
    return kind("No.", response=response, body=body)


class Run:
    """An asking of an upstream that answers the first request with the first of these answers, and so on; the last one
    is repeated. An answer is a list of payloads, of errors that are raised in their place, and of events that are
    waited for."""

    def __init__(self, harness: AttemptHarness, *answers: Sequence[Payload]) -> None:
        self.harness = harness
        self.opened = self.closed = self.retries = 0
        self.failed: list[str] = []
        self._answers = answers

    async def answer(self, *, deadline_s: float = FAR_S) -> Answer:
        harness, writer = self.harness, (await self.harness.attempt()).writer
        dialect, deadline = Dialect(self._open, ChatTranslator), time.monotonic() + deadline_s
        timings = TokenTimings()
        retries, client = harness.settings.upstream_retries, harness.pool.clients[0]
        asking = Asking(harness.settings, writer, timings, client, dialect, deadline, retries=retries)
        try:
            return await asking.run(writer.request, 0)
        finally:
            self.retries, self.failed = timings.requests.retries, [each.code for each in timings.requests.failed]

    async def failure(self, *, deadline_s: float = FAR_S) -> UpstreamFailed:
        with pytest.raises(UpstreamFailed) as raised:
            await self.answer(deadline_s=deadline_s)
        return raised.value

    async def _open(self, _: UpstreamClient, __: GenerationRecord, ___: Json) -> AsyncGenerator[list[bytes], None]:
        payloads = self._answers[min(self.opened, len(self._answers) - 1)]
        self.opened += 1
        try:
            for payload in payloads:
                if isinstance(payload, Exception):
                    raise payload
                if isinstance(payload, asyncio.Event):
                    await payload.wait()
                    continue
                yield [payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
        finally:
            self.closed += 1


async def test_answer_has_its_translator_and_status(harness: AttemptHarness) -> None:
    run = Run(harness, [text_chunk("Hi"), end("length")])
    answer = await run.answer()
    assert (answer.status, answer.failure, answer.is_truncated, run.retries) == ("incomplete", None, False, 0)
    assert [each.finish_reason for each in answer.translator.finish] == ["length"]


@pytest.mark.parametrize(
    ("payloads", "code", "retried"),
    [
        ([status_error(503)], "upstream_error", True),
        ([status_error(429)], "upstream_rate_limited", True),
        ([status_error(429, {"code": "insufficient_quota"})], "insufficient_quota", False),
        ([status_error(400)], "upstream_refused", False),
        ([status_error(401)], "upstream_auth", False),
        ([ConnectionLost("cut")], "upstream_unreachable", True),
        ([], "upstream_empty", True),
        ([b"[DONE]"], "upstream_empty", True),
        ([b"{"], "upstream_unreadable", False),
        ([b"{", b"[DONE]"], "upstream_unreadable", False),
        ([{"error": {"message": "Busy", "code": 503}}], "upstream_error", True),
        ([{"error": {"message": "No.", "code": "tripped"}}], "tripped", False),
        ([end("error")], "upstream_error", True),
    ],
)
async def test_failure_before_any_content_is_repeated_as_the_table_has_it(
    harness: AttemptHarness, payloads: list[Payload], code: str, retried: bool
) -> None:
    run = Run(harness, payloads)
    failed = await run.failure()
    retries = harness.settings.upstream_retries if retried else 0
    assert (failed.failure.code, failed.has_content, run.retries) == (code, False, retries)
    assert run.opened == run.closed == 1 + retries


@pytest.mark.parametrize(
    "payloads",
    [
        [text_chunk("Hi"), ConnectionLost("cut")],
        [text_chunk("Hi"), ValueError("too large")],
        [text_chunk("Hi"), status_error(503)],
    ],
)
async def test_failure_after_some_content_is_final(harness: AttemptHarness, payloads: list[Payload]) -> None:
    run = Run(harness, payloads)
    failed = await run.failure()
    assert (failed.has_content, failed.may_fall_back, run.retries, run.opened) == (True, False, 0, 1)


BUSY = {"error": {"message": "Busy", "code": 503}}


@pytest.mark.parametrize("failing", [ConnectionLost("cut"), BUSY], ids=["cut", "error"])
async def test_field_that_is_held_back_is_no_content(harness: AttemptHarness, failing: Payload) -> None:
    run = Run(harness, [HELD_BACK, failing])
    failed = await run.failure()
    assert (failed.has_content, failed.may_fall_back, run.opened) == (False, True, 5)


async def test_call_that_is_held_back_is_content(harness: AttemptHarness) -> None:
    run = Run(harness, [NAMELESS, ConnectionLost("cut")])
    failed = await run.failure()
    assert (failed.has_content, failed.may_fall_back, run.opened) == (True, False, 1)
    answer = await Run(harness, [NAMELESS, BUSY]).answer()
    assert (answer.status, answer.failure and answer.failure.code) == ("failed", "upstream_error")


@pytest.mark.parametrize("error", [ConnectionLost("cut"), TimeoutError(), ValueError("too large")], ids=str)
@pytest.mark.parametrize("content", [[text_chunk("Hi")], []], ids=["text", "nothing"])
async def test_answer_that_has_its_end_is_complete_whatever_follows(
    harness: AttemptHarness, content: list[Payload], error: Exception
) -> None:
    run = Run(harness, [*content, end("length"), error])
    answer = await run.answer()
    assert (answer.status, answer.failure, answer.is_truncated, run.opened) == ("incomplete", None, False, 1)


async def test_end_of_a_stream_is_awaited_for_a_moment_behind_the_answer(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "FINISHED_WAIT_S", 0.05)
    run = Run(harness, [text_chunk("Hi"), end(), asyncio.Event()])
    async with asyncio.timeout(10):
        assert (await run.answer()).status == "completed"


async def test_error_object_after_some_content_ends_the_answer(harness: AttemptHarness) -> None:
    run = Run(harness, [text_chunk("Hi"), {"error": {"message": "Busy", "code": 503}}])
    answer = await run.answer()
    assert (answer.status, answer.failure and answer.failure.code, run.opened) == ("failed", "upstream_error", 1)


@pytest.mark.parametrize(
    ("error", "another"),
    [
        (status_error(400), False), (status_error(422), False), (status_error(401), True), (status_error(404), True),
        (status_error(429), True), (status_error(500), True), (ConnectionLost("cut"), True), (TimeoutError(), True),
    ],
)  # fmt: skip
async def test_another_upstream_may_be_asked_unless_the_request_is_the_fault(
    harness: AttemptHarness, error: Exception, another: bool
) -> None:
    assert (await Run(harness, [error]).failure()).may_fall_back is another


async def test_delay_that_would_pass_the_deadline_is_not_awaited(harness: AttemptHarness) -> None:
    run, began = Run(harness, [status_error(503, retry_after="2")]), time.monotonic()
    failed = await run.failure(deadline_s=1.9)
    assert (failed.failure.code, failed.failure.retry_after, run.opened) == ("upstream_error", 2, 1)
    assert time.monotonic() - began < 1


async def test_delay_is_awaited_where_it_ends_before_the_deadline(harness: AttemptHarness) -> None:
    harness.settings = harness.settings.model_copy(update={"upstream_retries": 2})
    run, began = Run(harness, [status_error(503, retry_after_ms="150")]), time.monotonic()
    await run.failure(deadline_s=10)
    assert run.opened == 3
    assert 0.3 <= time.monotonic() - began < 2


async def test_retry_that_succeeds_is_a_warning_and_an_answer(
    harness: AttemptHarness, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(harness, [status_error(503, {"message": "Busy\x1b[31m\nnow"})], [text_chunk("Hi"), end()])
    answer = await run.answer()
    assert (answer.status, run.retries, run.opened) == ("completed", 1, 2)
    (line,) = [each.getMessage() for each in caplog.records if "sent again" in each.getMessage()]
    assert line == (
        f"{harness.generation_id}: the request is sent again in 0.0 s (retry 1 of 4): "
        "The upstream failed (status 503): Busy�[31m now"
    )


async def test_error_in_a_stream_keeps_its_condition(harness: AttemptHarness) -> None:
    failed = await Run(harness, [{"error": {"message": "Slow down.", "code": 429}}]).failure()
    assert isinstance(failed.cause, ErrorInStream)
    assert failed.failure.code == CONDITIONS["rate_limited"].code


async def test_payloads_that_lead_to_no_entry_are_bounded(
    harness: AttemptHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held of them counts for no other limit."""
    monkeypatch.setattr(asking_module, "MAX_UNWRITTEN_BYTES", 10_000)
    endless: Json = {"choices": [], "vendor": "x" * 100}
    failed = await Run(harness, [{**endless, f"x{number}": 1} for number in range(200)]).failure()
    assert (failed.failure.code, failed.has_content) == ("upstream_unreadable", False)
    assert "more than 10000 bytes without an entry" in failed.failure.message
    answer = await Run(harness, [text_chunk("x" * 1000) for _ in range(20)] + [end("stop")]).answer()
    assert answer.status == "completed"
