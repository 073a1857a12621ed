"""The writing side of one attempt: events in, rows of the log out.

Rule 1: events are merged before they are numbered. Pending events have no number yet, so adjacent deltas of one place
without `extra` become one; under load a batch holds few entries, and an idle worker sends each token at once.
Rule 2: a batch never changes after it was sent. A retry sends the same rows.
Rule 3: all rows are kept, at about 250 bytes each beside their text. When Redis comes back with older data (BEHIND),
the missing rows are sent again. When it comes back without the log or without this epoch (UNKNOWN), the lease and all
rows are restored (`appender`).
Rule 4: what has not been sent is bounded. Beyond MAX_UNSENT_BYTES the upstream is not read until Redis has taken some.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tailrace.errors import RedisFull, RedisUnavailable
from tailrace.events import NO_EXTRA, Delta, Done, Entry, Event, Extra, ItemClosed, ItemOpened, Text, seq_span
from tailrace.failures import FailureCode
from tailrace.ids import EntryId
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Outcome
from tailrace.log.codec import Row, byte_length, merged, to_row
from tailrace.log.output import Output
from tailrace.log.state import GenerationState

MERGE_CHARACTERS = 4096
"""Deltas merge up to this length, so that a page of entries stays bounded."""

PLAIN_FIELD = 256
"""Characters of a row's place. Only ids of an upstream's make it longer, and each row of a call has them again."""

MAX_UNSENT_BYTES = 256 * 1024
"""Bytes of the upstream's answer that one writer holds as events before Redis has their rows: at 100 tokens a second
some 8 s of plain chunks, or 1 s of chunks with logprobs. The kernel holds a few megabytes more before the upstream has
to wait. Chunks with logprobs take nine times their bytes as events (93 MiB for 20 writers with 512 KiB each, measured).
"""


class Stopped(Exception):
    """This attempt must not write any more: it was fenced, the generation was ended or deleted, or Redis refuses its
    rows. `outcome` is a failure's code where it is not an Outcome."""

    def __init__(self, outcome: Outcome | FailureCode) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


