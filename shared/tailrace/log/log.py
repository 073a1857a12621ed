"""The log: one generation is one ordered, finite list of entries, kept in a Redis Stream.

What it promises, a test each in `tests/contract/log/test_promises.py`:

1. *Ordered.* Ids grow; numbers are dense over the whole log, across attempts.
2. *Immutable.* An entry never changes until the generation expires or is deleted.
3. *Finite.* There is exactly one `done`, and it is always last.
4. *One writer.* Once a later attempt has taken over, nothing of an earlier one is added.
5. *Exactly once.* Every call may be retried freely; a retried append adds nothing twice.
6. *Resumable.* Reading after a cursor yields exactly what follows it; `tail` goes on until the end.
7. *Honest.* What never existed, or is somebody else's, is `NotFound`; what was deleted or expired is `Gone`.

Nothing outside this module and `queue` runs commands on Redis. Theory of the ids: `ids`, `events`. The rules that make
the promises hold under failure stand on top of each script in `lua/`.
"""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from tailrace import keys, scripts
from tailrace.errors import CorruptEntry, Gone, NotFound
from tailrace.events import NO_EXTRA, Created, Done, Entry, Extra, FinalStatus, GenerationRecord, Json, seq_span
from tailrace.ids import START, EntryId
from tailrace.log.codec import Row, coalesce_rows, from_row, pack, stored_size, to_row
from tailrace.log.codec import stored_row as _row
from tailrace.log.state import ABANDONED_MS, FIELDS, GenerationState, state_from, state_of
from tailrace.redis import connection
from tailrace.redis.pipeline import Interrupted, Pipeline

TOMBSTONE_MS = 24 * 3600 * 1000
PAGE_BYTES = 64 * 1024
FIRST_PAGE = 128  # entries; later pages are sized by what this one weighed
BLOCK_MS = 2000  # below the command timeout, so that a dead server is noticed


NO_REQUEST: Json = {}


class Outcome(StrEnum):
    """What a script answered; the scripts say when."""

    OK = "OK"
    HELD = "HELD"
    ABANDONED = "ABANDONED"
    TERMINATING = "TERMINATING"
    FENCED = "FENCED"
    DONE = "DONE"
    BEHIND = "BEHIND"
    CHANGED = "CHANGED"
    UNKNOWN = "UNKNOWN"
    GONE = "GONE"


class LeaseGrant(NamedTuple):
    """Result of `acquire`. With OK: the new epoch, Redis' time (ms), the state, every row of the log, and the
    request."""

    outcome: Outcome
    epoch: int = 0
    now: int = 0
    state: GenerationState | None = None
    rows: Sequence[Row] = ()
    request: Json = NO_REQUEST


class AppendBatch(NamedTuple):
    """Rows to add: `after_seq` is the number before the first of them."""

    generation_id: str
    epoch: int
    after_seq: int
    rows: Sequence[Row]


class AppendResult(NamedTuple):
    """AppendResult to `append` and `finish`: `seq` with OK, BEHIND and CHANGED; `done` with DONE."""

    outcome: Outcome
    seq: int = -1
    done: Row | None = None


class Page(NamedTuple):
    """What follows a cursor: `before` is the number before its first entry, `limit` how many to ask for next;
    `is_last`: it met the top of the log."""

    entries: list[Entry]
    before: int
    limit: int
    is_last: bool


class Position(NamedTuple):
    """Where a log stands: the newest id that its head knows of, and whether it has ended."""

    id: EntryId
    ended: bool


