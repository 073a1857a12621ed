"""Writes to a real log as a worker does: takes the lease, numbers events, appends them and ends the generation."""

import asyncio
from typing import Any

from support.logs import LogBuilder, text_opened
from tailrace.events import Done, Entry, Event, Failure, FinalStatus, Finish, Restarted, Started, Text
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.log.codec import Row, from_row, to_row
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace.redis.redirects import SlotUnavailable


class LogWriter:
    """One attempt at a generation, or one process that ends it. All entries are kept, so any can be sent again."""

    def __init__(self, log: Log, grant: LeaseGrant) -> None:
        assert grant.state is not None
        self.log = log
        self.state: GenerationState = grant.state
        self.generation_id = self.state.record.id
        self.epoch = grant.epoch
        self.granted_s = grant.now / 1000
        self._builder = LogBuilder(self.state.record, epoch=grant.epoch, entries=map(from_row, grant.rows))

    @classmethod
    async def acquire(cls, log: Log, generation_id: str, token: str, **purpose: Any) -> "LogWriter":
        """Take the lease by a token; `purpose` as in `Log.acquire`."""
        grant = await log.acquire(generation_id, token, **purpose)
        assert grant.outcome is Outcome.OK, grant
        return cls(log, grant)

    @classmethod
    async def start(cls, log: Log, generation_id: str) -> "LogWriter":
        """Take the lease as a worker does, and write `started` and a text item."""
        writer = await cls.acquire(log, generation_id, f"token of {generation_id}", worker="log-writer")
        await writer.write(Started(1, writer.granted_s), text_opened())
        return writer

    @property
    def entries(self) -> list[Entry]:
        return self._builder.entries

    @property
    def rows(self) -> list[Row]:
        return [to_row(entry) for entry in self.entries]

    @property
    def output(self) -> Output:
        """The fold of the entries. Do not call its `restarted` and `build_done`, which change it."""
        return self._builder.output

    @property
    def last_seq(self) -> int:
        return self.output.last_id.seq

    def batch(self, *events: Event) -> AppendBatch:
        """Number these events. Returns the batch that appends them."""
        after_seq = self.last_seq
        rows = [to_row(self._builder.number(event)) for event in events]
        return AppendBatch(self.generation_id, self.epoch, after_seq, rows)

    def batch_after(self, seq: int) -> AppendBatch:
        """The batch that appends every entry above a sequence number once more."""
        return AppendBatch(self.generation_id, self.epoch, seq, [row for row in self.rows if row.seq > seq])

    async def send(self, batch: AppendBatch) -> AppendResult:
        (result,) = await self.log.append([batch])
        while isinstance(result, SlotUnavailable):  # as the appender does: its slot is being moved
            await asyncio.sleep(0.005)
            (result,) = await self.log.append([batch])
        if isinstance(result, Exception):
            raise result
        return result

    async def write(self, *events: Event) -> AppendBatch:
        """Append these events, which must succeed."""
        batch = self.batch(*events)
        assert await self.send(batch) == AppendResult(Outcome.OK, self.last_seq)
        return batch

    async def write_text(self, *texts: str) -> None:
        await self.write(*(Text(0, text) for text in texts))

    def restarted(self, attempt: int) -> Restarted:
        """The entry by which this attempt discards the output so far."""
        return Output(self.entries).restarted(attempt, "worker_lost", 2.0)

    def done(self, status: FinalStatus = "completed", **fields: Any) -> Done:
        """The event that ends the log of this writer; every call returns the same event."""
        return Output(self.entries).build_done(status, self.granted_s, **fields)

    async def finish(self, status: FinalStatus = "completed", **fields: Any) -> AppendResult:
        return await self.log.finish(self.generation_id, self.epoch, self.last_seq, self.done(status, **fields))

    async def end(self, status: FinalStatus = "completed", error: Failure | None = None, **fields: Any) -> None:
        """Finish as a worker does, which must succeed."""
        result = await self.finish(status, finish=[Finish(0, "stop")], error=error, **fields)
        assert result.outcome is Outcome.OK, result
