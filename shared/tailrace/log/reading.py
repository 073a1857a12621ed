"""Reading a log: its state, its entries from any cursor, and its end.

Commands whose reply is small go over the connection that the process shares. A page, `done` and `request` may be
megabytes and get a connection of their own (`redis.server`, rule 3). Measured with 60 readers at the end of logs with a
`done` of 8 MB: a PING on the shared connection took up to 4.2 s when pages shared it, 0.9 s when they did not.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.errors import CorruptEntry, Gone, NotFound, TailraceError
from tailrace.events import Done, Entry, Json, Restarted
from tailrace.ids import START, EntryId
from tailrace.log.codec import Row, StoredDone, coalesce_rows, from_row, stored_done, stored_size
from tailrace.log.codec import stored_row as _row
from tailrace.log.measures import Measures, measures_from
from tailrace.log.output import Output
from tailrace.log.packed_rows import PackedRows
from tailrace.log.state import FIELDS, GenerationState, state_of
from tailrace.redis.server import RedisServer, checked

PAGE_BYTES = 64 * 1024
FIRST_PAGE = 32
"""Entries of a first page; each later page is sized by the bytes of the one before it, down to one entry.

Redis can bound a read by entries only. Where entries suddenly grow, a page may therefore have up to 32 large ones at a
log's beginning, or as many as the small ones before them had in 64 KiB. It never has more than the log, which
`TAILRACE_MAX_LOG_BYTES` bounds, and a process reads `PAGE_READS` pages at a time. (A script that stops at a size would
take ten times as long: 4.4 ms of Redis for 2,000 entries instead of 0.47.)
"""

PAGE_GROWTH = 8
"""A page has at most so many times the entries of the one before: later entries may be larger."""

BLOCK_MS = 2000
"""One `XREAD` of `tail`; below the command timeout, so that a dead server is noticed."""


class Page(NamedTuple):
    """The entries that follow a cursor.

    `before` is the sequence number before the first entry, `limit` the number of entries to ask for next. `is_last`
    is true where the page reached the end of the log as it stands. `size`: bytes of the entries as they are stored.
    """

    entries: list[Entry]
    before: int
    limit: int
    is_last: bool
    size: int = 0


class Position(NamedTuple):
    """Where a log stands: the newest id that its state knows, and whether it has ended."""

    id: EntryId
    ended: bool


class Fold(NamedTuple):
    """The output of a log, its rows (none where they are not kept), and the bytes of their content."""

    output: Output
    rows: PackedRows
    size: int


class ReadableLog:
    """The logs on one Redis server or cluster, for processes that only read."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server

    async def state(self, generation_id: str, owner: str | None = None) -> GenerationState:
        """The generation's state, for its owner; with None, for any process of ours.

        Raises:
            NotFound: the generation never existed, or belongs to another owner.
            Gone: it was deleted, or has expired.
        """
        read = ("HMGET", keys.state(generation_id), *FIELDS)
        state = state_of(await self.server.execute(*read))
        if state is None:
            error = await self._missing(generation_id, owner)
            if isinstance(error, Gone):  # unless a worker has restored the generation between these two reads
                state = state_of(await self.server.execute(*read))
            if state is None:
                raise error
        if owner is not None and state.record.owner != owner:
            raise NotFound
        return state

    async def states(self, generation_ids: Sequence[str]) -> list[GenerationState | CorruptEntry | None]:
        """Many states in one round trip; None for those no longer kept.

        A state that cannot be read, because a later version wrote it, yields its exception, alone.
        """
        return [
            each if isinstance(each, CorruptEntry) else _raised(each) for each in await self.look_up(generation_ids)
        ]

    async def look_up(self, generation_ids: Sequence[str]) -> list[GenerationState | TailraceError | None]:
        """As `states`, but the logs of a primary that is away, in a cluster, yield its error, too."""
        states: list[GenerationState | TailraceError | None] = []
        replies = await self.server.execute_many([("HMGET", keys.state(each), *FIELDS) for each in generation_ids])
        for values in replies:
            try:
                states.append(values if isinstance(values, TailraceError) else state_of(values))
            except CorruptEntry as error:
                states.append(error)
        return states

    async def positions(self, generation_ids: Sequence[str]) -> list[Position | TailraceError | None]:
        """Where each log stands; None for those no longer kept. Logs of a primary that is away, in a cluster, yield the
        error. A reply costs a small part of what `states` does."""
        replies = await self.server.execute_many(
            [("HMGET", keys.state(each), "epoch", "seq", "status") for each in generation_ids]
        )
        return [each if isinstance(each, TailraceError) else _position(*each) for each in replies]

    async def position(self, generation_id: str) -> Position | None:
        """Where one log stands; None if it is no longer kept."""
        (found,) = await self.positions([generation_id])
        if isinstance(found, TailraceError):
            raise found
        return found

    async def expires_at(self, generation_id: str) -> int | None:
        """When the state expires, in ms of Redis' clock: after the end, when its retention is over. None: it has."""
        expires = int(await self.server.execute("PEXPIRETIME", keys.state(generation_id)))
        return expires if expires > 0 else None

    async def is_restoring(self, generation_id: str) -> bool:
        """Whether a process has begun within the last lease to restore a log on this one's server: what is missing
        there may still come back."""
        tag = (await self.server.find_primary(keys.state(generation_id))).tag
        return bool(await self.server.execute("EXISTS", keys.restoring(tag)))

    async def are_deleted(self, generation_ids: Sequence[str]) -> list[bool | TailraceError]:
        """For each generation, whether the server has recorded that it was deleted; errors as for `positions`."""
        commands = [("HEXISTS", keys.tombstone(each), "deleted") for each in generation_ids]
        replies = await self.server.execute_many(commands)
        return [each if isinstance(each, TailraceError) else bool(each) for each in replies]

    async def request(self, generation_id: str) -> Json:
        """The request as its caller sent it.

        Raises:
            NotFound, Gone: as `state`.
        """
        stored = await self.server.execute_alone("HGET", keys.state(generation_id), "request")
        if stored is None:
            raise await self._missing(generation_id, None)
        request: Json = msgspec.json.decode(stored)
        return request

    async def stored_request(self, generation_id: str) -> memoryview:
        """The same as JSON, in one buffer.

        Raises:
            NotFound, Gone: as `state`.
        """
        request = await self.server.read_bulk("HGET", keys.state(generation_id), "request")
        if request is None:
            raise await self._missing(generation_id, None)
        return request

    async def request_bytes(self, generation_id: str) -> int:
        """The size of the stored request; 0 where the generation does not exist."""
        return int(await self.server.execute("HSTRLEN", keys.state(generation_id), "request"))

    async def measures(self, generation_id: str) -> Measures:
        """What the workers have measured of a running generation, as they last stored it; none where they have not."""
        return measures_from(await self.server.execute("HGET", keys.state(generation_id), "measures"))

    async def page(
        self, generation_id: str, after: EntryId, limit: int, *, coalesce: bool = False, until: EntryId | None = None
    ) -> Page:
        """Up to `limit` entries that follow the cursor; none where nothing follows, or the log does not exist.

        `coalesce`: adjacent deltas of one item become one entry, under the id of the last. `until`: the last entry.
        """
        stored = await self._stored(generation_id, after, limit, until)
        if not stored:
            return Page([], after.seq, limit, is_last=True)
        first = from_row(_row(stored[0]))
        if coalesce:
            entries, size = coalesce_rows(stored)
        else:
            entries, size = [from_row(_row(each)) for each in stored], stored_size(stored)
        return Page(
            entries, first.id.seq - first.seq_span, _next_limit(limit, len(stored), size), len(stored) < limit, size
        )

    async def _stored(self, generation_id: str, after: EntryId, limit: int, until: EntryId | None) -> Any:
        start = "-" if after == START else f"({after}"
        end = "+" if until is None else str(until)
        return await self.server.read_page("XRANGE", keys.log(generation_id), start, end, "COUNT", limit)

    async def read_all(
        self, generation_id: str, after: EntryId = START, *, coalesce: bool = False, until: EntryId | None = None
    ) -> AsyncIterator[Entry]:
        """The entries that follow the cursor, read in pages of about 64 KiB; `coalesce` and `until` as for `page`."""
        limit, is_last = FIRST_PAGE, False
        while not is_last:
            page = await self.page(generation_id, after, limit, coalesce=coalesce, until=until)
            limit, is_last = page.limit, page.is_last
            for entry in page.entries:
                yield entry
            if page.entries:
                after = page.entries[-1].id

    async def output(self, generation_id: str, *, logprobs: bool = False, until: EntryId | None = None) -> Output:
        """The fold of the log, or of its entries up to `until`. Other tasks run between the pages.

        Adjacent deltas are folded as one: 200,000 rows take 0.08 s of CPU, and 1.2 s entry by entry.
        """
        output = Output(logprobs=logprobs)
        async for entry in self.read_all(generation_id, coalesce=True, until=until):
            output.add(entry)
        return output

    async def output_and_rows(
        self, generation_id: str, until: EntryId, max_bytes: int, *, logprobs: bool = False
    ) -> Fold:
        """As `output`, with the rows that were folded; without them where they take more memory than that."""
        output, rows, size, is_kept = Output(logprobs=logprobs), PackedRows(), 0, True
        after, limit, is_last = START, FIRST_PAGE, False
        while not is_last:
            stored = await self._stored(generation_id, after, limit, until)
            entries, page_bytes = coalesce_rows(stored)
            for entry in entries:
                output.add(entry)
                after = entry.id
            size += page_bytes
            if is_kept:
                rows.add(list(map(_row, stored)))
                if rows.size > max_bytes:
                    rows, is_kept = PackedRows(), False
            is_last = len(stored) < limit
            limit = min(page_size(len(stored), page_bytes), 4 * limit)
        return Fold(output, rows, size)

    async def rows(self, generation_id: str, until: EntryId) -> list[Row]:
        """The stored rows up to this entry, read in pages."""
        rows: list[Row] = []
        limit, is_last = FIRST_PAGE, False
        while not is_last:
            stored = await self._stored(generation_id, rows[-1].id if rows else START, limit, until)
            rows += map(_row, stored)
            is_last = len(stored) < limit
            limit = _next_limit(limit, len(stored), stored_size(stored))
        return rows

    async def last_restart(self, generation_id: str, epoch: int) -> EntryId | None:
        """The id of the last `restarted`, where no epoch is above this one; None where there is none.

        `restarted` is the first entry of its epoch, so two small reads for each epoch find it, whatever the log's
        length. The first entry of another kind is that of a first attempt, or the end by another process.
        """
        key = keys.log(generation_id)
        while True:
            for row in await self.server.read_page("XRANGE", key, epoch, epoch, "COUNT", 1):
                if (first := _row(row)).field == Restarted.kind:
                    return first.id
            earlier = await self.server.read_page("XREVRANGE", key, f"({epoch}-0", "-", "COUNT", 1)
            if not earlier:
                return None
            epoch = _row(earlier[0]).epoch

    async def id_at(self, generation_id: str, seq: int, epoch: int) -> EntryId:
        """The id of the last entry whose sequence number is at most this one, where no epoch is above this one; START
        where there is none.

        Ids of one epoch are ordered by their sequence numbers, so two small reads for each epoch find it.
        """
        key = keys.log(generation_id)
        while True:
            if found := await self.server.read_page("XREVRANGE", key, f"{epoch}-{seq}", f"{epoch}-0", "COUNT", 1):
                return _row(found[0]).id
            earlier = await self.server.read_page("XREVRANGE", key, f"({epoch}-0", "-", "COUNT", 1)
            if not earlier:
                return START
            epoch = _row(earlier[0]).epoch

    async def done(self, generation_id: str) -> StoredDone | None:
        """The end of a finished generation, with its output as JSON; None while there is none."""
        value = await self.server.read_bulk(*scripts.READ_DONE.on(keys.of_generation(generation_id)))
        return None if value is None else stored_done(value)

    async def tail(self, generation_id: str, after: EntryId = START) -> AsyncIterator[Entry]:
        """The entries that follow the cursor, then each new one, until the end: for one reader on a terminal.

        (The frontend's hub serves thousands of readers from one connection instead.)

        Raises:
            NotFound, Gone: as `state`; also when the log vanishes meanwhile.
        """
        key = keys.log(generation_id)
        block: tuple[Any, ...] = ()
        is_final = False
        while True:
            cursor = "0-0" if after == START else str(after)
            answer = await self.server.execute_alone("XREAD", "COUNT", 256, *block, "STREAMS", key, cursor)
            for row in answer[0][1] if answer else ():
                entry = from_row(_row(row))
                yield entry
                after = entry.id
                if isinstance(entry.event, Done):
                    return
            if not answer:
                if is_final:
                    return
                is_final = (await self.state(generation_id)).is_final  # the end may have been written since: read again
                block = () if is_final else ("BLOCK", BLOCK_MS)

    async def touch_presence(self, generation_ids: Sequence[str]) -> None:
        """Record that these logs have a reader."""
        checked(
            await self.server.execute_many(
                [scripts.TOUCH_PRESENCE.on(keys.of_generation(each)) for each in generation_ids]
            )
        )

    async def _missing(self, generation_id: str, owner: str | None) -> TailraceError:
        fields = await self.server.execute("HMGET", keys.tombstone(generation_id), "owner", "deleted")
        kept_for, deleted = fields
        if kept_for is None or (owner is not None and kept_for != owner.encode()):
            return NotFound()
        return Gone("deleted" if deleted else "expired")


def _position(epoch: bytes | None, seq: bytes, status: bytes) -> Position | None:
    if epoch is None:
        return None
    return Position(EntryId(int(epoch), int(seq)), status not in (b"queued", b"running"))


def _raised(found: GenerationState | TailraceError | None) -> GenerationState | None:
    if isinstance(found, TailraceError):
        raise found
    return found


def _next_limit(limit: int, entries: int, size: int) -> int:
    return min(page_size(entries, size), PAGE_GROWTH * limit)


def page_size(entries: int, size: int) -> int:
    """The number of entries that have about 64 KiB, where `entries` have `size` bytes."""
    return max(1, min(2000, PAGE_BYTES * entries // (size + 1)))
