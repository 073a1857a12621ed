"""The end of a generation: `done` is written onto the sequence number that was folded, and finalized.

Rows that the server has lost meanwhile are sent again first. A server that syncs every second and crashes right after
`done` restarts without it, and only this worker still has the rows: `written` has all that is needed to write the end
again (`tailrace.lifecycle.confirmation`).
"""

import asyncio
import logging
import time

from tailrace.errors import RedisRefused, Unavailable
from tailrace.events import Done, Extra, seq_span
from tailrace.ids import EntryId
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.written_end import WrittenEnd
from tailrace.log import AppendResult, Log, Outcome
from tailrace.log.codec import StoredDone, stored_done
from tailrace.log.spent import with_spent
from tailrace.queue import Queue
from tailrace_worker.retry import retry_transient
from tailrace_worker.writer import Writer

logger = logging.getLogger(__name__)


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
        last_seq = self._writer.output.last_id.seq
        self._final = last_seq, done, extra
        answer = await self._write()
        is_own = answer.outcome is Outcome.OK or _is_row(answer, self._writer.epoch, last_seq + seq_span(done))
        if is_own:
            await self._finalize(done)
        elif answer.done is not None:
            await self._finalize(stored_done(answer.done.value.encode()))
        if is_own:
            self._writer.mark_done(done)  # DONE with this row: the reply to an earlier call was lost
            return Outcome.OK
        self._writer.stop(answer.outcome)
        return answer.outcome

    @property
    def written(self) -> WrittenEnd | None:
        """The end to be confirmed, if this attempt has written it."""
        writer, done = self._writer, self._writer.output.done
        if done is None or self._final is None:
            return None
        last_seq, _, extra = self._final
        end_id = EntryId(writer.epoch, writer.output.last_id.seq)
        return WrittenEnd(
            end_id, last_seq, writer.state, writer.request, writer.rows, done, extra, self._sent_at,
            may_fence=False, output_bytes=self._output_bytes,
        )  # fmt: skip

    @property
    def _output_bytes(self) -> int:
        """The size of the output in Redis, which has it twice: as rows, and in `done`."""
        return 2 * self._writer.stored_bytes

    async def _write(self) -> AppendResult:
        """Write `done` onto the seq that was folded. Rows that the server has lost since are sent again first.

        Raises:
            Stopped: another process has acquired the generation, or it has expired.
        """
        assert self._final is not None
        while True:
            self._sent_at = time.monotonic()  # not again for a call that is repeated: the reply may have been lost
            answer = await retry_transient(self._send)
            if answer.outcome not in (Outcome.CHANGED, Outcome.UNKNOWN):
                return answer
            self._writer.resend(answer.seq if answer.outcome is Outcome.CHANGED else self._final[0])
            await self._writer.flush()

    async def _send(self) -> AppendResult:
        assert self._final is not None
        last_seq, done, extra = self._final
        return await self._log.finish(self._writer.generation_id, self._writer.epoch, last_seq, done, extra)

    async def _finalize(self, done: Done | StoredDone) -> None:
        """Run what follows the end that the log has. Where a server is away, or refuses it, a sweeper does, and the
        end is confirmed all the same: the queue's server may be away while the log's server loses it."""
        state = with_spent(self._writer.state, done)
        try:
            await asyncio.gather(
                self._queue.index.record_output(state.record, self._output_bytes),
                finalize(self._log, self._queue, state),
            )
        except (Unavailable, RedisRefused) as error:
            logger.warning("%s: a sweeper will finalize the end: %s", self._writer.generation_id, error)


def _is_row(answer: AppendResult, epoch: int, seq: int) -> bool:
    return answer.done is not None and (answer.done.epoch, answer.done.seq) == (epoch, seq)
