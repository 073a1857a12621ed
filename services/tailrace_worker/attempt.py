"""One attempt: send the request to the upstream, write its answer to the log, write the end.

    started | restarted ──▶ chunks ──▶ … ──▶ done
                              │
                              └─ fenced, cancelled: the upstream is closed, nothing more is written

An answer that the upstream loses before any content is requested again. Later an interruption either leads to another
attempt (`on_interrupt: restart`) or ends the generation as failed (`fail`). Every end goes through `_finish`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

from tailrace.events import NO_EXTRA, Delta, Failure, FinalStatus, ItemOpened, Started
from tailrace.failures import RestartReason, failure
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.limits import limit_failure
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.log.codec import is_readable
from tailrace.process.tasks import cancel_and_wait
from tailrace.prompt_size import prompt_bytes
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.ending import Ending
from tailrace_worker.idle_timeout import IdleTimeout
from tailrace_worker.retry import retry_transient
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialect import Translated, Translator
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT, DIALECTS
from tailrace_worker.upstream.errors import (
    UPSTREAM_ERRORS,
    ConnectionLost,
    EmptyAnswer,
    failure_from_exception,
    is_transient,
)
from tailrace_worker.writer import Stopped, Writer

logger = logging.getLogger(__name__)

RETRY_DELAY_S = 0.2
LOGGED_WAIT_S = 1.0
"""A shorter wait for Redis is not logged: an upstream at full speed has many of them."""


class UpstreamInterrupted(Exception):
    """The upstream failed in the middle of an answer, and the generation needs another attempt."""

    def __init__(self, reason: RestartReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Attempt:
    """A worker's run under one lease."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        appender: Appender,
        upstream: UpstreamClient,
        grant: LeaseGrant,
    ) -> None:
        self.writer = Writer(grant, appender.wake)
        self.ending = Ending(log, queue, self.writer)
        self._settings = settings
        self._confirmations = confirmations
        self._upstream = upstream
        self._timings = TokenTimings()
        self._redis_ahead_s = grant.now / 1000 - time.time()

    async def run(self, reason: RestartReason) -> None:
        """Write the answer and its end. `reason`: why the attempt before this one ended, if there was one.

        Raises:
            UpstreamInterrupted: the generation needs another attempt.
        """
        execution = asyncio.create_task(self._execute(reason), name=f"attempt {self.writer.generation_id}")
        try:
            either: list[asyncio.Future[Any]] = [execution, self.writer.stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(execution)
        await self._conclude(execution)

    async def _conclude(self, execution: "asyncio.Task[None]") -> None:
        """Log why writing stopped; fail the generation if it can neither continue nor has ended."""
        writer, generation_id = self.writer, self.writer.generation_id
        error = None if execution.cancelled() else execution.exception()
        if isinstance(error, UpstreamInterrupted) and not writer.stopped.done():
            raise error
        if error and not isinstance(error, Stopped | UpstreamInterrupted):
            logger.error("%s: the run failed", generation_id, exc_info=error)
            writer.stop("internal_error")
        if writer.output.done:
            return
        outcome = writer.stopped.result().outcome
        logger.info("%s: stopped: %s", generation_id, outcome)
        if not isinstance(outcome, Outcome):
            reason = failure(outcome)
            await retry_transient(lambda: self._confirmations.terminate(generation_id, "failed", reason))

    def _now(self) -> float:
        """Epoch seconds by Redis' clock."""
        return time.time() + self._redis_ahead_s

    async def _execute(self, reason: RestartReason) -> None:
        writer, state = self.writer, self.writer.state
        if writer.output.has_items and state.record.options.on_interrupt == "fail":
            return await self._finish("failed", error=failure("worker_lost"))
        if reached := limit_failure(state, 1000 * self._now(), self._settings.max_attempts):
            return await self._finish("failed", error=reached)
        if writer.output.next_item:
            writer.add(writer.output.restarted(state.attempt, reason, self._now()))
        else:
            writer.add(Started(state.attempt, self._now()))
        try:
            async with asyncio.timeout(state.deadline / 1000 - self._now()):
                await self._answer(writer.output.next_item)
        except TimeoutError:
            await self._finish("failed", error=failure("deadline_exceeded"))
        return None

    async def _answer(self, first_item: int) -> None:
        """Request an answer and write it. A connection that is lost before any content is retried."""
        dialect, retries = DIALECTS[DEFAULT_DIALECT], self._settings.upstream_retries
        record = self.writer.state.record
        for retry in count():
            translator = dialect.translator(first_item=first_item, logprobs=record.logprobs)
            try:
                async with aclosing(dialect.open(self._upstream, record, self.writer.request)) as stream:
                    await self._consume(stream, translator)
            except UPSTREAM_ERRORS as error:
                self._raise_if_restartable(error)
                if self._may_retry(error) and retry < retries:
                    await asyncio.sleep(RETRY_DELAY_S * 2**retry)
                    continue
                self._write(translator.close())
                await self._finish("failed", translator, failure_from_exception(error))
            else:
                if self._is_truncated(translator):
                    self._raise_if_restartable(ConnectionLost("the stream ended before the answer was complete"))
                await self._finish(*self._end_of(translator))
            finally:
                self._log_malformed(translator)
            return

    def _may_retry(self, error: Exception) -> bool:
        """Whether to request the answer again. (Where there was no response, the SDK has done so, but for a foreground
        request.)"""
        is_left_to_us = self.writer.state.record.foreground and is_transient(error)
        return not self._timings.count and (isinstance(error, ConnectionLost) or is_left_to_us)

    async def _consume(self, stream: AsyncIterator[list[bytes]], translator: Translator) -> None:
        """Write the answer as it arrives.

        Raises:
            TimeoutError: no content arrived in time; comments, partial events and chunks without content do not count.
            EmptyAnswer: the stream ended without any content and without an end.
        """
        async with IdleTimeout(
            self._settings.upstream_first_token_timeout_s, self._settings.upstream_idle_timeout_s
        ) as idle:
            async for payloads in stream:
                for payload in payloads:
                    if self._write(translator.read(payload)):
                        idle.reset(self._timings.last)
                if translator.failure or self._is_too_long():
                    break
                if not self.writer.count_received(sum(map(len, payloads))):
                    await self._wait_for_redis(idle)
        self._write(translator.close())
        if self._is_truncated(translator) and not self._timings.count:
            raise EmptyAnswer

    async def _wait_for_redis(self, idle: IdleTimeout) -> None:
        """Read the upstream no further until Redis has taken what was read. Its socket fills, and it waits."""
        writer, since = self.writer, time.monotonic()
        idle.pause()
        try:
            async with asyncio.timeout(LOGGED_WAIT_S):
                await writer.wait_for_room()
        except TimeoutError:
            logger.warning("%s: Redis does not take the answer: its upstream is not read", writer.generation_id)
            await writer.wait_for_room()
            waited_s = time.monotonic() - since
            logger.info("%s: the upstream is read again after %.1f s", writer.generation_id, waited_s)
        idle.reset(time.monotonic())

    def _write(self, translated: list[Translated]) -> int:
        """Add events to the log; return how many of them were content."""
        for event, extra in translated:
            self.writer.add(event, extra)
        content = sum(isinstance(event, (Delta, ItemOpened)) for event, _ in translated)
        if content:
            self._timings.record(time.monotonic(), content)
        return content

    def _raise_if_restartable(self, error: Exception) -> None:
        """Raises UpstreamInterrupted if there was content and the client wants an interrupted answer to start over."""
        if self._timings.count and self.writer.state.record.options.on_interrupt == "restart":
            raise UpstreamInterrupted(
                "upstream_silent" if isinstance(error, TimeoutError) else "upstream_lost"
            ) from error

    def _log_malformed(self, translator: Translator) -> None:
        if translator.malformed:
            logger.warning("%s: upstream sent %d malformed values", self.writer.generation_id, translator.malformed)

    def _is_truncated(self, translator: Translator) -> bool:
        """Whether the stream ended cleanly before the answer was complete."""
        return not (translator.is_complete or translator.failure or self._is_too_long())

    def _is_too_long(self) -> bool:
        """Whether this attempt's own output exceeds the limit; what restarts have discarded does not count."""
        return self.writer.output_bytes > self._settings.max_log_bytes

    def _end_of(self, translator: Translator) -> tuple[FinalStatus, Translator, Failure | None]:
        """Status, translator and failure of a stream that ended cleanly: the arguments of `_finish`."""
        if translator.failure:
            return "failed", translator, translator.failure
        if translator.is_complete:
            return translator.status, translator, None
        if self._is_too_long():
            return "incomplete", translator, failure("log_limit")
        return "incomplete", translator, failure("upstream_truncated")

    async def _finish(
        self, status: FinalStatus, translator: Translator | None = None, error: Failure | None = None
    ) -> None:
        """End the generation: wait until every row is in the log, fold it, and write `done` onto its last seq."""
        writer = self.writer
        await writer.flush()
        output, now = writer.output, self._now()
        error = self._upstream.redact(error) if error else None
        details: dict[str, Any] = {"timings": self._timings.timings(output.created_at, output.started_at, now)}
        if translator:
            details |= {"finish": translator.finish, "usage": translator.usage, "upstream": translator.upstream}
        if not details.get("usage"):
            details["prompt_bytes"] = prompt_bytes(writer.request)
        done = output.build_done(status, now, error=error, **details)
        extra = translator.extra if translator else NO_EXTRA
        if not is_readable(done, extra):  # a defect: every reader's connection would end at such an entry
            logger.error("%s: the end could not be read again: %s, %s", writer.generation_id, status, error)
            done, extra = output.build_done("failed", now, error=failure("internal_error")), NO_EXTRA
        outcome = await self.ending.write(done, extra)
        logger.info("%s: %s: %s", writer.generation_id, done.status, outcome)
