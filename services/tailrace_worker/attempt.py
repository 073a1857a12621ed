"""One attempt: have an upstream asked (`fallback`), which writes its answer to the log (`asking`), and write the end.

    started | restarted ──▶ chunks ──▶ … ──▶ done
                              │
                              └─ fenced, cancelled: the upstream is closed, nothing more is written

An answer that the upstream interrupts after some content leads to another attempt (`on_interrupt: restart`), which
continues it where that is asked for and possible (`continue`, `partial_answer`), or ends the generation as failed
(`fail`). Every end goes through `_finish`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from tailrace.events import NO_EXTRA, Done, Failure, FinalStatus, Started, Upstream
from tailrace.failures import RestartReason, failure
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.end_line import log_end
from tailrace.lifecycle.limits import limit_failure
from tailrace.lifecycle.steps import log_step
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.log.codec import is_readable
from tailrace.log.measures import Measures, streamed_tokens
from tailrace.process.tasks import cancel_and_wait
from tailrace.prompt_size import prompt_bytes
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace.stats.ends import record_end
from tailrace.upstreams import Price, Target
from tailrace_worker.appender import Appender
from tailrace_worker.asking import UpstreamFailed
from tailrace_worker.ending import Ending
from tailrace_worker.fallback import Fallback, NoUpstream
from tailrace_worker.json_checker import JsonChecker
from tailrace_worker.partial_answer import partial_answer
from tailrace_worker.retry import retry_transient
from tailrace_worker.stop_reason import is_run_elsewhere, stop_reason
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.dialect import PartialAnswer, Translator
from tailrace_worker.upstream_pool import UpstreamPool
from tailrace_worker.writer import Stopped, Writer

logger = logging.getLogger(__name__)


REFUSALS = frozenset({400, 413, 415, 422, 501})
"""Statuses by which upstreams refuse a request that ends with the assistant's message."""


