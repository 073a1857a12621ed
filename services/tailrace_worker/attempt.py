"""One attempt: ask the upstream, write what it says, end it.

    started | restarted ──▶ chunks ──▶ … ──▶ done
                              │
                              └─ fenced, cancelled: the upstream is closed, nothing more is written

Before anything was said, what the upstream loses is simply asked for again. Afterwards an interruption is told: anew by
another attempt (`restart`), or as the end (`fail`). Every way to end goes through `_finish`.
"""

import asyncio
import logging
import time
from typing import Any

import openai

from tailrace.events import NO_EXTRA, Delta, Done, Extra, Failure, FinalStatus, Finish, ItemOpened, Started
from tailrace.failures import failure
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.limits import limit_failure
from tailrace.lifecycle.termination import CONFIRM_S, terminate
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.idle_timeout import IdleTimeout
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.retry import retry_transient
from tailrace_worker.token_timings import TokenTimings
from tailrace_worker.upstream.chat.payload_parser import PayloadParser
from tailrace_worker.upstream.chat.translator import ChatTranslator, Translated, status_of
from tailrace_worker.upstream.client import ChatStream, Empty, Lost, Upstream, failure_of
from tailrace_worker.writer import Stopped, Writer

logger = logging.getLogger(__name__)

ASK_AGAIN_S = 0.2


