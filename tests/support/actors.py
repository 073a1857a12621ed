"""The actors of the log's state machine: attempts, which write, and readers."""

from support.log_writer import LogWriter
from support.logs import text_opened
from support.model import ModelState
from tailrace.events import Done, Entry, Event, ItemClosed, Started, Text, seq_span
from tailrace.ids import START, EntryId
from tailrace.log import AppendBatch, LeaseGrant, Log
from tailrace.log.codec import Row, to_row


class Attempt(LogWriter):
    """One attempt, of a worker or of a process that ends the generation: every entry, sent or not.

    `model_state`: the model's state when the lease was granted. `flushed`: the log has answered OK to the last entry.
    `final`: the `done` that this attempt ends with, frozen when it is first sent.
    """

    def __init__(self, log: Log, grant: LeaseGrant, model_state: ModelState) -> None:
        super().__init__(log, grant)
        self.model_state = model_state
        self.flushed = True
        self.final: Done | None = None
        self._first_seq = self.last_seq

    @property
    def history(self) -> list[Entry]:
        """Every entry of the log as this attempt has continued, or will continue it."""
        return self.entries + ([self._final_entry(self.final)] if self.final else [])

    @property
    def final_row(self) -> Row:
        assert self.final is not None
        return to_row(self._final_entry(self.final))

    def extend(self, kinds: list[str]) -> AppendBatch:
        """The batch of new events of these kinds; an attempt's first event records that it has begun."""
        after_seq = self.last_seq
        if kinds and self.last_seq == self._first_seq:
            self.batch(self._beginning())
        for kind in kinds:
            self.batch(self._event(kind))
        self.flushed = self.flushed and not kinds
        return self.batch_after(after_seq)

    def _final_entry(self, done: Done) -> Entry:
        return Entry(EntryId(self.epoch, self.last_seq + seq_span(done)), done)

    def _beginning(self) -> Event:
        attempt = self.state.attempt
        return self.restarted(attempt) if self.output.next_item else Started(attempt, 1.0)

    def _event(self, kind: str) -> Event:
        if kind == "item" or not self.output.open:
            return text_opened(self.output.next_item)
        item = self.output.open[-1]
        if kind == "closed":
            return ItemClosed(next(whole for whole in self.output.items() if whole.item == item))
        return Text(item, f"{self.epoch}:{self.last_seq} ")


class Reader:
    """A client that follows the reader's rules. `result`: how its stream ended, "ended" or "gone"."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.result: str | None = None

    @property
    def cursor(self) -> EntryId:
        return self.entries[-1].id if self.entries else START

    def on_page(self, entries: list[Entry]) -> None:
        """Entries above the cursor: they follow it, or the log has changed."""
        if entries[0].is_contiguous_after(self.cursor):
            self.entries += entries
        else:
            self.start_over()

    def start_over(self) -> None:
        self.entries = []