class UpstreamInterrupted(Exception):
    """The upstream failed in the middle of an answer, and the generation needs another attempt."""

    def __init__(self, reason: RestartReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Attempt:
    """A worker's run under one lease. `earlier`: the measures of the attempts before it; None: those of the grant."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        appender: Appender,
        pool: UpstreamPool,
        grant: LeaseGrant,
        json_checker: JsonChecker,
        earlier: Measures | None = None,
    ) -> None:
        assert grant.state is not None, "no lease was granted"
        self.writer = Writer(grant, appender.wake)
        self.ending = Ending(log, queue, self.writer)
        self._settings = settings
        self._log = log
        self._confirmations = confirmations
        self._pool = pool
        self._fallback: Fallback | None = None
        self._earlier = grant.measures if earlier is None else earlier
        self._waited_s = waited = max(0, grant.now - self.writer.state.record.created) / 1000
        self._timings = TokenTimings(lambda: self.writer.output.last_id, waited=waited, earlier=self._earlier)
        self._json_checker = json_checker
        self._redis_ahead_s = grant.now / 1000 - time.time()
        self.background = BackgroundResponse(self.writer.state.upstream_response)

    @property
    def target(self) -> Target | None:
        """The upstream that was asked last, and its name for the model; None before."""
        return self._fallback.target if self._fallback else None

    @property
    def price(self) -> Price | None:
        """Of the upstream that was asked last, for the model; None where it is not known."""
        return self.target.upstream.price_of(self.target.model) if self.target else None

    @property
    def contents(self) -> int:
        """Pieces of content so far."""
        return self._timings.count

    def on_first_content(self, call: Callable[[], object]) -> None:
        """Call this once, with the first content of the attempt."""
        self._timings.on_first = call

    async def run(self, reason: RestartReason) -> None:
        """Write the answer and its end. `reason`: why the attempt before this one ended, if there was one.

        Raises:
            UpstreamInterrupted: the generation needs another attempt.
        """
        if reason != "worker_lost":
            self.background.end()  # the attempt before has cancelled it
        execution = asyncio.create_task(self._execute(reason), name=f"attempt {self.writer.generation_id}")
        try:
            either: list[asyncio.Future[Any]] = [execution, self.writer.stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self.background.id and not execution.done():
                stopped = self.writer.stopped.result()
                self.background.is_taken_over = await is_run_elsewhere(self._log, self.writer.state, stopped.outcome)
        except asyncio.CancelledError:  # the worker stops, and hands the generation over
            self.background.is_taken_over = True
            raise
        finally:
            await cancel_and_wait(execution)
            if self.target:
                model = self.writer.state.record.model
                self._pool.admission.measured(self.target.upstream.name, self._timings, model)
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
        why = await stop_reason(self._log, writer.state, outcome)
        log_step(logger, "stopped", writer.state, "%s: stopped: %s", why, reason=why)
        self._pool.stats.count("leases_lost_total").value += await is_run_elsewhere(self._log, writer.state, outcome)
        if not isinstance(outcome, Outcome):
            reason = failure(outcome)
            await retry_transient(lambda: self._confirmations.terminate(generation_id, "failed", reason))

    def _now(self) -> float:
        """Epoch seconds by Redis' clock."""
        return time.time() + self._redis_ahead_s

    async def _execute(self, reason: RestartReason) -> None:
        writer, state = self.writer, self.writer.state
        log_step(logger, "attempt_began", state, "%s: attempt %d begins", state.attempt, waited_s=self._waited_s)
        if writer.output.has_items and state.record.options.on_interrupt == "fail":
            return await self._finish("failed", error=failure("worker_lost"))
        if reached := limit_failure(state, 1000 * self._now(), self._settings.max_attempts, before=reason):
            return await self._finish("failed", error=reached)
        try:
            async with asyncio.timeout(state.deadline / 1000 - self._now()):
                if not await self._continue():
                    self._begin(reason)
                    await self._answer(writer.output.next_item)
        except TimeoutError:
            await self._finish("failed", self._translator, failure("deadline_exceeded"))
        except UpstreamInterrupted as interruption:  # an attempt that may not begin is not acquired, nor counted
            last = interruption.reason
            if not (reached := limit_failure(state, 1000 * self._now(), self._settings.max_attempts, ended=last)):
                raise
            await self._finish("failed", error=reached)
        return None

    def _begin(self, reason: RestartReason) -> None:
        writer, attempt = self.writer, self.writer.state.attempt
        if writer.output.next_item:
            message = "%s: restarted: %s (attempt %d)"
            log_step(logger, "restarted", writer.state, message, reason, attempt, reason=reason)
            writer.add(writer.output.restarted(attempt, reason, self._now()))
            self._pool.stats.count("restarts_total", reason).value += 1
        else:
            writer.add(Started(attempt, self._now()))

    async def _continue(self) -> bool:
        """Request the rest of a partial answer, write it and its end. False: there is none, or the upstream refuses to
        continue it: the answer has to start over."""
        writer, record = self.writer, self.writer.state.record
        if record.options.on_interrupt != "continue":
            return False
        partial = partial_answer(writer.output, record, writer.request)
        if partial is None or not self._pool.upstreams.now.can_continue(record.model):
            return False
        has_ended = await self._answer(writer.output.next_item, partial)
        if not has_ended:
            logger.warning("%s: the upstream did not continue it; it starts over", writer.generation_id)
        return has_ended

    async def _answer(self, first_item: int, partial: PartialAnswer | None = None) -> bool:
        """Request an answer, or the rest of a partial one; write it and its end. False: nothing of the rest was
        written, and the answer may yet be had from its beginning."""
        writer = self.writer
        deadline = time.monotonic() + writer.state.deadline / 1000 - self._now()
        self._fallback = Fallback(self._settings, writer, self._timings, self._pool, deadline, self.background)
        try:
            answer = await self._fallback.run(writer.request, first_item, partial)
        except NoUpstream as none:
            if partial and self._may_start_over(None):
                return False
            await self._finish("failed", error=none.failure)
        except UpstreamFailed as failed:
            if partial and not failed.has_content and self._may_start_over(failed.failure.status):
                return False
            if not failed.has_content:
                for event, extra in failed.translator.close():
                    writer.add(event, extra)
            else:
                is_silent = isinstance(failed.cause, TimeoutError)
                await self._raise_if_restartable("upstream_silent" if is_silent else "upstream_lost", failed)
            await self._finish("failed", failed.translator, failed.failure, failed.detail)
        else:
            if partial and answer.failure and not self._timings.count:
                return False
            if answer.is_truncated:
                await self._raise_if_restartable("upstream_lost")
            await self._finish(answer.status, answer.translator, answer.failure)
        return True

    def _may_start_over(self, status: int | None) -> bool:
        """Whether an answer that was not continued may be had from its beginning: the upstream has refused the request
        by this HTTP status, or others, which continue nothing, serve the model. (From one that does not respond it
        would not be had, and the text so far would be lost.)"""
        targets = self._pool.upstreams.targets(self.writer.state.record.model)
        return status in REFUSALS or not all(target.upstream.can_continue for target in targets)

    async def _raise_if_restartable(self, reason: RestartReason, cause: Exception | None = None) -> None:
        """Raises UpstreamInterrupted if the client wants another attempt at an answer that was interrupted after
        content."""
        self._timings.break_off(time.monotonic())
        if self.writer.state.record.options.on_interrupt == "continue":
            await self.writer.flush()  # what was received is continued
        if self.writer.state.record.options.on_interrupt != "fail":
            raise UpstreamInterrupted(reason) from cause

    def _upstream_of(self, translator: Translator | None) -> Upstream:
        """The upstream's id and model of the answer, and its name in `tailrace.toml`, if there is one. Before the first
        request: of the attempts before."""
        if translator is None or self.target is None:
            return self._earlier.upstream
        if self._pool.upstreams.is_default:
            return translator.upstream
        return msgspec.structs.replace(translator.upstream, name=self.target.upstream.name)

    @property
    def _translator(self) -> Translator | None:
        """Of the last request; None before the first."""
        return self._fallback.translator if self._fallback else None

    async def _finish(
        self,
        status: FinalStatus,
        translator: Translator | None = None,
        error: Failure | None = None,
        detail: str = "",
    ) -> None:
        """End the generation: wait until every row is in the log, fold it, and write `done` onto its last seq.

        `detail`: more about the error, for the log alone.
        """
        writer = self.writer
        if error:
            self._timings.break_off(time.monotonic())
        await writer.flush()
        output, now = writer.output, self._now()
        details = self._details(translator, now) | {"upstream": self._upstream_of(translator or self._translator)}
        extra = translator.extra if translator else NO_EXTRA
        if error:
            redacted = self._pool.redaction.redacted
            error, extra, details["response"] = redacted(error), redacted(extra), redacted(details.get("response", {}))
        if translator and status != "failed":
            details["format"] = await self._json_checker.check(writer.state.record, writer.request, output.items())
        done = self._measured(output.build_done(status, now, error=error, **details), now)
        if not is_readable(done, extra):  # a defect: every reader's connection would end at such an entry
            logger.error("%s: the end could not be read again: %s, %s", writer.generation_id, status, error)
            details = self._details(None, now)
            done, extra = output.build_done("failed", now, error=failure("internal_error"), **details), NO_EXTRA
        outcome = await self.ending.write(done, extra)
        if outcome is Outcome.OK:
            log_end(logger, writer.state, done, detail)
            record_end(self._pool.stats, writer.state.record.model, done)
        else:
            logger.info("%s: %s is not written: %s", writer.generation_id, done.status, outcome)

    def _details(self, translator: Translator | None, now: float) -> dict[str, Any]:
        """What `done` has beside the output, the status and the error."""
        output = self.writer.output
        timings = self._timings.timings(output.created_at, output.started_at, now)
        details: dict[str, Any] = {"timings": timings, "price": self.price if self.target else self._earlier.price}
        if translator:
            details |= {"finish": translator.finish, "usage": translator.usage, "response": translator.response}
        if not details.get("usage"):
            details["prompt_bytes"] = prompt_bytes(self.writer.request)
        return details

    def measures(self) -> Measures:
        """What has been measured of the stream so far, in all attempts."""
        return self._timings.measures(self._now(), self.price, self._upstream_of(self._translator))

    def _measured(self, done: Done, now: float) -> Done:
        stream = self._timings.stream(self.writer.state.attempt, streamed_tokens(done), now)
        return msgspec.structs.replace(done, stream=stream)
