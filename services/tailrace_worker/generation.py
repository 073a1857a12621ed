"""One run of one generation: take over, ask the upstream, write what it says, end it.

    take over ──▶ started | restarted ──▶ chunks ──▶ … ──▶ done
        │                                    │
        └─ held, ended, gone: nothing to do  └─ fenced, cancelled: the upstream is closed, nothing more is written

Before anything was said an attempt is simply repeated; afterwards an interruption is told. Every way to end goes
through `_finish`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import openai

from tailrace.connection import PASSES
from tailrace.ending import end
from tailrace.events import NO_EXTRA, Delta, Failure, FinalStatus, Finish, Started
from tailrace.ids import new_token
from tailrace.log import Log, Outcome, TakeOver
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.pace import Pace
from tailrace_worker.upstream.chat import ChatTranslator, status_of
from tailrace_worker.upstream.client import ChatStream, Empty, Lost, Upstream, failure_of
from tailrace_worker.writer import Stopped, Writer

logger = logging.getLogger(__name__)

RETRY_S = 0.2
T = TypeVar("T")


class Interrupted(Exception):
    """The upstream failed in the middle of an answer that is to be told anew."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Generation:
    """A run in a worker. `stop()` ends it from outside; `attempt` is 0 until it has taken over."""

    def __init__(
        self, settings: Settings, log: Log, queue: Queue, appender: Appender, upstream: Upstream, worker: str
    ) -> None:
        self._settings = settings
        self._log = log
        self._queue = queue
        self._appender = appender
        self._upstream = upstream
        self._worker = worker
        self._writer: Writer | None = None
        self._pace = Pace()
        self._redis_offset = 0.0
        self.attempt = 0

    async def run(self, generation: str, dispatch: str) -> None:
        """Run it to its end, or until it is somebody else's."""
        reason = "worker_lost"
        while True:
            taken = await self._take_over(generation, dispatch)
            await _until_redis_answers(lambda: self._queue.taken(dispatch))
            if taken.outcome is not Outcome.OK:
                logger.info("%s: nothing to do: %s", generation, taken.outcome)
                return None
            try:
                return await self._attempt(taken, reason)
            except Interrupted as interruption:
                reason = interruption.reason
                logger.info("%s: interrupted: %s", generation, reason)

    async def _take_over(self, generation: str, dispatch: str) -> TakeOver:
        token = f"{dispatch}/{new_token()}"  # this run's own: the same dispatch delivered twice is still one run
        return await _until_redis_answers(lambda: self._log.take_over(generation, token, worker=self._worker))

    async def _attempt(self, taken: TakeOver, reason: str) -> None:
        """Raises Interrupted if it should be told anew."""
        self._redis_offset = taken.now / 1000 - time.time()
        self._pace = Pace()
        self._writer = writer = Writer(taken, self._appender.wake)
        self.attempt = taken.attempt
        telling = asyncio.create_task(self._tell(writer, reason), name=f"telling {writer.generation}")
        try:
            either: list[asyncio.Future[Any]] = [telling, writer.stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await self._leave(writer, telling)

    def stop(self, outcome: Outcome | str) -> None:
        """Close the upstream and write nothing more."""
        if self._writer:
            self._writer.stop(outcome)

    async def _leave(self, writer: Writer, telling: "asyncio.Task[None]") -> None:
        """What is left to do once nothing more is written: log why, and end what can neither go on nor has ended."""
        generation = writer.generation
        error = None if telling.cancelled() else telling.exception()
        if isinstance(error, Interrupted) and not writer.stopped.done():
            raise error
        if error and not isinstance(error, Stopped | Interrupted):
            logger.error("%s: the run failed", generation, exc_info=error)
            writer.stop("internal_error")
        if writer.output.done:
            return
        outcome = writer.stopped.result().outcome
        logger.info("%s: stopped: %s", generation, outcome)
        if not isinstance(outcome, Outcome):
            failure = Failure("The worker cannot go on with it.", outcome)
            await _until_redis_answers(lambda: end(self._log, self._queue, generation, "failed", failure))

    def _now(self) -> float:
        """Epoch seconds by Redis' clock."""
        return time.time() + self._redis_offset

    async def _tell(self, writer: Writer, reason: str) -> None:
        number, options = writer.state.number, writer.state.head.options
        if writer.output.said and options.on_interrupt == "fail":
            return await self._finish(writer, "failed", error=Failure("The worker was lost.", "worker_lost"))
        if writer.state.tries > self._settings.max_attempts:
            return await self._finish(writer, "failed", error=Failure("Too many attempts.", "attempts_exhausted"))
        if writer.output.said:
            writer.add(writer.output.restarted(number, reason, self._now()))
        else:
            writer.add(Started(number, self._now()))
        try:
            async with asyncio.timeout(writer.state.deadline / 1000 - self._now()):
                await self._answer(writer)
        except TimeoutError:
            await self._finish(writer, "failed", error=Failure("The deadline has passed.", "deadline_exceeded"))
        return None

    async def _answer(self, writer: Writer) -> None:
        """Ask until there is an answer: what is lost before anything was said is asked for again."""
        for attempt in range(self._settings.upstream_retries + 1):
            stream = self._upstream.chat(writer.state.head.request)
            translator = ChatTranslator(first_item=writer.output.next_item, logprobs=writer.state.head.logprobs)
            try:
                await self._consume(stream, translator, writer)
            except (Lost, openai.APIError, TimeoutError, ValueError) as error:
                self._raise_if_told_anew(writer, error)
                again = isinstance(error, Lost) and not self._pace.count and attempt < self._settings.upstream_retries
                if again:
                    await asyncio.sleep(RETRY_S * 2**attempt)
                    continue
                await self._finish(writer, "failed", translator, failure_of(error))
            else:
                if self._breaks_off(stream, translator):
                    self._raise_if_told_anew(writer, Lost("the answer breaks off"))
                await self._finish(writer, *self._end_of(stream, translator))
            return

    def _raise_if_told_anew(self, writer: Writer, error: Exception) -> None:
        """An interruption of what was said: with `restart`, another attempt tells it anew."""
        if self._pace.count and writer.state.head.options.on_interrupt == "restart":
            silent = isinstance(error, TimeoutError)
            raise Interrupted("upstream_silent" if silent else "upstream_lost") from error

    def _breaks_off(self, stream: ChatStream, translator: ChatTranslator) -> bool:
        """Whether the stream ended cleanly and the answer did not."""
        complete = stream.complete or translator.finished or translator.failure is not None
        return not complete and not self._is_too_long()

    def _is_too_long(self) -> bool:
        """`done` holds the text once more, so half of what a log may weigh."""
        return self._writer is not None and self._writer.size > self._settings.max_log_bytes // 2

    async def _consume(self, stream: ChatStream, translator: ChatTranslator, writer: Writer) -> None:
        """Raises TimeoutError when no content comes for too long: comments, drips and empty chunks are none."""
        settings, loop = self._settings, asyncio.get_running_loop()
        async with asyncio.timeout(settings.first_token_timeout_s) as patience:
            async for chunks in stream:
                content = 0
                for chunk in chunks:
                    for event, extra in translator.translate(chunk):
                        writer.add(event, extra)
                        content += isinstance(event, Delta)
                if content:
                    self._pace.heard(loop.time(), content)
                    patience.reschedule(loop.time() + settings.idle_timeout_s)
                if translator.failure or self._is_too_long():
                    break
        for event, extra in translator.close():
            writer.add(event, extra)
        if self._breaks_off(stream, translator) and not self._pace.count:
            raise Empty

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
        self,
        writer: Writer,
        status: FinalStatus,
        translator: ChatTranslator | None = None,
        error: Failure | None = None,
    ) -> None:
        """The one way to end: everything written is in the log first, then `done` goes onto that very top."""
        if not writer.stopped.done():
            await writer.flush()
        output, now = writer.output, self._now()
        told: dict[str, Any] = {
            "error": error,
            "timings": self._pace.timings(output.created_at, output.started_at, now),
        }
        finish: list[Finish] | None = None
        usage = None
        if translator:
            finish, usage = translator.finish or None, translator.usage
            told["upstream"] = translator.upstream
        done = output.ended(status, now, finish=finish, usage=usage, request=writer.state.head.request, **told)
        extra = translator.extra if translator else NO_EXTRA
        answer = await _until_redis_answers(
            lambda: self._log.finish(writer.generation, writer.attempt, output.top, done, extra)
        )
        if answer.outcome is Outcome.OK:
            writer.ended(done)
            await _until_redis_answers(lambda: self._queue.finished(writer.generation))
        logger.info("%s: %s: %s", writer.generation, status, answer.outcome)


async def _until_redis_answers(call: Callable[[], Awaitable[T]]) -> T:
    """Every call on the log may be repeated freely, so it is, until the server is back or the job is cancelled."""
    while True:
        try:
            return await call()
        except PASSES as error:
            logger.warning("redis: %s: %s", type(error).__name__, error)
            await asyncio.sleep(RETRY_S)
