"""Ends and deletions that this process has written, until Redis must have them on disk.

    written ──▶ kept ──▶ checked after CONFIRM_S, and after each reconnection until then ──▶ forgotten
                 ▲                        │
                 └── written again, where the server has lost it

A server that syncs every second, or a replica that takes over, may come back without an end that clients have read, or
without a cancel or a deletion that was acknowledged. The process that wrote it writes it again. (Without that, 20 of 20
cancelled and 20 of 20 deleted generations ran again after a rollback, and were readable as completed, measured.)

One task checks all of them, a few hundred in a round trip: the state's epoch, seq and status, or the tombstone's mark.
Another one repeats on the queue's server what follows an end (`queue_updates`), also for an end that was confirmed.
What is kept is bounded by `max_bytes`: beyond it the oldest ends lose their rows. They are then written again only
where the server still has the generation, with the text that it has; and beyond that the oldest are forgotten.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from tailrace.errors import Gone, NotFound, RedisRefused, RedisUnavailable, TailraceError, Unavailable
from tailrace.events import Failure, FinalStatus
from tailrace.lifecycle.end_line import log_end
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.queue_updates import QueueUpdates
from tailrace.lifecycle.termination import CONFIRM_S, write_end
from tailrace.lifecycle.written_end import Deletion, WrittenEnd
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.stats import Stats
from tailrace.stats.ends import record_end

TICK_S = 0.1
CHECKED_AT_ONCE = 200
WRITTEN_AT_ONCE = 8

CONFIRM_MARGIN_S = 0.25
"""So long before its retention ends, an ended generation is not written any more: a call that was sent in time may
reach Redis late, and would bring back what has expired. (Without that limit an expired log passed for a lost one: with
a retention of 1 s it was restored and expired 11 times in 26 s, measured.)"""

logger = logging.getLogger(__name__)


class _Kept:
    """An act until it is confirmed. `checked_at`: when it was known to be on the server, `due`: of the next check,
    `expires`: when it must not be written any more; all of `time.monotonic()`. `reported`: the error that keeps it from
    being written again, once it was logged."""

    def __init__(self, act: WrittenEnd | Deletion) -> None:
        self.act = act
        self.size = 0
        self.reported: type[TailraceError] | None = None
        self._pause_s, self.expires = CONFIRM_S, math.inf
        if isinstance(act, WrittenEnd):
            retention_s = act.state.record.options.retention_s
            self._pause_s = min(CONFIRM_S, retention_s - 2 * CONFIRM_MARGIN_S)
            self.expires = act.written_at + retention_s - CONFIRM_MARGIN_S
        self.seen(time.monotonic())

    def seen(self, at: float) -> None:
        """The server had it then. It is checked once more."""
        self.checked_at, self.due = at, at + self._pause_s


class Confirmations:
    """Ends and deletions of this process.

    `connected_at`: when the newest connection to the log's server was made (`time.monotonic()`). `max_bytes`: of
    memory, estimated; a worker needs no limit, because it holds the rows of what it runs anyway.
    """

    def __init__(
        self, log: Log, queue: Queue, *, connected_at: Callable[[], float], max_bytes: float = math.inf,
        stats: Stats | None = None,
    ) -> None:  # fmt: skip
        self._stats = stats or Stats("frontend")
        self._log = log
        self._queue = queue
        self._connected_at = connected_at
        self._max_bytes = max_bytes
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._queue_updates = QueueUpdates()
        self._reported: type[TailraceError] | None = None
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Memory that is kept, estimated; counted only where it is limited."""
        return self._bytes

    # ── acts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def terminate(self, generation_id: str, status: FinalStatus, error: Failure | None = None) -> None:
        """End the generation with this status, unless it has ended, and keep the end until it is confirmed.

        Raises:
            NotFound, Gone: there is no such generation, or no longer.
            RedisUnavailable: a server could not be reached; the call may be repeated.
        """
        if end := await write_end(self._log, generation_id, status, error):
            self.keep(end)
            log_end(logger, end.state, end.done)
            record_end(self._stats, end.state.record.model, end.done)
            await self._queue.index.record_output(end.state.record, end.output_bytes)
            await finalize(self._log, self._queue, end.ended)

    async def delete(self, state: GenerationState) -> None:
        """Delete an ended generation, and keep the deletion until it is confirmed.

        Raises:
            RedisUnavailable: a server could not be reached; the call may be repeated.
        """
        await self._log.delete(state.record.id, state.record)
        self.keep(Deletion(state))
        await self._queue.index.forget(state.record.owner, [state.record.id])

    def keep(self, act: WrittenEnd | Deletion) -> None:
        """Confirm what was written just now. It replaces what was kept of the same generation."""
        self._forget(self._kept.get(act.generation_id))
        kept = self._kept[act.generation_id] = _Kept(act)
        if self._max_bytes != math.inf:
            kept.size = act.size
            self._bytes += kept.size
            self._limit()
        self._some.set()
        self._none.clear()

    def _forget(self, kept: _Kept | None) -> None:
        if kept is not None and self._kept.get(kept.act.generation_id) is kept:
            del self._kept[kept.act.generation_id]
            self._bytes -= kept.size
            if not self._kept:
                self._some.clear()
                self._none.set()

    def _limit(self) -> None:
        """Drop rows, and then whole ends, the oldest first, down to three quarters of the limit."""
        if self._bytes <= self._max_bytes:
            return
        for kept in list(self._kept.values()):
            if self._bytes > 0.75 * self._max_bytes and isinstance(kept.act, WrittenEnd):
                kept.act = kept.act.without_rows()
                self._bytes += kept.act.size - kept.size
                kept.size = kept.act.size
        for generation_id, kept in list(self._kept.items())[:-1]:
            if self._bytes > 0.75 * self._max_bytes:
                logger.warning("%s: too many ends at once: this one is not confirmed", generation_id)
                self._forget(kept)

    # ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check_until_cancelled(), name="check ends")
            tasks.create_task(self._queue_updates.run(), name="queue updates")

    async def _check_until_cancelled(self) -> None:
        while True:
            await self._some.wait()
            try:
                await self._check_due()
            except (Unavailable, RedisRefused) as error:
                self._report(error)
            except Exception:
                logger.exception("confirmations")
            else:
                self._reported = None
            await asyncio.sleep(TICK_S)

    def _report(self, error: TailraceError) -> None:
        """Not with every tick. The subscriber logs when Redis is away."""
        if not isinstance(error, RedisUnavailable) and type(error) is not self._reported:
            self._reported = type(error)
            logger.warning("confirmations: %s: %s; %d wait", type(error).__name__, error, len(self._kept))

    async def drain(self, seconds: float) -> None:
        """Wait until everything is confirmed, at most this long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                while self._kept or self._queue_updates:
                    await self._none.wait()
                    await self._queue_updates.wait_until_none()
        if self._kept:
            logger.warning("%d ends or deletions could not be confirmed before this process stops", len(self._kept))
        if self._queue_updates:
            logger.warning("%d ends could not be repeated on the queue's server", len(self._queue_updates))

    async def _check_due(self) -> None:
        """Check what is due, and all that was written or checked before the newest connection.

        Raises:
            RedisUnavailable: the rest is checked later.
        """
        now, connected_at = time.monotonic(), self._connected_at()
        due = [kept for kept in self._kept.values() if kept.due <= now or kept.checked_at < connected_at]
        for kept in due:
            if kept.expires <= now:
                logger.warning("%s: the end could not be confirmed: its retention is over", kept.act.generation_id)
                self._forget(kept)
        for start in range(0, len(due), CHECKED_AT_ONCE):
            await self._check([kept for kept in due[start : start + CHECKED_AT_ONCE] if kept.expires > now])

    async def _check(self, due: Sequence[_Kept]) -> None:
        began = time.monotonic()
        lost, unknown = await self._find_lost(due)
        for kept in due:
            if kept in lost or kept in unknown:
                continue
            if kept.checked_at < self._connected_at():
                kept.seen(began)
            else:
                self._confirm(kept)
        for start in range(0, len(lost), WRITTEN_AT_ONCE):
            await asyncio.gather(*map(self._write_again, lost[start : start + WRITTEN_AT_ONCE]))

    def _confirm(self, kept: _Kept) -> None:
        """It is on disk. What follows it on the queue's server is repeated there: that server may have been away, or
        have lost it."""
        generation_id = kept.act.generation_id
        self._forget(kept)
        if generation_id not in self._queue_updates:
            act = kept.act.without_rows()
            self._queue_updates.add(generation_id, partial(act.update_queue, self._log, self._queue))

    async def _find_lost(self, due: Sequence[_Kept]) -> tuple[list[_Kept], list[_Kept]]:
        """What the server has lost, and what is not known because a primary of a cluster is away.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        ends = [(kept, kept.act.position) for kept in due if isinstance(kept.act, WrittenEnd)]
        deletions = [kept for kept in due if isinstance(kept.act, Deletion)]
        positions = await self._log.positions([kept.act.generation_id for kept, _ in ends])
        deleted = await self._log.are_deleted([kept.act.generation_id for kept in deletions])
        found = [
            *((kept, position, expected) for (kept, expected), position in zip(ends, positions, strict=True)),
            *((kept, is_deleted, True) for kept, is_deleted in zip(deletions, deleted, strict=True)),
        ]
        for _, seen, _ in found:
            if isinstance(seen, TailraceError) and not isinstance(seen, RedisUnavailable):
                raise seen
        unknown = [kept for kept, seen, _ in found if isinstance(seen, TailraceError)]
        return [kept for kept, seen, expected in found if seen != expected and kept not in unknown], unknown

    async def _write_again(self, kept: _Kept) -> None:
        """Write again what was lost. Where Redis takes nothing now, it is tried again with the next tick."""
        generation_id = kept.act.generation_id
        try:
            async with asyncio.timeout(None if kept.expires == math.inf else kept.expires - time.monotonic()):
                outcome = await kept.act.write_again(self._log)
                if isinstance(kept.act, WrittenEnd) and outcome in (Outcome.FENCED, Outcome.UNKNOWN):
                    await self._end_again(kept, kept.act, outcome)
                    return
        except TimeoutError:
            return  # it expires, and is forgotten by the next tick
        except (Unavailable, RedisRefused) as error:
            if not isinstance(error, RedisUnavailable) and type(error) is not kept.reported:
                kept.reported = type(error)
                logger.warning("%s: not written again yet: %s: %s", generation_id, type(error).__name__, error)
            return
        except Exception:
            logger.exception("%s: what was ended or deleted could not be confirmed", generation_id)
            self._forget(kept)
            return
        if outcome in (Outcome.OK, Outcome.DONE):
            act = kept.act.without_rows()  # an update may wait for hours, and `max_bytes` does not bound what waits
            self._queue_updates.add(generation_id, partial(act.finalize_again, self._log, self._queue))
        if outcome is Outcome.OK:
            logger.warning("%s: Redis had lost the end or the deletion; it was written again", generation_id)
            self._stats.count("ends_rewritten_total").value += 1
            kept.seen(time.monotonic())
        else:
            self._forget(kept)  # another end was written, or it was deleted or has expired

    async def _end_again(self, kept: _Kept, act: WrittenEnd, outcome: Outcome) -> None:
        """This end cannot be written: another process has acquired the generation, or the rows are not kept."""
        generation_id = act.generation_id
        if act.may_fence:
            with contextlib.suppress(NotFound, Gone):
                await self.terminate(generation_id, act.done.status, act.done.error)
                logger.warning("%s: Redis had lost the end; it was ended again as %s", generation_id, act.done.status)
        else:
            logger.warning("%s: the end could not be confirmed: %s", generation_id, outcome)
        self._forget(kept)  # unless the end that was written now has replaced it