class Log:
    """The logs on one Redis server (or cluster node). `lease_ms` is what a take-over or a renewal grants."""

    def __init__(self, redis: Redis, lease_ms: int) -> None:
        self.redis = redis
        self._pipeline = Pipeline(redis)
        self.lease_ms = lease_ms

    async def create(self, record: GenerationRecord, request: Json, job_id: str) -> int:
        """Begin a generation. Idempotent by id; answers its time of creation in ms of Redis' clock.

        Raises:
            Gone: it existed and is no longer kept.
        """
        created = Created(0.0, record.background)
        value = msgspec.to_builtins(created)
        del value["at"]
        outcome, *answer = await scripts.CREATE(
            self.redis, record.id, msgspec.json.encode(record), msgspec.json.encode(request), record.owner, job_id,
            msgspec.json.encode(value), seq_span(created) - 1, record.options.deadline_s * 1000,
            record.options.retention_s * 1000, self.lease_ms,
        )  # fmt: skip
        if outcome == b"GONE":
            raise Gone(answer[0].decode())
        return int(answer[0])

    async def acquire(
        self, generation_id: str, token: str, *, worker: str = "", terminating: FinalStatus | None = None
    ) -> LeaseGrant:
        """Become the writer: to run it as `worker`, or (never refused) to end it with the status `terminating`."""
        outcome, *answer = await scripts.ACQUIRE(
            self.redis, generation_id, token, terminating or "", self.lease_ms, worker
        )
        if outcome != b"OK":
            return LeaseGrant(_outcome(outcome))
        epoch, now, fields, rows = answer
        stored = dict(zip(fields[::2], fields[1::2], strict=True))
        request = msgspec.json.decode(stored[b"request"])
        return LeaseGrant(Outcome.OK, int(epoch), int(now), state_from(stored), [_row(row) for row in rows], request)

    async def append(self, calls: Sequence[AppendBatch]) -> list[AppendResult | Exception]:
        """Add rows to many logs in one round trip. A log whose call failed yields its exception, alone.

        Raises:
            RedisError, OSError: the server could not be reached. Send the same calls again.
        """
        answers = await scripts.APPEND.gather(
            self._pipeline,
            [
                (
                    call.generation_id,
                    [
                        call.epoch,
                        call.after_seq,
                        call.rows[-1].seq if call.rows else call.after_seq,
                        pack(call.rows),
                        *_flat(call.rows),
                    ],
                )
                for call in calls
            ],
        )
        return [answer if isinstance(answer, Exception) else _append_result(answer) for answer in answers]

    async def renew(self, leases: Sequence[tuple[str, int, bool]]) -> list[Outcome | Exception]:
        """Renew many (generation, attempt, whether it runs only while somebody reads) in one round trip.

        Raises:
            RedisError, OSError: the server could not be reached.
        """
        answers = await scripts.RENEW.gather(
            self._pipeline,
            [
                (generation_id, [epoch, self.lease_ms, ABANDONED_MS if while_read else ""])
                for generation_id, epoch, while_read in leases
            ],
        )
        return [answer if isinstance(answer, Exception) else _outcome(answer[0]) for answer in answers]

    async def touch_presence(self, generation_ids: Sequence[str]) -> None:
        """Note that somebody reads these."""
        await scripts.TOUCH_PRESENCE.gather(self._pipeline, [(generation_id, []) for generation_id in generation_ids])

    async def restore(self, state: GenerationState, request: Json, rows: Sequence[Row]) -> Outcome:
        """Bring back what its server has lost: the state as it was taken over, and every row. FENCED where the log has
        gone on without this attempt."""
        options, last_seq = state.record.options, rows[-1].seq
        fields = msgspec.to_builtins(state) | {
            "record": msgspec.json.encode(state.record),
            "request": msgspec.json.encode(request),
            "created": state.record.created,
            "retention": options.retention_s * 1000,
            "seq": last_seq,
            "terminating": None,
            "lease": None,
            "seen": None,
        }
        flat = [part for name, value in fields.items() if value is not None for part in (name, value)]
        life = (options.deadline_s + options.retention_s) * 1000 + self.lease_ms
        outcome, *_ = await scripts.RESTORE(
            self.redis, state.record.id, state.epoch, state.record.owner, self.lease_ms,
            life, life + TOMBSTONE_MS + options.retention_s * 1000, len(flat) // 2, *flat, *_flat(rows),
        )  # fmt: skip
        return _outcome(outcome)

    async def release(self, generation_id: str, epoch: int, job_id: str) -> Outcome:
        """Stop holding it: it waits under another dispatch, and this run does not count as an attempt."""
        return _outcome((await scripts.REQUEUE(self.redis, generation_id, epoch, job_id, ""))[0])

    async def requeue_expired(self, generation_id: str, epoch: int, job_id: str) -> Outcome:
        """Nobody holds it: it waits under another dispatch. HELD if somebody does after all."""
        return _outcome((await scripts.REQUEUE(self.redis, generation_id, epoch, job_id, "expired"))[0])

    async def finish(
        self, generation_id: str, epoch: int, last_seq: int, done: Done, extra: Extra = NO_EXTRA
    ) -> AppendResult:
        """End it, if its top is still the one that was folded."""
        row = to_row(Entry(EntryId(epoch, last_seq + seq_span(done)), done, extra))
        answer = await scripts.FINISH(
            self.redis, generation_id, epoch, last_seq, done.status, pack([row]), *_flat([row])
        )
        return _append_result(answer)

    async def delete(self, generation_id: str) -> Outcome:
        """Take it away. End it first if it runs."""
        return _outcome((await scripts.DELETE(self.redis, generation_id))[0])

    async def state(self, generation_id: str, owner: str | None = None) -> GenerationState:
        """The generation's state, for its owner; with None, for any process of ours.

        Raises:
            NotFound: it never existed, or is another owner's.
            Gone: it was deleted, or has expired.
        """
        values = await self._ask("HMGET", keys.state(generation_id), *FIELDS)
        state = state_of(values)
        if state is None:
            await self._raise_missing(generation_id, owner)
        assert state is not None
        if owner is not None and state.record.owner != owner:
            raise NotFound
        return state

    async def request(self, generation_id: str) -> Json:
        """The request as its caller sent it.

        Raises:
            NotFound, Gone: as `state`.
        """
        (stored,) = await self._ask("HMGET", keys.state(generation_id), "request")
        if stored is None:
            await self._raise_missing(generation_id, None)
        request: Json = msgspec.json.decode(stored)
        return request

    async def states(self, generation_ids: Sequence[str]) -> list[GenerationState | CorruptEntry | None]:
        """Many heads in one round trip; None for those no longer kept. One that cannot be read (a later version may
        have written it) yields its exception, alone."""
        states: list[GenerationState | CorruptEntry | None] = []
        for values in await self._ask_all([("HMGET", keys.state(each), *FIELDS) for each in generation_ids]):
            try:
                states.append(state_of(values))
            except CorruptEntry as error:
                states.append(error)
        return states

    async def positions(self, generation_ids: Sequence[str]) -> list[Position | None]:
        """Where each stands; None for those no longer kept. An answer costs a small part of what `state` does."""
        answers = await self._ask_all(
            [("HMGET", keys.state(each), "epoch", "seq", "status") for each in generation_ids]
        )
        return [
            None if epoch is None else Position(EntryId(int(epoch), int(seq)), status not in (b"queued", b"running"))
            for epoch, seq, status in answers
        ]

    async def read(self, generation_id: str, after: EntryId = START, limit: int = FIRST_PAGE) -> list[Entry]:
        """Up to `limit` entries that follow the cursor; none if nothing does, or the log is no longer there."""
        return (await self.page(generation_id, after, limit)).entries

    async def page(self, generation_id: str, after: EntryId, limit: int, *, coalesce: bool = False) -> Page:
        """The same as a page. `coalesce`: adjacent deltas of one place as one entry, under the last one's id."""
        start = "-" if after == START else f"({after}"
        stored = await self._ask("XRANGE", keys.log(generation_id), start, "+", "COUNT", limit)
        if not stored:
            return Page([], after.seq, limit, is_last=True)
        first = from_row(_row(stored[0]))
        entries, size = (
            coalesce_rows(stored) if coalesce else ([from_row(_row(each)) for each in stored], stored_size(stored))
        )
        more = min(page_size(len(stored), size), 4 * limit)  # what comes may be larger than what was
        return Page(entries, first.id.seq - first.seq_span, more, is_last=len(stored) < limit)

    async def read_all(self, generation_id: str, after: EntryId = START) -> AsyncIterator[Entry]:
        """What follows the cursor, read in pages of about 64 KiB."""
        limit, is_last = FIRST_PAGE, False
        while not is_last:
            entries, _, limit, is_last = await self.page(generation_id, after, limit)
            for entry in entries:
                yield entry
            if entries:
                after = entries[-1].id

    async def done_entry(self, generation_id: str) -> Done | None:
        """The `done` of a finished generation, with its whole output; None while there is none."""
        rows = await self.redis.xrevrange(keys.log(generation_id), "+", "-", 1)
        event = from_row(_row(rows[0])).event if rows else None
        return event if isinstance(event, Done) else None

    async def tail(self, generation_id: str, after: EntryId = START) -> AsyncIterator[Entry]:
        """What follows the cursor, and then what is added, until the end: for one reader on a terminal.

        (The web tier's hub serves thousands from one connection instead.)

        Raises:
            NotFound, Gone: as `state`; also when it vanishes under the reader.
        """
        key = keys.log(generation_id)
        block_ms, ended = None, False
        while True:
            answer = await self.redis.xread({key: "0-0" if after == START else str(after)}, 256, block_ms)
            for row in answer[0][1] if answer else ():
                entry = from_row(_row(row))
                yield entry
                after = entry.id
                if isinstance(entry.event, Done):
                    return
            if not answer:
                if ended:
                    return
                ended = (await self.state(generation_id)).is_final  # it may have ended since: then look once more
                block_ms = None if ended else BLOCK_MS

    async def _ask(self, *command: Any) -> Any:
        (reply,) = await self._ask_all([command])
        return reply

    async def _ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What readers ask, thousands of them: in the pipeline, answered as hiredis parses it."""
        try:
            replies = await self._pipeline.execute(commands)
        except Interrupted:
            replies = await self._pipeline.execute(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _raise_missing(self, generation_id: str, owner: str | None) -> None:
        tombstone = await self.redis.execute_command("HGETALL", keys.tombstone(generation_id))
        if not tombstone or (owner is not None and tombstone[b"owner"] != owner.encode()):
            raise NotFound
        raise Gone("deleted" if b"deleted" in tombstone else "expired")

    async def notify_worker(self, state: GenerationState) -> None:
        """Notify the worker that holds the lease that it was fenced. A lost message costs it one append or renewal."""
        if state.worker:
            await self.redis.execute_command("SPUBLISH", keys.worker(state.worker), state.record.id)

    async def exists(self, generation_id: str) -> bool:
        return bool(await self.redis.exists(keys.state(generation_id)))

    async def memory_percent(self) -> float:
        """How much of its memory the server uses."""
        return await connection.memory_percent(self.redis)

    async def server(self) -> tuple[str, float]:
        """The server's run id, and seconds since it started: what is missing on a young one may yet come back."""
        return await connection.server_run(self.redis)

    async def now(self) -> int:
        """Redis' clock, ms."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def page_size(entries: int, size: int) -> int:
    """How many entries make a page of about 64 KiB, where so many have this size."""
    return max(16, min(2000, PAGE_BYTES * entries // (size + 1)))


_OUTCOMES = {outcome.encode(): outcome for outcome in Outcome}


def _outcome(raw: bytes) -> Outcome:
    return _OUTCOMES[raw]


def _append_result(raw: list[Any]) -> AppendResult:
    outcome, rest = _outcome(raw[0]), raw[1:]
    if outcome is Outcome.DONE:
        return AppendResult(outcome, done=_row(rest[0]) if rest else None)
    return AppendResult(outcome, int(rest[0]) if rest else -1)


def _flat(rows: Sequence[Row]) -> list[str]:
    return [part for row in rows for part in (f"{row.epoch}-{row.seq}", row.field, row.value, row.extra)]
