"""One generation in a worker: one attempt, and another one after each interruption by the upstream.

acquire ──▶ attempt ──▶ done
   │           └─ interrupted, and the request allows a restart: acquire again
   └─ HELD, TERMINATING, DONE, GONE: nothing to run
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from tailrace.errors import RedisRefused, Unavailable
from tailrace.failures import RestartReason
from tailrace.ids import new_token, short_name
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.steps import log_step
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.log.measures import Measures
from tailrace.log.state import GenerationState
from tailrace.process import log_fields
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.redis.outage import level_of
from tailrace.settings import Settings
from tailrace_worker.appender import Appender
from tailrace_worker.appenders import Appenders
from tailrace_worker.attempt import Attempt, UpstreamInterrupted
from tailrace_worker.attempt_span import run_traced
from tailrace_worker.json_checker import JsonChecker
from tailrace_worker.retry import retry_transient
from tailrace_worker.upstream_pool import UpstreamPool
from tailrace_worker.writer import Writer

logger = logging.getLogger(__name__)


class GenerationRun:
    """A worker's run of one generation. `count_neighbours`: of the worker's other jobs. `json_checker`: the worker's;
    None: one for this run."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        queue: Queue,
        confirmations: Confirmations,
        appenders: Appenders,
        pool: UpstreamPool,
        worker: str,
        count_neighbours: Callable[[], int],
        json_checker: JsonChecker | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._queue = queue
        self._confirmations = confirmations
        self._appenders = appenders
        self._pool = pool
        self._json_checker = json_checker or JsonChecker()
        self._worker = worker
        self._count_neighbours = count_neighbours
        self._appender: Appender | None = None
        self._current: Attempt | None = None
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> GenerationState | None:
        """The state under the latest lease; None before the first one."""
        return self._current.writer.state if self._current else None

    @property
    def measures(self) -> Measures:
        """What the attempts have measured so far."""
        return self._current.measures() if self._current else Measures()

    @property
    def contents(self) -> int:
        """Pieces of content that the attempt has received."""
        return self._current.contents if self._current else 0

    @property
    def upstream_response(self) -> str:
        """The response that an upstream runs in its background, for the generation's state; empty for none."""
        return self._current.background.stored if self._current else ""

    async def run(self, generation_id: str, job_id: str) -> None:
        """Run the generation until it ends, or until another process has acquired it. Its end is to be confirmed."""
        log_fields.bind(generation=generation_id, worker=self._worker)
        try:
            await self._run(generation_id, job_id)
        finally:
            if self._appender:
                self._appenders.leave(self._appender)

    async def _run(self, generation_id: str, job_id: str) -> None:
        reason: RestartReason = "worker_lost"
        earlier: Measures | None = None
        while True:
            grant = await self._acquire(generation_id, job_id)
            if grant.outcome is not Outcome.OK:
                logger.info("%s: nothing to run: %s", generation_id, grant.outcome)
                return await self._mark_started(job_id)
            self._appender = self._appender or self._appenders.join(generation_id)
            self._current = Attempt(
                self._settings, self._log, self._queue, self._confirmations, self._appender, self._pool, grant,
                self._json_checker, earlier,
            )  # fmt: skip
            self._current.background.on_change = self._store
            self._current.on_first_content(self._store)
            self._log_takeover(grant)
            marking = asyncio.create_task(self._mark_started(job_id), name=f"mark {generation_id}")
            try:
                await run_traced(self._current, self._worker, reason)
            except UpstreamInterrupted as interruption:
                reason, earlier = interruption.reason, self._current.measures()
                state = self._current.writer.state
                message = "%s: interrupted: %s; another attempt follows"
                log_step(logger, "interrupted", state, message, reason, reason=reason)
            else:
                if end := self._current.ending.written:
                    self._confirmations.keep(end)
                return None
            finally:
                await cancel_and_wait(marking, *self._storing)

    def _log_takeover(self, grant: LeaseGrant) -> None:
        state = grant.state
        if state and state.taken_from not in ("", self._worker):
            message, former = "%s taken over from %s (attempt %d)", short_name(state.taken_from)
            log_step(logger, "taken_over", state, message, former, state.attempt, former=state.taken_from)

    def _store(self) -> "asyncio.Task[None]":
        """Store at once what a worker that dies, and an end by another process, need: the response that runs in the
        background of an upstream, whose first event waits for it, and the measures with the first content, for which no
        token waits."""
        storing = asyncio.create_task(self._renew(), name=f"renew {self.state.record.id if self.state else ''}")
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        return storing

    async def _renew(self) -> None:
        state = self.state
        assert state is not None
        generation_id = state.record.id
        try:
            await self._log.renew(
                [(generation_id, state.epoch, False)],
                neighbours=self._count_neighbours(),
                measures={generation_id: msgspec.json.encode(self.measures)},
                upstream_responses={generation_id: self.upstream_response},
            )
        except (Unavailable, RedisRefused) as error:  # the next renewal has it as well
            logger.log(level_of(error), "%s: renew: %s: %s", state.record.id, type(error).__name__, error)

    async def _mark_started(self, job_id: str) -> None:
        """Take the job out of the queue, while the attempt begins: it is on another server, which may not reply. A job
        that stays in the queue is taken out by arq after the run, or by a worker that is refused the lease."""
        try:
            await self._queue.jobs.mark_started(job_id)
        except (Unavailable, RedisRefused) as error:
            logger.warning("%s: the job stays in the queue: %s", job_id, error)

    async def _acquire(self, generation_id: str, job_id: str) -> LeaseGrant:
        token = f"{job_id}/{new_token()}"  # unique to this run: a job that is delivered twice must not run twice
        return await retry_transient(
            lambda: self._log.acquire(generation_id, token, worker=self._worker, neighbours=self._count_neighbours())
        )

    def resend_from_last(self, epoch: int | None = None) -> None:
        """The server has lost this epoch: send the last row again, so that the appender restores the log.

        `epoch`: as for `stop`.
        """
        if writer := self._writer_of(epoch):
            writer.resend(writer.output.last_id.seq)

    def stop(self, outcome: Outcome, epoch: int | None = None) -> None:
        """Another process has acquired or ended the generation: close the upstream and write nothing more.

        `epoch`: of the attempt that was asked about; None: whichever runs.
        """
        if writer := self._writer_of(epoch):
            writer.stop(outcome)

    def _writer_of(self, epoch: int | None) -> Writer | None:
        """The writer of the attempt, unless another one follows it already, or its end is being written."""
        current = self._current
        if current is None or current.ending.has_begun or epoch not in (None, current.writer.epoch):
            return None
        return current.writer
