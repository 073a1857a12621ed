"""Gathers appends across the generations on one server: one pipeline is in flight, later events go with the next.

    writer   ── wake ────▶ appender     the writer has events to send, or a batch to send again
    appender ── freeze ──▶ writer       the batch: pending events are merged and numbered only now
    appender ── result ──▶ writer       the batch is in the log, must be sent again, or writing stops

This exchange is inherent in batching: the appender decides when to send, the writer decides what, and the writer
needs the result of a batch before it may number more events.

An idle worker sends each token at once. A busy one is throttled: pipelines are 2 ms apart on average, with a small
burst allowance. That delay is invisible to readers; an append costs the worker 6 µs where sixty share a pipeline and
40 µs where it goes alone, and Redis 11 µs where sixty share and 30 µs where six do. Beyond 20,000 appends a second the
interval grows, so that adjacent tokens merge and a token costs Redis less than 5 µs.

A pipeline holds one script call for each generation, so a failure of one does not delay the others.

Logs that Redis has lost are restored beside the pipelines, a few at a time, so that the worker encodes one while Redis
executes another: 100 logs of 10,000 rows take 1.4 s (one after the other, and packed by redis-py, they took 7.3).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.events import GenerationRecord
from tailrace.failures import FailureCode
from tailrace.log import AppendBatch, AppendResult, Log, Outcome
from tailrace.process.tasks import cancel_and_wait
from tailrace.process.throttle import Throttle, shared_interval
from tailrace.redis.redirects import SlotUnavailable
from tailrace.stats import Stats
from tailrace_worker.writer import Writer, refusal

BACKOFF_S = (0.05, 0.1, 0.2)
PIPELINE_INTERVAL_S = 0.002
INTERVAL_PER_APPEND_S = 1 / 20_000
MAX_INTERVAL_S = 0.04
RESTORES = 4
"""Logs that are restored at the same time."""

logger = logging.getLogger(__name__)


class Appender:
    """Sends the batches of its writers. `on_restored` is awaited for each log that had to be restored."""

    def __init__(
        self, log: Log, on_restored: Callable[[GenerationRecord], Awaitable[None]], stats: Stats | None = None
    ) -> None:
        stats = stats or Stats("worker")
        self._rows, self._round_trips = stats.durations("append_batch_rows"), stats.durations("append_seconds")
        self._entries, self._failures = stats.count("appended_entries_total"), stats.count("append_failures_total")
        self._restored_logs = stats.count("logs_restored_total")
        self._log = log
        self._on_restored = on_restored
        self._ready: dict[Writer, None] = {}
        self._restoring: dict[Writer, asyncio.Task[None]] = {}
        self._restores = asyncio.Semaphore(RESTORES)
        self._wake = asyncio.Event()
        self._is_stopped = False
        interval_s = shared_interval(PIPELINE_INTERVAL_S, log.server.primary_count)
        self._throttle = Throttle(interval_s, each_s=INTERVAL_PER_APPEND_S, longest_s=MAX_INTERVAL_S)

    def wake(self, writer: Writer) -> None:
        """Include the writer in the next pipeline."""
        self._ready[writer] = None
        self._wake.set()

    def stop(self) -> None:
        """End `run` once nothing is left to send or to restore: there are no more writers."""
        self._is_stopped = True
        self._wake.set()

    async def run(self) -> None:
        """Send pipelines until stopped, or cancelled. After a transient error the same batches are sent again, with a
        backoff."""
        try:
            await self._send_until_stopped()
        finally:
            await cancel_and_wait(*self._restoring.values())

    async def _send_until_stopped(self) -> None:
        failures = 0
        while self._ready or self._restoring or not self._is_stopped:
            await self._wake.wait()
            self._wake.clear()
            writers, self._ready = list(self._ready), {}
            failed = await self._send(writers)
            if failed is None:
                failures = 0
                if (pause_s := self._throttle.charge(len(writers))) > 0:
                    await asyncio.sleep(pause_s)
                continue
            if failures == 0:
                logger.warning("append: transient error, will retry: %s: %s", type(failed).__name__, failed)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    async def _send(self, writers: list[Writer]) -> Exception | None:
        """Send one pipeline; return the first transient error. Its batches stay in flight and are sent again.

        A slot that is moving, while others are not, is none: its batches go with the next pipeline.
        """
        calls = [(writer, batch) for writer in writers if writer not in self._restoring and (batch := _freeze(writer))]
        if not calls:
            return None
        results: Sequence[AppendResult | Exception]
        began = time.monotonic()
        try:
            results = await self._log.append([batch for _, batch in calls])
        except RedisUnavailable as error:
            results = [error] * len(calls)
        away = [result for result in results if isinstance(result, RedisUnavailable)]
        if away:
            self._failures.value += 1
        if len(away) < len(results):
            self._measure(calls, results, time.monotonic() - began)
        for (writer, _), result in zip(calls, results, strict=True):
            if isinstance(result, AppendResult) and result.outcome is Outcome.UNKNOWN:
                task = asyncio.create_task(self._restore(writer), name=f"restore {writer.generation_id}")
                self._restoring[writer] = task
            else:
                writer.on_result(result)
        only_slots = len(away) < len(results) and all(isinstance(error, SlotUnavailable) for error in away)
        return away[0] if away and not only_slots else None

    def _measure(
        self, calls: Sequence[tuple[Writer, AppendBatch]], results: Sequence[AppendResult | Exception], seconds: float
    ) -> None:
        self._round_trips.observe(seconds)
        sizes = [
            len(batch.rows)
            for (_, batch), result in zip(calls, results, strict=True)
            if isinstance(result, AppendResult) and result.outcome is Outcome.OK
        ]
        self._entries.value += sum(sizes)
        for size in set(sizes):
            self._rows.observe(size, sizes.count(size))

    async def _restore(self, writer: Writer) -> None:
        """Restore a log, and have its batch in flight sent again. Until then none of its batches is sent."""
        outcome: Outcome | FailureCode
        try:
            async with self._restores:
                outcome = await self._restored(writer)
        except (RedisFull, RedisRefused) as error:
            outcome = refusal(error)
        except Exception:
            logger.exception("%s: restoring the log failed", writer.generation_id)
            outcome = "internal_error"
        finally:
            del self._restoring[writer]
            self._wake.set()
        if outcome is Outcome.OK:
            writer.on_restored()
        else:
            writer.stop(outcome)

    async def _restored(self, writer: Writer) -> Outcome:
        """Restore the lease and the rows that Redis has lost, unless another epoch has written since.

        Raises:
            RedisFull, RedisRefused.
        """
        while True:
            try:
                await self._log.announce_restore(writer.generation_id)
                outcome = await self._log.restore(writer.state, writer.request, writer.rows)
                if outcome is Outcome.OK:
                    self._restored_logs.value += 1
                    await self._on_restored(writer.state.record)
            except RedisUnavailable:
                await asyncio.sleep(BACKOFF_S[-1])
            else:
                logger.warning("%s: restoring the log after data loss: %s", writer.generation_id, outcome)
                return outcome


def _freeze(writer: Writer) -> AppendBatch | None:
    """The writer's batch. An event that cannot be encoded is a defect of this worker, and stops this writer alone."""
    try:
        return writer.freeze()
    except Exception:
        logger.exception("%s: append: an event could not be encoded", writer.generation_id)
        writer.stop("internal_error")
        return None
