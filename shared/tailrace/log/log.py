"""The log: one generation is one ordered, finite list of entries, kept in a Redis Stream.

Its promises, each with tests of its name in `tests/contract/log`:

1. *Ordered.* Ids grow; sequence numbers are dense over the whole log, across epochs.
2. *Immutable.* An entry never changes until the generation expires or is deleted.
3. *Finite.* There is exactly one `done`, and it is always last.
4. *One writer.* Once a later epoch has acquired the log, nothing of an earlier epoch is added.
5. *Exactly once.* Every call may be repeated; a repeated append adds nothing twice.
6. *Resumable.* Reading after a cursor yields exactly the entries that follow it; `tail` continues until the end.
7. *Honest.* A generation that never existed, or is another owner's, is `NotFound`; a deleted or expired one is `Gone`.

The theory of ids is in `ids` and `events`. The rules by which the promises hold under failure stand on top of each
script in `lua/`. Every method raises RedisUnavailable, RedisFull or RedisRefused, as `RedisServer` does.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from tailrace import jsoncodec, keys, scripts
from tailrace.errors import Gone, RedisFull, TailraceError
from tailrace.events import (
    NO_EXTRA,
    Created,
    Done,
    Entry,
    Extra,
    Failure,
    FinalStatus,
    GenerationRecord,
    Json,
    seq_span,
)
from tailrace.ids import START, EntryId
from tailrace.log.codec import Row, message, stamp, to_row
from tailrace.log.reading import ReadableLog
from tailrace.log.results import (
    AppendBatch,
    AppendResult,
    Creation,
    LeaseGrant,
    Outcome,
    Waiting,
    append_result_of,
    lease_grant_of,
    outcome_of,
)
from tailrace.log.spent import Spent
from tailrace.log.state import ABANDONED_MS, GenerationState
from tailrace.log.unfinished import UnfinishedIndex
from tailrace.redis.cluster import connect_log_server
from tailrace.redis.server import LARGE_BYTES, RedisServer, checked
from tailrace.settings import Settings

NO_MEASURES: Mapping[str, bytes] = {}
NO_RESPONSES: Mapping[str, str] = {}

TOMBSTONE_MS = 24 * 3600 * 1000


class Log(ReadableLog):
    """The logs on one Redis server or cluster, for those who also write.

    `lease_ms` is what `acquire` and `renew` grant, `abandoned_ms` the grace of `on_disconnect: cancel`.
    """

    def __init__(self, server: RedisServer, lease_ms: int, abandoned_ms: int = ABANDONED_MS) -> None:
        super().__init__(server)
        self.lease_ms = lease_ms
        self.unfinished = UnfinishedIndex(server)
        self.abandoned_ms = abandoned_ms

    @classmethod
    def connect(cls, settings: Settings) -> "Log":
        """The log as the settings name it; nothing is connected yet."""
        return cls(
            connect_log_server(settings.redis_url, "TAILRACE_REDIS_URL"),
            settings.lease_ms,
            settings.disconnect_grace_ms,
        )

    async def create(self, record: GenerationRecord, request: Json, job_id: str) -> Creation:
        """Begin a generation. Repeating it for the same id changes nothing.

        Raises:
            Gone: the generation existed and is no longer kept.
            RedisFull: the server had no room. The generation may have been created: `discard` it.
        """
        created = Created(0.0, record.background)
        event = msgspec.to_builtins(created)
        del event["at"]
        stored, options = jsoncodec.dumps(request), record.options
        command = scripts.CREATE.on(
            keys.of_generation(record.id),
            msgspec.json.encode(record), stored, record.owner, job_id, msgspec.json.encode(event),
            seq_span(created) - 1, options.deadline_s * 1000, options.retention_s * 1000, self.lease_ms,
        )  # fmt: skip
        index = self.unfinished.add_command(record.id)  # first: what is found by its state is in the index
        if len(stored) <= LARGE_BYTES:
            _, (outcome, *result) = checked(await self.server.execute_many([index, command]))
        else:
            await self.server.execute(*index)
            outcome, *result = await self.server.execute_alone(*command)
        if outcome == b"GONE":
            await self.unfinished.remove_missing(record.id)
            raise Gone(result[0].decode())
        return Creation(int(result[0]), result[1].decode() or None)

    async def share(self, generation_id: str) -> Waiting | None:
        """Rely on a generation that waits, so that it cannot be discarded by the call that created it. None: it does
        not wait, or does not exist.

        Raises:
            RedisFull: the server had no room.
        """
        outcome, *result = await self.server.execute(*scripts.SHARE.on(keys.of_generation(generation_id)))
        if outcome_of(outcome) is Outcome.UNKNOWN:
            return None
        created, job_id, request_bytes = result
        return Waiting(int(created), job_id.decode(), request_bytes)

    async def acquire(
        self,
        generation_id: str,
        token: str,
        *,
        worker: str = "",
        neighbours: int = 0,
        terminating: FinalStatus | None = None,
        error: Failure | None = None,
        rows: bool = True,
    ) -> LeaseGrant:
        """Become the writer: to run the generation as `worker`, or, never refused, to end it as `terminating`
        with this `error`.

        `neighbours`: the number of generations that the worker runs beside this one. `rows`: whether to read the log,
        in pages. A log that has lost rows meanwhile is acquired again, by the same token.
        """
        command = scripts.ACQUIRE.on(
            keys.of_generation(generation_id),
            token,
            terminating or "",
            self.lease_ms,
            worker,
            neighbours,
            msgspec.json.encode(error) if error else "",
        )
        while True:
            grant = lease_grant_of(await self.server.execute_alone(*command))
            if not rows or grant.last_id == START:
                return grant
            found = await self.rows(generation_id, grant.last_id)
            if found and found[-1].id == grant.last_id:
                return grant._replace(rows=found)

    async def append(self, batches: Sequence[AppendBatch]) -> list[AppendResult | TailraceError]:
        """Add rows to many logs in one round trip. A batch that failed yields its error, alone.

        Raises:
            RedisUnavailable: whether the rows were added is unknown; send the same batches again.
        """
        sent = stamp(time.time())
        replies = await self.server.execute_many(
            [
                scripts.APPEND.on(
                    keys.of_generation(batch.generation_id), batch.epoch, batch.after_seq,
                    batch.rows[-1].seq if batch.rows else batch.after_seq, message(batch.rows, sent),
                    *_flat(batch.rows),
                )
                for batch in batches
            ],
            retries=0,
        )  # fmt: skip
        return [reply if isinstance(reply, TailraceError) else append_result_of(reply) for reply in replies]

    async def renew(
        self,
        leases: Sequence[tuple[str, int, bool]],
        *,
        neighbours: int = 0,
        measures: Mapping[str, bytes] = NO_MEASURES,
        upstream_responses: Mapping[str, str] = NO_RESPONSES,
    ) -> list[Outcome | TailraceError]:
        """Renew many leases, as (generation_id, epoch, whether it runs only while it is read), in one round trip.

        `neighbours`: the number of generations that the worker runs beside each of them. `measures`: by generation, as
        JSON (`log.measures`). `upstream_responses`: by generation, the response that an upstream runs in its
        background, as `GenerationState` has it; empty for none. What is not given for a generation stays as it is.
        """
        replies = await self.server.execute_many(
            [
                scripts.RENEW.on(
                    keys.of_generation(generation_id),
                    epoch,
                    self.lease_ms,
                    self.abandoned_ms if while_read else "",
                    neighbours,
                    measures.get(generation_id, b""),
                    *([upstream_responses[generation_id]] if generation_id in upstream_responses else []),
                )
                for generation_id, epoch, while_read in leases
            ]
        )
        return [reply if isinstance(reply, TailraceError) else outcome_of(reply[0]) for reply in replies]

    async def expire(self, state: GenerationState) -> Outcome:
        """End the lease by which a generation runs: its worker is known to be dead. The next sweep has it run again.

        A worker that lives loses nothing by it, unless it is slower than the sweep: it renews the lease.
        """
        command = scripts.RENEW.on(keys.of_generation(state.record.id), state.epoch, 0, "", state.neighbours, "")
        return outcome_of((await self.server.execute(*command))[0])

    async def announce_restore(self, generation_id: str) -> None:
        """Have readers of logs that are missing, on this one's server, wait for another lease (`is_restoring`)."""
        name = keys.restoring((await self.server.find_primary(keys.state(generation_id))).tag)
        with suppress(RedisFull):  # a restore itself is never refused for want of room
            await self.server.execute("SET", name, b"", "PX", self.lease_ms)

    async def restore(self, state: GenerationState, request: Json | msgspec.Raw, rows: Sequence[Row]) -> Outcome:
        """Write back what the server has lost: its place in the index, the state as it was acquired, and every row.

        FENCED where the log has gone on under another epoch; GONE where the generation has been deleted or has expired.
        """
        options, last_seq = state.record.options, rows[-1].seq
        fields = msgspec.to_builtins(state) | {
            "record": msgspec.json.encode(state.record),
            "request": jsoncodec.dumps(request),
            "created": state.record.created,
            "retention": options.retention_s * 1000,
            "seq": last_seq,
            "terminating": None,
            "terminating_error": None,
            "lease": None,
            "seen": None,
            **dict.fromkeys(("tokens", "spent", "ended", "failure")),
        }
        flat = [part for name, value in fields.items() if value is not None for part in (name, value)]
        life = (options.deadline_s + options.retention_s) * 1000 + self.lease_ms
        tombstone_life = _tombstone_life_ms(state.record, self.lease_ms)
        command = scripts.RESTORE.on(
            keys.of_generation(state.record.id), state.epoch, state.record.owner, self.lease_ms,
            life, tombstone_life, len(flat) // 2, *flat, *_flat(rows),
        )  # fmt: skip
        await self.unfinished.add_restored(state.record.id)
        outcome, *_ = await self.server.execute_alone(*command)
        return outcome_of(outcome)

    async def release(self, generation_id: str, epoch: int, job_id: str) -> Outcome:
        """Give the lease back: the generation waits under another job, and this run does not count as an attempt."""
        return await self._requeue(generation_id, epoch, job_id, "", spared=False)

    async def requeue_expired(self, generation_id: str, epoch: int, job_id: str, *, spared: bool = False) -> Outcome:
        """Have a generation whose lease has expired wait under another job. HELD where the lease has not expired.

        `spared`: the lost run is not charged.
        """
        return await self._requeue(generation_id, epoch, job_id, "expired", spared=spared)

    async def _requeue(self, generation_id: str, epoch: int, job_id: str, why: str, *, spared: bool) -> Outcome:
        command = scripts.REQUEUE.on(keys.of_generation(generation_id), epoch, job_id, why, int(spared))
        return outcome_of((await self.server.execute(*command))[0])

    async def finish(
        self, generation_id: str, epoch: int, last_seq: int, done: Done, extra: Extra = NO_EXTRA
    ) -> AppendResult:
        """End the generation, if its last sequence number is still the one that was folded."""
        row = to_row(Entry(EntryId(epoch, last_seq + seq_span(done)), done, extra))
        command = scripts.FINISH.on(
            keys.of_generation(generation_id), epoch, last_seq, done.status, message([row], stamp(time.time())),
            *_flat([row]),
            "" if (tokens := done.output_tokens) is None else tokens, str(Spent.of(done)),
            done.error.code if done.error else "",
        )  # fmt: skip
        execute = self.server.execute if row.size <= LARGE_BYTES else self.server.execute_alone
        return append_result_of(await execute(*command))

    async def delete(self, generation_id: str, record: GenerationRecord | None = None) -> Outcome:
        """Delete the generation. A running one must be ended first. UNKNOWN where the server does not know it; with
        the record it is deleted there, too, so that no process can restore it."""
        owner, life = ("", 0) if record is None else (record.owner, _tombstone_life_ms(record, self.lease_ms))
        command = scripts.DELETE.on(keys.of_generation(generation_id), owner, life)
        return outcome_of((await self.server.execute(*command))[0])

    async def discard(self, generation_id: str, job_id: str) -> Outcome:
        """Delete a generation whose creation was refused after `create`. HELD where another call relies on it."""
        command = scripts.DISCARD.on(keys.of_generation(generation_id), job_id)
        outcome = outcome_of((await self.server.execute(*command))[0])
        if outcome is not Outcome.HELD:
            await self.unfinished.remove_missing(generation_id)
        return outcome

    async def notify_worker(self, state: GenerationState) -> None:
        """Notify the worker that holds the lease that it was fenced. A lost message costs it one append or renewal."""
        if state.worker:
            await self.server.execute("SPUBLISH", keys.worker(state.worker), state.record.id)


def _tombstone_life_ms(record: GenerationRecord, lease_ms: int) -> int:
    """From now on, whatever of its life the generation has behind it."""
    return (record.options.deadline_s + 2 * record.options.retention_s) * 1000 + lease_ms + TOMBSTONE_MS


def _flat(rows: Sequence[Row]) -> list[str]:
    flat: list[str] = []
    for row in rows:
        flat += f"{row.epoch}-{row.seq}", row.field, row.value, row.extra
    return flat