class Interrupted(Exception):
    """The upstream failed in the middle of an answer that is to be told anew."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Attempt:
    """A worker's run under one lease."""

    def __init__(
        self, settings: Settings, log: Log, queue: Queue, appender: Appender, upstream: Upstream, taken: LeaseGrant
    ) -> None:
        self.writer = Writer(taken, appender.wake)
        self._settings = settings
        self._log = log
        self._queue = queue
        self._upstream = upstream
        self._timings = TokenTimings()
        self._redis_ahead_s = taken.now / 1000 - time.time()
        self._end: tuple[int, Done, Extra] | None = None

    @property
    def is_ending(self) -> bool:
        """Whether its end is being written, or was: what has become of it is learnt from that."""
        return self._end is not None

    async def run(self, reason: str) -> None:
        """Tell the answer. `reason`: why there is another attempt, if this is not the first.

        Raises:
            Interrupted: it should be told anew, by another attempt.
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
        if isinstance(error, Interrupted) and not writer.stopped.done():
            raise error
        if error and not isinstance(error, Stopped | Interrupted):
            logger.error("%s: the run failed", generation_id, exc_info=error)
            writer.stop("internal_error")
        if writer.output.done:
            return
        outcome = writer.stopped.result().outcome
        logger.info("%s: stopped: %s", generation_id, outcome)
        if not isinstance(outcome, Outcome):
            reason = failure(outcome)
            await retry_transient(lambda: terminate(self._log, self._queue, generation_id, "failed", reason))

    def _now(self) -> float:
        """Epoch seconds by Redis' clock."""
        return time.time() + self._redis_ahead_s

    async def _execute(self, reason: str) -> None:
        writer, state = self.writer, self.writer.state
        if writer.output.said and state.record.options.on_interrupt == "fail":
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
        """Ask until there is an answer: what is lost before anything was said is asked for again."""
        record, retries = self.writer.state.record, self._settings.upstream_retries
        for retry in range(retries + 1):
            stream = self._upstream.chat(self.writer.request)
            translator = ChatTranslator(first_item=first_item, logprobs=record.logprobs)
            try:
                await self._consume(stream, translator)
            except (Lost, openai.APIError, TimeoutError, ValueError) as error:
                self._raise_if_told_anew(error)
                if isinstance(error, Lost) and not self._timings.count and retry < retries:
                    await asyncio.sleep(ASK_AGAIN_S * 2**retry)
                    continue
                self._write(translator.close())
                await self._finish("failed", translator, failure_of(error))
            else:
                if self._breaks_off(stream, translator):
                    self._raise_if_told_anew(Lost("the answer breaks off"))
                await self._finish(*self._end_of(stream, translator))
            return

    async def _consume(self, stream: ChatStream, translator: ChatTranslator) -> None:
        """Raises TimeoutError when no content comes for too long: comments, drips and empty chunks are none."""
        answer = PayloadParser(translator)
        async with IdleTimeout(
            self._settings.upstream_first_token_timeout_s, self._settings.upstream_idle_timeout_s
        ) as idle:
            async for payloads in stream:
                for payload in payloads:
                    if self._write(answer.read(payload)):
                        idle.reset(self._timings.last)
                if translator.failure or self._is_too_long():
                    break
        self._write(translator.close())
        if self._breaks_off(stream, translator) and not self._timings.count:
            raise Empty

    def _write(self, pieces: list[Translated]) -> int:
        """Add to the log; how many of them were content."""
        for event, extra in pieces:
            self.writer.add(event, extra)
        content = sum(isinstance(event, (Delta, ItemOpened)) for event, _ in pieces)
        if content:
            self._timings.record(time.monotonic(), content)
        return content

    def _raise_if_told_anew(self, error: Exception) -> None:
        if self._timings.count and self.writer.state.record.options.on_interrupt == "restart":
            silent = isinstance(error, TimeoutError)
            raise Interrupted("upstream_silent" if silent else "upstream_lost") from error

    def _breaks_off(self, stream: ChatStream, translator: ChatTranslator) -> bool:
        """Whether the stream ended cleanly and the answer did not."""
        complete = stream.complete or translator.finished or translator.failure is not None
        return not complete and not self._is_too_long()

    def _is_too_long(self) -> bool:
        """`done` holds the text once more, so half of what a log may weigh."""
        return self.writer.size > self._settings.max_log_bytes // 2

    def _end_of(
        self, stream: ChatStream, translator: ChatTranslator
    ) -> tuple[FinalStatus, ChatTranslator, Failure | None]:
        """How a stream that ended ended."""
        if translator.failure:
            return "failed", translator, translator.failure
        if stream.complete or translator.finished:
            return status_of(translator.finish), translator, None
        if self._is_too_long():
            return "incomplete", translator, Failure("The answer is longer than a log may be.", "log_limit")
        return "incomplete", translator, Failure("The upstream's answer breaks off.", "upstream_truncated")

    async def _finish(
        self, status: FinalStatus, translator: ChatTranslator | None = None, error: Failure | None = None
    ) -> None:
        """The one way to end: everything written is in the log first, then `done` goes onto that very seq."""
        writer = self.writer
        await writer.flush()
        output, now = writer.output, self._now()
        error = self._upstream.discreet(error) if error else None
        finish: list[Finish] | None = None
        told: dict[str, Any] = {"timings": self._timings.timings(output.created_at, output.started_at, now)}
        if translator:
            finish = translator.finish or None
            told |= {"usage": translator.usage, "upstream": translator.upstream}
        done = output.build_done(status, now, finish=finish, error=error, request=writer.request, **told)
        self._end = output.last_seq, done, translator.extra if translator else NO_EXTRA
        outcome = await self._write_end()
        if outcome in (Outcome.OK, Outcome.DONE):
            await self._finalize()
        if outcome is Outcome.OK:
            writer.mark_done(done)
        else:
            writer.stop(outcome)
        logger.info("%s: %s: %s", writer.generation_id, status, outcome)

    async def _write_end(self) -> Outcome:
        """Write the end onto the top that was folded; where the server has lost rows since, those first.

        Raises:
            Stopped: another has the word now.
        """
        assert self._end is not None
        writer, (last_seq, done, extra) = self.writer, self._end
        while True:
            answer = await retry_transient(
                lambda: self._log.finish(writer.generation_id, writer.epoch, last_seq, done, extra)
            )
            if answer.outcome not in (Outcome.CHANGED, Outcome.UNKNOWN):
                break
            writer.resend(answer.seq if answer.outcome is Outcome.CHANGED else last_seq)
            await writer.flush()
        return answer.outcome

    async def _finalize(self) -> None:
        await retry_transient(lambda: finalize(self._queue, self.writer.state))

    async def confirm(self, reconnects: ReconnectSignal) -> None:
        """When Redis is back, and once the end must be on disk: see that it is still there, or write it again.

        A server that fsyncs every second and crashes right after `done` comes back without it; this worker is the
        only one who still has the rows.
        """
        unsure = self.writer.output.done is not None
        while unsure:
            unsure = await reconnects.wait(CONFIRM_S)
            try:
                outcome = await self._write_end()
            except Stopped as stopped:
                logger.warning("%s: its end was lost: %s", self.writer.generation_id, stopped)
                return
            if outcome is Outcome.OK:
                logger.warning("%s: Redis had lost the end; it was written again", self.writer.generation_id)
                await self._finalize()
                unsure = True
