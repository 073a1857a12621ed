"""The end of a generation: `done` is written onto the sequence number that was folded, and confirmed.

    write ──▶ finalize ──▶ confirm … until it should be on disk
      ▲                       │
      └── the server has lost it, or rows before it ──┘

A server that syncs every second and crashes right after `done` restarts without it, and only this worker still has the
rows. So the worker keeps them for a while, and writes the end again if the server comes back without it.
"""

import asyncio
import logging

from tailrace.errors import RedisUnavailable
from tailrace.events import Done, Extra, seq_span
from tailrace.lifecycle.finalization import finalize, remove_from_queue
from tailrace.lifecycle.termination import CONFIRM_S
from tailrace.log import AppendResult, Log, Outcome
from tailrace.queue import Queue
from tailrace_worker.reconnect_signal import ReconnectSignal
from tailrace_worker.retry import retry_transient
from tailrace_worker.writer import Stopped, Writer

logger = logging.getLogger(__name__)

CONFIRM_MARGIN_S = 0.25
"""So long before its retention ends, an ended generation is not written any more: a call that was sent in time may
reach Redis late, and would bring back what has expired."""


class Ending:
    """The end that one attempt writes."""

    def __init__(self, log: Log, queue: Queue, writer: Writer) -> None:
        self._log = log
        self._queue = queue
        self._writer = writer
        self._final: tuple[int, Done, Extra] | None = None
        self._sent_at = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether `done` is being written, or was. From then on only `finish` may find out who holds the generation."""
        return self._final is not None

    async def write(self, done: Done, extra: Extra) -> Outcome:
        """End the generation, whose rows are all in the log. OK: by this call; otherwise why not.

        Raises:
            Stopped: another process has acquired the generation, or it has expired.
        """
        last_seq = self._writer.output.last_seq
        self._final = last_seq, done, extra
        answer = await self._write()
        if answer.outcome in (Outcome.OK, Outcome.DONE):
            await self._finalize()
        if answer.outcome is Outcome.OK or _is_row(answer, self._writer.epoch, last_seq + seq_span(done)):
            self._writer.mark_done(done)  # DONE with this row: the reply to an earlier call was lost
            return Outcome.OK
        self._writer.stop(answer.outcome)
        return answer.outcome

    async def confirm(self, reconnects: ReconnectSignal) -> None:
        """Check after CONFIRM_S, and after each reconnection until then, that `done` is in the log, or write it again.

        The task ends CONFIRM_S after the end, or after the last reconnection or loss, plus a round trip. In any case it
        ends, and nothing is written any more, CONFIRM_MARGIN_S before the retention has passed since `done` was first
        written; a retention of less than 3 s makes the check earlier. (Without that limit an expired log passed for a
        lost one: with a retention of 1 s it was restored and expired 11 times in 26 s, measured.)
        """
        if not self._writer.output.done:
            return
        retention_s = self._writer.state.record.options.retention_s
        wait_s = min(CONFIRM_S, retention_s - 2 * CONFIRM_MARGIN_S)
        try:
            async with asyncio.timeout_at(self._sent_at + retention_s - CONFIRM_MARGIN_S):
                while await self._check_once(reconnects, wait_s):
                    pass
                await self._remove_again()
        except (TimeoutError, Stopped) as error:
            why = error.outcome if isinstance(error, Stopped) else "its retention is over"
            logger.warning("%s: the end could not be confirmed: %s", self._writer.generation_id, why)
        finally:
            self._writer.stop(Outcome.DONE)  # the appender sends nothing any more

    async def _remove_again(self) -> None:
        """Remove the job once more, as soon as the queue's server answers: a replica that lagged when it was promoted,
        or a server that lost its newest second, still has it, and counts the generation as the caller's."""
        await retry_transient(lambda: remove_from_queue(self._log, self._queue, self._writer.state))

    async def _check_once(self, reconnects: ReconnectSignal, wait_s: float) -> bool:
        """After `wait_s` or a reconnection, write the end again if Redis has lost it. Returns whether Redis may lose it
        after this check.

        Raises:
            Stopped: another process has acquired the generation, or it has expired.
        """
        is_unsure = await reconnects.wait(wait_s)
        if (await self._write()).outcome is not Outcome.OK:
            return is_unsure
        logger.warning("%s: Redis had lost the end; it was written again", self._writer.generation_id)
        await self._finalize()
        return True

    async def _write(self) -> AppendResult:
        """Write `done` onto the seq that was folded. Rows that the server has lost since are sent again first.

        Raises:
            Stopped: another process has acquired the generation, or it has expired.
        """
        assert self._final is not None
        while True:
            answer = await retry_transient(self._send)
            if answer.outcome not in (Outcome.CHANGED, Outcome.UNKNOWN):
                return answer
            self._writer.resend(answer.seq if answer.outcome is Outcome.CHANGED else self._final[0])
            await self._writer.flush()

    async def _send(self) -> AppendResult:
        """Send `done` once. `_sent_at` is the loop's time of the call that wrote it first, or of the newest one."""
        assert self._final is not None
        last_seq, done, extra = self._final
        if not self._writer.output.done:
            self._sent_at = asyncio.get_running_loop().time()
        return await self._log.finish(self._writer.generation_id, self._writer.epoch, last_seq, done, extra)

    async def _finalize(self) -> None:
        """Run what follows the end. Where a server is away a sweeper does, and the worker goes on to confirm the end:
        the queue's server may be away while the log's server loses it."""
        try:
            await finalize(self._log, self._queue, self._writer.state)
        except RedisUnavailable as error:
            logger.warning("%s: a sweeper will finalize the end: %s", self._writer.generation_id, error)


def _is_row(answer: AppendResult, epoch: int, seq: int) -> bool:
    return answer.done is not None and (answer.done.epoch, answer.done.seq) == (epoch, seq)
