"""The scripts of the log against their model: random calls and failures in random order, on a real server.

Workers, enders, readers and the server itself act in any order. After each step the server holds what the model holds
(`support.model`), and the promises of `tailrace.log` hold. Time is set by hand: a lease is written into the past, and a
server restarts with older data by having that data restored.

    HYPOTHESIS_PROFILE=long scripts/test tests/contract/log/test_state_machine.py      for some minutes

The machine takes two things for granted: Redis' clock goes forward, and a restart takes longer than a millisecond.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from support.actors import Attempt, Reader
from support.log_places import Place, client_of, server_of
from support.logs import REQUEST
from support.logs import record as record_of
from support.model import Model, ModelState
from support.stored_log import entries_of
from tailrace import keys
from tailrace.errors import Gone, NotFound
from tailrace.events import Done, Entry, FinalStatus
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import AppendBatch, AppendResult, Log, Outcome
from tailrace.log.codec import Row, from_row
from tailrace.log.output import Output
from tailrace.log.state import GenerationState

LEASE_MS = 600_000  # longer than an example takes: a lease expires when the machine writes it into the past
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES, STEPS = (5000, 80) if LONG else (100, 40)

WORKERS = st.sampled_from(["first", "second", "third"])
NEIGHBOURS = st.integers(0, 2)
STATUSES: st.SearchStrategy[FinalStatus] = st.sampled_from(["completed", "incomplete", "failed", "cancelled"])
KINDS = st.lists(st.sampled_from(["text", "item", "closed"]), max_size=3)


@dataclass
class Data:
    """What a server held of the generation at some moment."""

    dumps: dict[str, tuple[bytes, int]]
    model: Model


@dataclass
class Server:
    redis: Any
    log: Log
    run: Callable[[Coroutine[Any, Any, Any]], Any]


class GenerationMachine(RuleBasedStateMachine):
    """One generation, its attempts, its readers and its server."""

    attempts = Bundle("attempts")
    enders = Bundle("enders")
    lost_grants = Bundle("lost_grants")
    readers = Bundle("readers")

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.redis, self._run = server.redis, server.run
        self.log = server.log
        self.record = record_of(id=new_generation_id())
        self.id = self.record.id
        self.keys = keys.of_generation(self.id)[:3]
        self.model = Model()
        self.histories: list[Callable[[], list[Entry]]] = []
        self.following: list[Reader] = []
        self.past: list[Data] = []
        self.newest = 0
        self.count = 0

    def do(self, call: Any) -> Any:
        """Run a coroutine on the loop of the Redis client."""
        return self._run(call)

    def new_name(self) -> str:
        self.count += 1
        return f"name {self.count}"

    def teardown(self) -> None:
        self.do(self.redis.delete(*self.keys))

    # Beginning

    @initialize()
    def begin(self) -> None:
        self.create()

    @rule()
    def create(self) -> None:
        job_id = self.new_name()
        try:
            result: tuple[int, str | None] | str = self.do(self.log.create(self.record, REQUEST, job_id))
        except Gone as gone:
            result = str(gone.code)
        assert self.model.create(job_id, 0 if isinstance(result, str) else result[0]) == result
        if not isinstance(result, str):
            self.newest = max(self.newest, result[0])
            created = [from_row(row) for row in self.model.log[:1]]
            self.histories.append(lambda: created)

    # Taking over

    def acquire(
        self, token: str, worker: str, terminating: FinalStatus | None = None, neighbours: int = 0
    ) -> Attempt | None:
        grant = self.do(self.log.acquire(self.id, token, worker=worker, neighbours=neighbours, terminating=terminating))
        assert grant.outcome is self.model.acquire(token, grant.now, worker, neighbours, terminating)
        if grant.state is None:
            return None
        assert self.model.state is not None
        assert grant.epoch == self.model.state.epoch
        assert [from_row(row) for row in grant.rows] == [from_row(row) for row in self.model.log]
        self.newest = max(self.newest, grant.epoch)
        attempt = Attempt(self.log, grant, self.model.state)
        self.histories.append(lambda: attempt.history)
        return attempt

    @rule(target=attempts, worker=WORKERS, is_free=st.booleans(), neighbours=NEIGHBOURS)
    def run(self, worker: str, is_free: bool, neighbours: int) -> Any:
        if is_free:
            self.expire_lease()
        return self.acquire(self.new_name(), worker, neighbours=neighbours) or multiple()

    @rule(target=lost_grants, worker=WORKERS)
    def run_and_lose_the_reply(self, worker: str) -> tuple[str, str]:
        token = self.new_name()
        self.acquire(token, worker)
        return token, worker

    @rule(target=attempts, request=consumes(lost_grants))
    def run_by_the_same_token(self, request: tuple[str, str]) -> Any:
        return self.acquire(*request) or multiple()

    @rule(target=enders, status=STATUSES)
    def acquire_to_end(self, status: FinalStatus) -> Any:
        return self.acquire(self.new_name(), "", status) or multiple()

    @rule(status=STATUSES)
    def cancel(self, status: FinalStatus) -> None:
        if finisher := self.acquire(self.new_name(), "", status):
            assert self.finish_with(finisher, status).outcome is Outcome.OK

    # Writing

    def append(self, attempt: Attempt, batch: AppendBatch) -> AppendResult:
        result: AppendResult = self.do(attempt.send(batch))
        assert result == self.model.append(batch)
        if result.outcome is Outcome.OK and batch.rows:
            attempt.flushed = True
        return result

    @rule(attempt=attempts, kinds=KINDS, heals=st.booleans())
    def write(self, attempt: Attempt, kinds: list[str], heals: bool) -> None:
        assume(attempt.final is None)
        result = self.append(attempt, attempt.extend(kinds))
        if heals and result.outcome is Outcome.BEHIND:
            assert self.append(attempt, attempt.batch_after(result.seq)).outcome is Outcome.OK
        if heals and result.outcome is Outcome.UNKNOWN and self.restore(attempt) is Outcome.OK:
            rest = attempt.batch_after(attempt.last_seq)
            assert self.append(attempt, rest) == AppendResult(Outcome.OK, attempt.last_seq)

    @rule(attempt=attempts, kinds=KINDS)
    def extend_and_not_send(self, attempt: Attempt, kinds: list[str]) -> None:
        assume(attempt.final is None)
        attempt.extend(kinds)

    @rule(attempt=attempts, place=st.integers(0, 30))
    def send_again(self, attempt: Attempt, place: int) -> None:
        self.append(attempt, attempt.batch_after(attempt.entries[place % len(attempt.entries)].id.seq))

    @rule(attempt=attempts, neighbours=NEIGHBOURS)
    def renew(self, attempt: Attempt, neighbours: int) -> None:
        result = self.do(self.log.renew([(self.id, attempt.epoch, False)], neighbours=neighbours))
        assert result == [self.model.renew(attempt.epoch, neighbours)]

    @rule(attempt=attempts)
    def release(self, attempt: Attempt) -> None:
        job_id = self.new_name()
        for _ in range(2):
            result = self.do(self.log.release(self.id, attempt.epoch, job_id))
            assert result is self.model.requeue(attempt.epoch, job_id, expired=False)

    @rule(attempt=consumes(attempts))
    def crash(self, attempt: Attempt) -> None:
        """Its worker is gone; what was sent stays."""

    # Ending

    def finish_with(self, attempt: Attempt, status: FinalStatus) -> AppendResult:
        attempt.final = attempt.final or attempt.done(status)
        result: AppendResult = self.do(self.log.finish(self.id, attempt.epoch, attempt.last_seq, attempt.final))
        expected = self.model.finish(attempt.epoch, attempt.last_seq, attempt.final.status, attempt.final_row)
        assert result == expected
        return result

    @rule(attempt=st.one_of(attempts, enders), status=STATUSES)
    def finish(self, attempt: Attempt, status: FinalStatus) -> None:
        assume(attempt.flushed)
        self.finish_with(attempt, status)

    # Server failures, expiry and deletion

    @rule()
    def expire_lease(self) -> None:
        if self.model.state:
            self.do(self.redis.execute_command("HSET", self.keys[0], "lease", 1))
        self.model.expire_lease()

    @rule(how=st.sampled_from(["delete", "expire", "lose"]))
    def vanish(self, how: str) -> None:
        match how:
            case "delete":
                assert self.do(self.log.delete(self.id)) is self.model.delete()
            case "expire":
                self.do(self.redis.delete(*self.keys[:2]))
                self.model.expire()
            case _:
                self.restart_with(Data({}, Model()))

    @rule(steps=st.integers(1, 25))
    def restart_with_older_data(self, steps: int) -> None:
        self.restart_with(self.past[-min(steps, len(self.past))])

    def restart_with(self, data: Data) -> None:
        self.do(self.redis.delete(*self.keys))
        for key, (dump, ttl_ms) in data.dumps.items():
            self.do(self.redis.restore(key, ttl_ms, dump))
        self.model = data.model.copy()
        while self.do(self.log.server.now()) <= self.newest:
            self.do(asyncio.sleep(0.001))

    # Repair

    @precondition(lambda self: self.model.state)
    @rule(late=st.booleans(), spared=st.booleans())
    def sweep(self, late: bool, spared: bool) -> None:
        """Requeue by a sweeper; `late`: the epoch that it has read is no longer the newest."""
        assert self.model.state is not None
        epoch, job_id = self.model.state.epoch - late, self.new_name()
        result = self.do(self.log.requeue_expired(self.id, epoch, job_id, spared=spared))
        assert result is self.model.requeue(epoch, job_id, expired=True, spared=spared)

    @rule(attempt=attempts)
    def heal(self, attempt: Attempt) -> None:
        self.restore(attempt)

    def restore(self, attempt: Attempt) -> Outcome:
        result: Outcome = self.do(self.log.restore(attempt.state, REQUEST, attempt.rows))
        assert result is self.model.restore(attempt.model_state, attempt.rows)
        return result

    # Reading

    @rule()
    def touch_presence(self) -> None:
        self.do(self.log.touch_presence([self.id]))
        self.model.touch_presence()

    @rule(place=st.integers(-1, 30), up=st.integers(-1, 1), limit=st.integers(1, 50))
    def read_from_any_cursor(self, place: int, up: int, limit: int) -> None:
        rows = self.model.log
        row = rows[place % len(rows)].id if rows and place >= 0 else START
        cursor = EntryId(max(row.epoch + up, 0), max(row.seq, 0))
        expected = [from_row(row) for row in rows if row.id > cursor]
        assert self.do(entries_of(self.log, self.id, cursor, limit)) == expected[:limit]

    @rule(target=readers)
    def start_reader(self) -> Reader:
        self.following.append(reader := Reader())
        return reader

    @rule(reader=readers, limit=st.integers(1, 5), has_waited=st.booleans())
    def follow(self, reader: Reader, limit: int, has_waited: bool) -> None:
        if reader.result:
            return
        if entries := self.do(entries_of(self.log, self.id, reader.cursor, limit)):
            reader.on_page(entries)
        else:
            self.on_empty_page(reader, has_waited)

    def on_empty_page(self, reader: Reader, has_waited: bool) -> None:
        """The log has ended, is gone, lies behind the reader, or waits for more. `has_waited`: for a lease."""
        try:
            state = self.do(self.log.state(self.id))
        except (NotFound, Gone) as error:
            if has_waited or error.code == "deleted":
                reader.result = "gone"
            return
        if reader.cursor.seq > state.seq or reader.cursor.epoch > state.epoch:
            if has_waited:
                reader.start_over()
        elif state.is_final and reader.cursor.seq == state.seq:
            reader.result = "ended"
            assert reader.entries == [from_row(row) for row in self.model.log]

    # The promises

    @invariant()
    def snapshot(self) -> None:
        """No invariant: data with which a server may restart later."""
        if not self.past or self.past[-1].model != self.model:
            self.past.append(Data(self.do(self.dumps()), self.model.copy()))

    async def dumps(self) -> dict[str, tuple[bytes, int]]:
        found = {key: (await self.redis.dump(key), await self.redis.pttl(key)) for key in self.keys}
        return {key: (data, ttl_ms) for key, (data, ttl_ms) in found.items() if data is not None}

    @invariant()
    def server_equals_model(self) -> None:
        (state,) = self.do(self.log.states([self.id]))
        assert (as_model(state, self.model.state) if state else None) == self.model.state
        assert self.do(self.redis.xrange(self.keys[1])) == [as_stored(row) for row in self.model.log]
        tombstone = self.do(self.redis.execute_command("HGETALL", self.keys[2]))
        assert bool(tombstone) == (self.model.tombstone != "none")
        assert (b"deleted" in tombstone) == (self.model.tombstone == "deleted")

    @invariant()
    def ids_grow_and_sequence_numbers_are_dense(self) -> None:
        entries = self.entries()
        assert not entries or entries[0].is_contiguous_after(START)
        assert all(after.id > before.id and after.is_contiguous_after(before.id) for before, after in pairwise(entries))

    @invariant()
    def done_is_the_last_entry_and_holds_the_output(self) -> None:
        entries = self.entries()
        assert not any(isinstance(entry.event, Done) for entry in entries[:-1])
        if entries and isinstance(done := entries[-1].event, Done):
            assert done == Output(entries[:-1]).build_done(done.status, done.at)

    @invariant()
    def every_key_has_a_ttl(self) -> None:
        assert -1 not in [self.do(self.redis.pttl(key)) for key in self.keys]

    @invariant()
    def log_and_readers_hold_a_prefix_of_one_attempts_history(self) -> None:
        for entries in [self.entries(), *(reader.entries for reader in self.following)]:
            assert not entries or any(history()[: len(entries)] == entries for history in self.histories)

    def entries(self) -> list[Entry]:
        return [from_row(row) for row in self.model.log]


def as_model(state: GenerationState, model: ModelState | None) -> ModelState:
    """The part of a real state that the model knows. What `state` does not contain is taken from the model."""
    same = {name: getattr(state, name) for name in ("epoch", "job_id", "seq", "status", "attempt", "worker")}
    more = {name: getattr(state, name) for name in ("terminating", "handovers", "spared", "neighbours")}
    token = model.token if model else None
    more["expired"] = model.expired if model else None
    return ModelState(**same, **more, token=token, held=state.lease > 1, seen=state.seen > 0)


def as_stored(row: Row) -> tuple[bytes, dict[bytes, bytes]]:
    return str(row.id).encode(), {row.field.encode(): row.value.encode()}


@pytest.fixture
def server(place: Place) -> Iterator[Server]:
    with asyncio.Runner() as runner:
        redis, found = client_of(place), runner.run(server_of(place))
        yield Server(redis, Log(found, LEASE_MS), runner.run)
        runner.run(found.close())
        runner.run(redis.aclose())


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.timeout(3600 if LONG else 120)
def test_scripts_do_what_their_model_does(server: Server) -> None:
    machine: Any = lambda: GenerationMachine(server)  # noqa: E731 - a factory in the place of a class
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=CHECKS
        ),
    )
