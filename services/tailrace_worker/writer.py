"""One attempt's hand on the log: events in, rows out.

Rule 1: merging comes before numbering. What waits to be sent is not numbered yet, so adjacent deltas of one place
without `extra` become one; under load a batch holds few entries, and an idle worker sends each token at once.
Rule 2: a batch is frozen once it was sent. A retry is the same rows.
Rule 3: the rows are kept, at about 250 bytes each beside their text (`size` is what Redis is sent, not what they take
here). When Redis comes back with older data (BEHIND), the missing ones are sent again; when it comes back with none, or
without this attempt (UNKNOWN), it is sent the attempt and all of them (`appender`).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tailrace.errors import RedisFull, RedisUnavailable
from tailrace.events import NO_EXTRA, Delta, Done, Entry, Event, Extra, seq_span
from tailrace.failures import FailureCode
from tailrace.ids import EntryId
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Outcome
from tailrace.log.codec import Row, from_row, to_row
from tailrace.log.output import Output
from tailrace.log.state import GenerationState

MERGE_CHARACTERS = 4096
"""Deltas merge up to this size, so that a reader's page stays a page."""


class Stopped(Exception):
    """This attempt may not write any more: fenced, ended or deleted by somebody else, or the log cannot be kept."""

    def __init__(self, outcome: Outcome | FailureCode) -> None:
        super().__init__(str(outcome))
        self.outcome = outcome


class Writer:
    """Numbers, encodes and folds what one attempt adds to one log.

    `output` is the fold of everything frozen so far. `stopped` is completed when writing has become pointless.
    """

    def __init__(self, taken: LeaseGrant, wake: Callable[["Writer"], None]) -> None:
        assert taken.state is not None
        self.state: GenerationState = taken.state
        self.generation_id = self.state.record.id
        self.epoch = taken.epoch
        self.request = taken.request
        self.rows = list(taken.rows)
        self.output = Output(map(from_row, self.rows), logprobs=self.state.record.logprobs)
        self.size = sum(row.size for row in self.rows)
        self.stopped: asyncio.Future[Stopped] = asyncio.get_running_loop().create_future()
        self._wake = wake
        self._waiting: list[tuple[Event, Extra]] = []
        self._frozen: AppendBatch | None = None
        self._flushed: asyncio.Future[None] | None = None

    def add(self, event: Event, extra: Extra = NO_EXTRA) -> None:
        """Add an event; it is sent as soon as the pipeline is free."""
        if extra is NO_EXTRA and self._waiting and isinstance(event, Delta):
            last, last_extra = self._waiting[-1]
            if (
                isinstance(last, Delta)
                and last_extra is NO_EXTRA
                and event.continues(last)
                and len(last.text) + len(event.text) <= MERGE_CHARACTERS
            ):
                self._waiting[-1] = last.with_text(last.text + event.text), NO_EXTRA
                return
        self._waiting.append((event, extra))
        self._wake(self)

    def freeze(self) -> AppendBatch | None:
        """What to send now: the batch that was not answered yet, else everything that waits, numbered."""
        if self._frozen is None and self._waiting and not self.stopped.done():
            after_seq = self.output.last_seq
            rows = [self._number(event, extra) for event, extra in self._waiting]
            self._waiting.clear()
            self._frozen = AppendBatch(self.generation_id, self.epoch, after_seq, rows)
        return self._frozen

    def _number(self, event: Event, extra: Extra) -> Row:
        entry = Entry(EntryId(self.epoch, self.output.last_seq + seq_span(event, extra)), event, extra)
        row = to_row(entry)
        self.output.add(entry)
        self.rows.append(row)
        self.size += row.size
        return row

    def answered(self, answer: AppendResult | Exception) -> None:
        """What the log said to the frozen batch."""
        if isinstance(answer, RedisUnavailable):
            return self._wake(self)
        if isinstance(answer, Exception):
            return self.stop("out_of_memory" if isinstance(answer, RedisFull) else "append_refused")
        match answer.outcome:
            case Outcome.OK:
                self._frozen = None
            case Outcome.BEHIND:
                self._frozen = self._since(answer.seq)
            case outcome:
                return self.stop(outcome)
        if self._frozen or self._waiting:
            self._wake(self)
        elif self._flushed and not self._flushed.done():
            self._flushed.set_result(None)
        return None

    def resend(self, seq: int) -> None:
        """Send the rows above n once more, unless others are under way: they find out as well what the server lacks."""
        if self._frozen is None:
            self._frozen = self._since(seq)
            self._wake(self)

    def _since(self, seq: int) -> AppendBatch:
        rows = [row for row in self.rows if row.seq > seq]
        return AppendBatch(self.generation_id, self.epoch, seq, rows)

    def restored(self) -> None:
        """The log is there again, with all rows so far: go on."""
        self._wake(self)

    def stop(self, outcome: Outcome | FailureCode) -> None:
        """Nothing more is written by this attempt."""
        self._frozen = None
        self._waiting.clear()
        if not self.stopped.done():
            self.stopped.set_result(Stopped(outcome))

    async def flush(self) -> None:
        """Wait until all that was added is in the log.

        Raises:
            Stopped: it will never be.
        """
        if self._frozen or self._waiting:
            self._flushed = asyncio.get_running_loop().create_future()
            waiting: list[asyncio.Future[Any]] = [self._flushed, self.stopped]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.stopped.done():
            raise self.stopped.result()

    def mark_done(self, done: Done) -> None:
        self.output.add(Entry(EntryId(self.epoch, self.output.last_seq + seq_span(done)), done))
