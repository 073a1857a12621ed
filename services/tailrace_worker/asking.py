"""The asking of one upstream: send the request, write its answer to the log, and repeat what failed before any content.

    Asking.run ──▶ dialect.open ──▶ payloads ──▶ translator ──▶ writer
        │  ▲                           │
        │  └── retried ◀── failed, no content so far
        ├─▶ Answer            the stream ended by itself: complete, cut short, too long, or with an error object
        └─▶ UpstreamFailed    no answer, or one that broke off: the caller ends the generation, asks another upstream,
                              or begins another attempt

The lifecycle of the generation (lease, deadline, end) is `attempt`'s: nothing here writes an end.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from itertools import count
from typing import NamedTuple

from tailrace import tracing
from tailrace.events import Delta, Extra, Failure, FinalStatus, GenerationRecord, ItemOpened, Json
from tailrace.failures import FAILURES, failure
from tailrace.lifecycle.end_line import printable
from tailrace.settings import Settings
from tailrace_worker.idle_timeout import IdleTimeout
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Dialect, Translated, Translator
from tailrace_worker.upstream.errors import (
    UPSTREAM_ERRORS,
    EmptyAnswer,
    ErrorInStream,
    Unreadable,
    failure_from_exception,
    is_fault_of_request,
    is_retried,
    retry_delay,
)
from tailrace_worker.upstream.sse import EventTooLarge
from tailrace_worker.upstream_span import traced
from tailrace_worker.writer import Writer

CountRequest = Callable[[str, bool], None]
OK = "200"

logger = logging.getLogger(__name__)

FINISHED_WAIT_S = 3.0
"""For the usage and the end of the stream behind the finish reasons, at most: the answer is whole without them."""

MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024
"""Of the payloads of one answer that lead to no entry, such as the end of a text, which repeats it. What is held until
an item begins has a limit of its own (`fields`)."""

LOGGED_WAIT_S = 1.0
"""A shorter wait for Redis is not logged: an upstream at full speed has many of them."""


class Answer(NamedTuple):
    """An answer whose stream ended by itself. Every event of it is with the writer.

    `failure`: None for a complete answer. `is_truncated`: the stream ended before the answer was complete.
    """

    status: FinalStatus
    translator: Translator
    failure: Failure | None
    is_truncated: bool


class UpstreamFailed(Exception):
    """The upstream has sent no answer, or has broken off in the middle of one, and the request is not repeated here.

    `cause`: the exception. `failure`: for clients; it may still contain the key (`UpstreamClient.redact`). `detail`:
    for the log alone. `has_content`: whether this attempt has written any content. `may_fall_back`: whether another
    upstream may be asked instead. `translator`: of the last request; without content it is not closed yet, because what
    it holds back would begin the answer of another upstream.
    """

    def __init__(
        self, cause: Exception, reason: Failure, detail: str, translator: Translator, *, has_content: bool
    ) -> None:
        super().__init__(reason.code)
        self.cause = cause
        self.failure = reason
        self.detail = detail
        self.translator = translator
        self.has_content = has_content
        self.may_fall_back = not (has_content or is_fault_of_request(cause))


class Asking:
    """Asks one upstream for the answer of one attempt.

    `count`: called with the status or the code with which a request ended, and whether it is sent again.
    `timings`: of the attempt, which may ask several upstreams. `deadline`: seconds of `time.monotonic()`; no delay
    before a retry exceeds it. (The caller ends a request that is under way then.) `retries`: how often a request is
    sent again, at most. `translator`: of the last request.
    """

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        timings: TokenTimings,
        upstream: UpstreamClient,
        dialect: Dialect,
        deadline: float,
        *,
        retries: int,
        count: CountRequest = lambda _code, _is_retry: None,
    ) -> None:
        self._count = count
        self._settings = settings
        self._writer = writer
        self._timings = timings
        self._upstream = upstream
        self._dialect = dialect
        self._deadline = deadline
        self._retries = retries
        self.translator: Translator | None = None
        self._unwritten_bytes = 0

    async def run(self, request: Json, first_item: int) -> Answer:
        """Request an answer and write it; what fails before any content is repeated.

        `request`: the body, in the form of the record's API. `first_item`: the number of the answer's first item.

        Raises:
            UpstreamFailed: the upstream failed, for the last time.
        """
        record = self._writer.state.record
        self._timings.asked = time.monotonic()
        for retry in count():
            self._timings.requests.begin()
            first_index = self._writer.output.next_index
            self.translator = translator = self._dialect.translator(
                first_item=first_item, first_index=first_index, logprobs=record.logprobs,
                redact=self._upstream.redaction.redacted,
            )  # fmt: skip
            try:
                await self._request(record, request, translator, retry)
            except UPSTREAM_ERRORS as error:
                if translator.is_complete and not translator.failure:  # it broke off, or was silent, behind the answer
                    self._write(translator.close())
                    self._count(OK, False)
                    return self._answer_of(translator)
                self._note_failure(self._failure_of(error))
                delay_s = self._delay_before_retry(error, retry)
                self._count(_code_of(self._failure_of(error)), delay_s is not None)
                if delay_s is None:
                    raise self._failed(error, translator) from error
                self._log_retry(error, retry, delay_s)
                await asyncio.sleep(delay_s)
            else:
                answer = self._answer_of(translator)
                self._count(OK if answer.failure is None else _code_of(answer.failure), False)
                if answer.failure and answer.failure.code != "log_limit":
                    self._note_failure(answer.failure)
                return answer
            finally:
                self._count_malformed(translator)
        raise AssertionError("the retries are bounded")

    async def _request(self, record: GenerationRecord, request: Json, translator: Translator, retry: int) -> None:
        """Request the answer once, and write it.

        Raises:
            one of UPSTREAM_ERRORS.
        """
        if not tracing.is_on():
            return await self._exchange(record, request, translator)
        return await traced(
            lambda: self._exchange(record, request, translator), self._upstream, request, retry, translator,
            self._timings, self._writer, lambda error: self._failure_of(error).code,
        )  # fmt: skip

    async def _exchange(self, record: GenerationRecord, request: Json, translator: Translator) -> None:
        async with aclosing(self._dialect.open(self._upstream, record, request)) as stream:
            await self._consume(stream, translator)

    def _delay_before_retry(self, error: Exception, retry: int) -> float | None:
        """Seconds after which to request the answer again; None: the error is final. `retry`: counted from 0."""
        if self._has_content or retry >= self._retries:
            return None
        if not is_retried(error, foreground=self._writer.state.record.foreground):
            return None
        delay_s = retry_delay(error, retry)
        return delay_s if delay_s is not None and time.monotonic() + delay_s < self._deadline else None

    def _log_retry(self, error: Exception, retry: int, delay_s: float) -> None:
        logger.warning(
            "%s: the request is sent again in %.1f s (retry %d of %d): %s",
            self._writer.generation_id, delay_s, retry + 1, self._retries,
            printable(self._upstream.redact(self._failure_of(error)).message),
        )  # fmt: skip

    @property
    def _has_content(self) -> bool:
        """Whether the upstream has sent any: nothing is requested again then. What is held back counts."""
        return bool(self._timings.count) or (self.translator is not None and self.translator.holds_content)

    def _note_failure(self, reason: Failure) -> None:
        self._timings.requests.fail(self._upstream.redact(reason).code)

    def _failed(self, error: Exception, translator: Translator) -> UpstreamFailed:
        has_content = self._has_content
        reason = self._failure_of(error)
        if has_content and not self._may_be_continued:
            self._write(translator.close())
        return UpstreamFailed(error, reason, self._upstream.describe(error), translator, has_content=has_content)

    @property
    def _may_be_continued(self) -> bool:
        """Whether the rest of an interrupted answer is requested, half a surrogate pair at its end included."""
        return self._writer.state.record.options.on_interrupt == "continue"

    def _failure_of(self, error: Exception) -> Failure:
        if not isinstance(error, TimeoutError):
            return failure_from_exception(error)
        which, seconds = "FIRST_TOKEN", self._settings.upstream_first_token_timeout_s
        if self._timings.count:
            which, seconds = "IDLE", self._settings.upstream_idle_timeout_s
        return failure(
            "upstream_timeout", f"The upstream sent no content for {seconds:g} s (TAILRACE_UPSTREAM_{which}_TIMEOUT_S)."
        )

    async def _consume(self, stream: AsyncIterator[list[bytes]], translator: Translator) -> None:
        """Write the answer as it arrives.

        Raises:
            TimeoutError: no content arrived in time; comments, partial events and chunks without content do not count.
            ErrorInStream: the upstream sent an error before any content.
            EmptyAnswer: the stream ended without any content and without an end.
            Unreadable: so it did, and what it sent was malformed.
        """
        timings = self._timings
        async with IdleTimeout(
            self._settings.upstream_first_token_timeout_s, self._settings.upstream_idle_timeout_s
        ) as idle:
            async for payloads in stream:
                size = sum(map(len, payloads))
                timings.received_bytes += size
                for payload in payloads:
                    translated = translator.read(payload)
                    if self._write(translated):
                        idle.reset(timings.last)
                    else:
                        self._read_without_content(0 if translated else len(payload), translator, idle)
                if translator.failure or self._is_too_long():
                    break
                if not self._writer.count_received(size):
                    await self._wait_for_redis(idle)
        if not self._has_content:
            self._check_end_without_content(translator)
        if not (self._is_truncated(translator) and self._may_be_continued):
            self._write(translator.close())

    def _read_without_content(self, unwritten: int, translator: Translator, idle: IdleTimeout) -> None:
        """Note a payload without content. `unwritten`: its bytes, where it leads to no entry.

        Raises:
            EventTooLarge: there were too many of these.
        """
        self._unwritten_bytes += unwritten
        if self._unwritten_bytes > MAX_UNWRITTEN_BYTES:
            raise EventTooLarge(f"more than {MAX_UNWRITTEN_BYTES} bytes without an entry")
        if translator.is_complete:
            idle.shorten(FINISHED_WAIT_S)
        elif translator.holds_content:
            idle.reset(time.monotonic())

    def _check_end_without_content(self, translator: Translator) -> None:
        if translator.failure:
            raise ErrorInStream(translator.failure)
        if self._is_truncated(translator):
            raise Unreadable("has no payload that is JSON") if translator.malformed else EmptyAnswer

    async def _wait_for_redis(self, idle: IdleTimeout) -> None:
        """Read the upstream no further until Redis has taken what was read. Its socket fills, and it waits."""
        writer, since = self._writer, time.monotonic()
        idle.pause()
        try:
            async with asyncio.timeout(LOGGED_WAIT_S):
                await writer.wait_for_room()
        except TimeoutError:
            logger.warning("%s: Redis does not take the answer: its upstream is not read", writer.generation_id)
            await writer.wait_for_room()
            waited_s = time.monotonic() - since
            logger.info("%s: the upstream is read again after %.1f s", writer.generation_id, waited_s)
        now = time.monotonic()
        self._timings.skip(now)
        idle.reset(now)

    def _write(self, translated: list[Translated]) -> int:
        """Add events to the log; return how many of them were content."""
        content = 0
        for event, extra in translated:
            self._writer.add(event, extra)
            if isinstance(event, Delta):
                content += event.text != "" or _has_content_of_its_own(extra)
            else:
                content += isinstance(event, ItemOpened)
        if content:
            self._timings.record(time.monotonic(), content)
        return content

    def _count_malformed(self, translator: Translator) -> None:
        self._timings.malformed += translator.malformed
        if translator.malformed:
            logger.warning("%s: upstream sent %d malformed values", self._writer.generation_id, translator.malformed)

    def _is_truncated(self, translator: Translator) -> bool:
        """Whether the stream ended cleanly before the answer was complete."""
        return not (translator.is_complete or translator.failure or self._is_too_long())

    def _is_too_long(self) -> bool:
        """Whether this attempt's own output exceeds the limit; what restarts have discarded does not count."""
        return self._writer.output_bytes > self._settings.max_log_bytes

    def _answer_of(self, translator: Translator) -> Answer:
        if translator.failure:
            return Answer("failed", translator, translator.failure, is_truncated=False)
        if translator.is_complete:
            return Answer(translator.status, translator, None, is_truncated=False)
        if self._is_too_long():
            return Answer("incomplete", translator, failure("log_limit"), is_truncated=False)
        return Answer("incomplete", translator, failure("upstream_truncated"), is_truncated=True)


def _code_of(reason: Failure) -> str:
    """The status of the upstream's answer, or the code of a failure without one: one of few values."""
    if reason.status is not None and 400 <= reason.status < 600:
        return str(reason.status)
    return reason.code if reason.code in FAILURES else "upstream_error"


def _has_content_of_its_own(extra: Extra) -> bool:
    """Whether an empty delta is content: by a field of the delta (audio, images, encrypted reasoning), and not by one
    of the choice or the chunk."""
    return bool(extra.delta or extra.call or extra.events or extra.citations)
