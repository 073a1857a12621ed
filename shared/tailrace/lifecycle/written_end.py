"""An end, or a deletion, with all that is needed to write it again where Redis has lost it.

A server that came back with older data has a prefix of what it had: the log ends earlier, the state names an earlier
epoch or none, the tombstone does not record the deletion. The end is then written with the same ids and the same bytes:
rows and state are restored, as a worker restores what it runs, and `done` follows the seq that was folded.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace.events import Done, Extra
from tailrace.ids import EntryId
from tailrace.lifecycle.finalization import finalize, remove_from_queue
from tailrace.log import AppendBatch, Log, Outcome
from tailrace.log.codec import Row
from tailrace.log.packed_rows import PackedRows
from tailrace.log.reading import Position
from tailrace.log.spent import with_spent
from tailrace.log.state import GenerationState
from tailrace.queue import Queue
from tailrace.redis.server import checked

ROW_BYTES = 250
"""Memory that a row takes beside its text, unless it is packed."""

RECORD_BYTES = 4096
"""Memory of an end without its rows, and of a deletion."""


class WrittenEnd(NamedTuple):
    """An end as this process wrote it.

    `id`: of `done`. `last_seq`: the seq that was folded. `state`: as acquired, under the epoch of the end. `request`: a
    JSON value, or `msgspec.Raw`. `rows`: all that precede `done`; none where they are not kept. `written_at`: when
    `done` was sent first, of `time.monotonic()`. `may_fence`: whether the generation is ended again, with the same
    status, where this very end cannot be written or another process has acquired the generation: a cancel, or a limit,
    holds for every later attempt, too. `output_bytes`: what the output takes in Redis, as rows and in `done`.
    """

    id: EntryId
    last_seq: int
    state: GenerationState
    request: Any
    rows: Sequence[Row] | PackedRows
    done: Done
    extra: Extra
    written_at: float
    may_fence: bool
    output_bytes: int = 0

    @property
    def generation_id(self) -> str:
        return self.state.record.id

    @property
    def ended(self) -> GenerationState:
        """The state with what the generation has used, to be charged."""
        return with_spent(self.state, self.done)

    @property
    def position(self) -> Position:
        """Where the log stands while it has this end."""
        return Position(self.id, ended=True)

    @property
    def size(self) -> int:
        """Bytes of memory, estimated."""
        request = memoryview(self.request).nbytes if isinstance(self.request, msgspec.Raw) else 0
        if isinstance(self.rows, PackedRows):
            return RECORD_BYTES + 2 * self.rows.size + request
        text = sum(len(row.value) + len(row.extra) for row in self.rows)
        return RECORD_BYTES + 2 * text + ROW_BYTES * len(self.rows) + request

    def without_rows(self) -> "WrittenEnd":
        """The same, of which only the status can be written again, onto what the server still has."""
        return self._replace(rows=(), request=None, done=msgspec.structs.replace(self.done, output=[]))

    async def write_again(self, log: Log) -> Outcome:
        """Write what the log's server lacks of this end. OK and DONE: the log has an end. FENCED: another process has
        acquired it. GONE: it is deleted or has expired. UNKNOWN: the rows would be needed, and are not kept.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        while self.rows:
            outcome = await self._finish(log)
            if outcome is Outcome.UNKNOWN:
                await log.announce_restore(self.state.record.id)
                outcome = await log.restore(self.state, self.request, list(self.rows))
                if outcome is Outcome.OK:
                    continue
            elif outcome is Outcome.BEHIND:
                continue
            return outcome
        return Outcome.UNKNOWN

    async def update_queue(self, log: Log, queue: Queue) -> None:
        """Repeat on the queue's server what follows the end. It may have been away, or have lost it.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        await queue.index.record_output(self.state.record, self.output_bytes)
        await remove_from_queue(log, queue, self.ended)

    async def finalize_again(self, log: Log, queue: Queue) -> None:
        """After the end was written again: the owner's list may lack what was restored, and the job may wait again.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        await queue.index.register(self.state.record)
        await queue.index.record_output(self.state.record, self.output_bytes)
        await finalize(log, queue, self.ended)

    async def _finish(self, log: Log) -> Outcome:
        """Send `done`, or the rows that the server lacks under the end's epoch: BEHIND."""
        answer = await log.finish(self.generation_id, self.state.epoch, self.last_seq, self.done, self.extra)
        if answer.outcome is not Outcome.CHANGED:
            return answer.outcome
        rows = [row for row in self.rows if row.seq > answer.seq]
        (result,) = checked(await log.append([AppendBatch(self.generation_id, self.state.epoch, answer.seq, rows)]))
        return Outcome.BEHIND if result.outcome is Outcome.OK else result.outcome


class Deletion(NamedTuple):
    """A deletion that was acknowledged. `state`: the last one before it."""

    state: GenerationState

    @property
    def generation_id(self) -> str:
        return self.state.record.id

    @property
    def size(self) -> int:
        return RECORD_BYTES

    async def write_again(self, log: Log) -> Outcome:
        """Delete the generation again, also where nothing of it is left: no worker can restore it then.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        return await log.delete(self.generation_id, self.state.record)

    def without_rows(self) -> "Deletion":
        """The same: a deletion has none."""
        return self

    async def update_queue(self, log: Log, queue: Queue) -> None:
        """Repeat on the queue's server what follows the deletion. It may have been away, or have lost it. (Without that
        a deletion while it was away left its bytes counted for the owner until the end of the retention.)

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        await remove_from_queue(log, queue, self.state)
        await queue.index.forget(self.state.record.owner, [self.generation_id])

    async def finalize_again(self, log: Log, queue: Queue) -> None:
        """After the generation was deleted again: its job may wait again, and its owner's list name it.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: repeat it.
        """
        await finalize(log, queue, self.state)
        await queue.index.forget(self.state.record.owner, [self.generation_id])