class Writer:
    """Merges, numbers, encodes and folds the events that one attempt adds to one log.

    `output` is the fold of every numbered event, those of earlier attempts included. `stopped` is completed when this
    attempt must not write any more. `wake` is called when there is a batch to send. `output_bytes` is the size of this
    attempt's output: texts when they are added; items' names, long ids, items without text, and what the upstream sent
    with any of them, when numbered.
    """

    def __init__(self, grant: LeaseGrant, wake: Callable[["Writer"], None]) -> None:
        assert grant.state is not None
        self.state: GenerationState = grant.state
        self.generation_id = self.state.record.id
        self.epoch = grant.epoch
        self.request = grant.request
        self.rows = list(grant.rows)
        self.output = Output(merged(self.rows), logprobs=self.state.record.logprobs)
        self.output_bytes = 0
        self._earlier_bytes = sum(row.size for row in self.rows)
        self.stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        self._wake = wake
        self._pending: list[tuple[Event, Extra]] = []
        self._in_flight: AppendBatch | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._pending_bytes = self._in_flight_bytes = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of all attempts' output, as rows."""
        return self._earlier_bytes + self.output_bytes

    def add(self, event: Event, extra: Extra = NO_EXTRA) -> None:
        """Add an event; it is sent with the appender's next pipeline."""
        if isinstance(event, Delta):
            text = event.text
            self.output_bytes += len(text) if text.isascii() else len(text.encode())
            if extra is NO_EXTRA and self._pending:
                last, last_extra = self._pending[-1]
                if (
                    isinstance(last, Delta)
                    and last_extra is NO_EXTRA
                    and event.continues(last)
                    and len(last.text) + len(text) <= MERGE_CHARACTERS
                ):
                    self._pending[-1] = last.with_text(last.text + text), NO_EXTRA
                    return
        self._pending.append((event, extra))
        self._wake(self)

    def freeze(self) -> AppendBatch | None:
        """The batch to send: the one in flight, else all pending events, numbered; None if there is nothing to send.

        The batch stays in flight until `on_result`.
        """
        if self._in_flight is None and self._pending and not self.stopped.done():
            after_seq = self.output.last_id.seq
            rows = [self._number(event, extra) for event, extra in self._pending]
            self._pending.clear()
            self._in_flight = AppendBatch(self.generation_id, self.epoch, after_seq, rows)
            self._in_flight_bytes, self._pending_bytes = self._pending_bytes, 0
        return self._in_flight

    def count_received(self, size: int) -> bool:
        """Count bytes of the upstream's answer, after their events were added. Returns whether there is room for more;
        otherwise `wait_for_room`."""
        if self._pending:
            self._pending_bytes += size
        return self._pending_bytes + self._in_flight_bytes <= MAX_UNSENT_BYTES

    async def wait_for_room(self) -> None:
        """Wait until Redis has taken enough, or writing has stopped."""
        while not self.stopped.done() and not self.count_received(0):
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _number(self, event: Event, extra: Extra) -> Row:
        entry = Entry(EntryId(self.epoch, self.output.last_id.seq + seq_span(event, extra)), event, extra)
        row = to_row(entry)
        self.output.add(entry)
        self.rows.append(row)
        if type(event) is not Text or row.extra:
            self._count_beside_text(event, row)
        return row

    def _count_beside_text(self, event: Event, row: Row) -> None:
        if row.extra:
            self.output_bytes += byte_length(row.extra)
        if len(row.field) > PLAIN_FIELD:
            self.output_bytes += byte_length(row.field)
        if type(event) is ItemOpened or (type(event) is ItemClosed and event.whole.type == "other"):
            self.output_bytes += byte_length(row.value)

    def on_result(self, result: AppendResult | Exception) -> None:
        """The result of the batch in flight: the batch is in the log, must be sent again, or writing stops."""
        if isinstance(result, Exception):
            return self._wake(self) if isinstance(result, RedisUnavailable) else self.stop(refusal(result))
        match result.outcome:
            case Outcome.OK:
                self._in_flight = None
                self._in_flight_bytes = 0
                self._report_room()
            case Outcome.BEHIND:
                self._in_flight = self._batch_after(result.seq)
            case outcome:
                return self.stop(outcome)
        if self._in_flight or self._pending:
            self._wake(self)
        elif self._flushed and not self._flushed.done():
            self._flushed.set_result(None)
        return None

    def resend(self, seq: int) -> None:
        """Send the rows after `seq` again, unless a batch is in flight: its result also shows what Redis lacks."""
        if self._in_flight is None:
            self._in_flight = self._batch_after(seq)
            self._wake(self)

    def _batch_after(self, seq: int) -> AppendBatch:
        rows = [row for row in self.rows if row.seq > seq]
        return AppendBatch(self.generation_id, self.epoch, seq, rows)

    def on_restored(self) -> None:
        """The log was restored with all rows so far: send the batch in flight again."""
        self._wake(self)

    def stop(self, outcome: Outcome | FailureCode) -> None:
        """Drop all unsent events; this attempt writes nothing more. Only the first outcome counts."""
        self._in_flight = None
        self._pending.clear()
        if not self.stopped.done():
            self.stopped.set_result(Stopped(outcome))
        self._report_room()

    def _report_room(self) -> None:
        if self._room and not self._room.done():
            self._room.set_result(None)

    async def flush(self) -> None:
        """Wait until every added event is in the log.

        Raises:
            Stopped: writing has stopped.
        """
        if self._in_flight or self._pending:
            self._flushed = asyncio.get_running_loop().create_future()
            waiting: list[asyncio.Future[Any]] = [self._flushed, self.stopped]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.stopped.done():
            raise self.stopped.result()

    def mark_done(self, done: Done) -> None:
        """Fold the end, which `Log.finish` has written."""
        self.output.add(Entry(EntryId(self.epoch, self.output.last_id.seq + seq_span(done)), done))


def refusal(error: Exception) -> FailureCode:
    """The code of a generation whose rows were refused with this error."""
    return "out_of_memory" if isinstance(error, RedisFull) else "append_refused"
