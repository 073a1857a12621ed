"""The scripts of the log against their model: whatever happens to a generation, in any order, on a real server.

Workers, enders, readers and the server itself do what they may do; after each step the server holds what the model
holds, and the promises of `tailrace.log` stand. Time passes by hand: a lease is written into the past, and a server
comes back with older data by having it put back.

    HYPOTHESIS_PROFILE=long scripts/test tests/contract/test_state_machine.py      for some minutes

What the machine takes for granted: Redis' clock goes forward, and a server is away for longer than a millisecond.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

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
from redis.asyncio import Redis

from support.logs import REQUEST, text_opened
from support.logs import record as record_of
from support.model import Model, ModelState
from support.stored_log import entries_of
from tailrace import keys
from tailrace.errors import Gone, NotFound
from tailrace.events import Done, Entry, Event, FinalStatus, ItemClosed, Started, Text, seq_span
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.log.codec import Row, from_row, to_row
from tailrace.log.output import Output
from tailrace.log.state import GenerationState
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

LEASE_MS = 600_000  # longer than an example takes: it ends when the machine says so
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES, STEPS = (5000, 80) if LONG else (100, 40)

T = TypeVar("T")
WORKERS = st.sampled_from(["first", "second", "third"])
NEIGHBOURS = st.integers(0, 2)
STATUSES: st.SearchStrategy[FinalStatus] = st.sampled_from(["completed", "incomplete", "failed", "cancelled"])
WHAT_IS_SAID = st.lists(st.sampled_from(["text", "item", "closed"]), max_size=3)


class Pen:
    """One attempt's memory, as a worker or whoever ends it has it: every row, sent or not, and their fold.

    `end` is what it finishes with, frozen when it was first sent. `flushed`: the log has answered OK to its last row.
    """

    def __init__(self, taken: LeaseGrant, model: ModelState) -> None:
        assert taken.state is not None
        self.epoch = taken.epoch
        self.state: GenerationState = taken.state
        self.model = model
        self.rows = list(taken.rows)
        self.entries = [from_row(row) for row in taken.rows]
        self.output = Output(self.entries)
        self.first_seq = self.output.last_seq
        self.flushed = True
        self.end: Done | None = None

    @property
    def last_seq(self) -> int:
        return self.output.last_seq

    @property
    def telling(self) -> list[Entry]:
        """All that this attempt has said or will say, and what it went on from."""
        return self.entries + ([Entry(self._next_id(self.end), self.end)] if self.end else [])

    def say(self, what: list[str]) -> AppendBatch:
        """Number events like a worker: the first says that it has begun."""
        after_seq = self.last_seq
        if what and self.last_seq == self.first_seq:
            self._add(self._beginning())
        for each in what:
            self._add(self._event(each))
        return self.since(after_seq)

    def since(self, seq: int) -> AppendBatch:
        rows = [row for row in self.rows if row.seq > seq]
        return AppendBatch(self.state.record.id, self.epoch, seq, rows)

    def _add(self, event: Event) -> None:
        entry = Entry(self._next_id(event), event)
        self.entries.append(entry)
        self.rows.append(to_row(entry))
        self.output.add(entry)
        self.flushed = False

    def _next_id(self, event: Event) -> EntryId:
        return EntryId(self.epoch, self.last_seq + seq_span(event))

    def _beginning(self) -> Event:
        if self.output.next_item:
            return self.output.restarted(self.state.attempt, "worker_lost", 2.0)
        return Started(self.state.attempt, 1.0)

    def _event(self, what: str) -> Event:
        output = self.output
        if what == "item" or not output.open:
            return text_opened(output.next_item)
        item = output.open[-1]
        if what == "closed":
            return ItemClosed(next(whole for whole in output.items() if whole.item == item))
        return Text(item, f"{self.epoch}:{self.last_seq} ")


class Reader:
    """A client that follows the reader's rule: what it has, and what it was told became of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.told: str | None = None

    @property
    def cursor(self) -> EntryId:
        return self.entries[-1].id if self.entries else START

    def page(self, entries: list[Entry]) -> None:
        """What the log holds above the cursor, looked at twice."""
        if entries[0].is_contiguous_after(self.cursor):
            self.entries += entries
        else:
            self.forget()

    def forget(self) -> None:
        self.entries = []


@dataclass
class Data:
    """What a server had of the generation at some moment."""

    dumps: dict[str, tuple[bytes, int]]
    model: Model


@dataclass
class Server:
    redis: Redis
    log: Log
    do: Callable[[Coroutine[Any, Any, Any]], Any]


class GenerationMachine(RuleBasedStateMachine):
    """One generation, and everybody who has to do with it."""

    pens = Bundle("pens")
    enders = Bundle("enders")
    unheard = Bundle("unheard")
    readers = Bundle("readers")

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.redis, self._do = server.redis, server.do
        self.log = server.log
        self.record = record_of(id=new_generation_id())
        self.id = self.record.id
        self.keys = keys.of_generation(self.id)[:3]
        self.model = Model()
        self.tellings: list[Callable[[], list[Entry]]] = []
        self.following: list[Reader] = []
        self.past: list[Data] = []
        self.newest = 0
        self.names = 0

    def do(self, call: Any) -> Any:
        """Run it on the machine's own loop."""
        return self._do(call)

    def name(self) -> str:
        self.names += 1
        return f"name {self.names}"

    def teardown(self) -> None:
        self.do(self.redis.delete(*self.keys))

    # Beginning

    @initialize()
    def begin(self) -> None:
        self.create()

    @rule()
    def create(self) -> None:
        job_id = self.name()
        try:
            answer: tuple[int, str | None] | str = self.do(self.log.create(self.record, REQUEST, job_id))
        except Gone as gone:
            answer = str(gone.code)
        assert self.model.create(job_id, 0 if isinstance(answer, str) else answer[0]) == answer
        if not isinstance(answer, str):
            self.newest = max(self.newest, answer[0])
            created = [from_row(row) for row in self.model.log[:1]]
            self.tellings.append(lambda: created)

    # Taking over

    def acquire(
        self, token: str, worker: str, terminating: FinalStatus | None = None, neighbours: int = 0
    ) -> Pen | None:
        taken = self.do(self.log.acquire(self.id, token, worker=worker, neighbours=neighbours, terminating=terminating))
        assert taken.outcome is self.model.acquire(token, taken.now, worker, neighbours, terminating)
        if taken.state is None:
            return None
        assert self.model.record is not None
        assert taken.epoch == self.model.record.epoch
        assert [from_row(row) for row in taken.rows] == [from_row(row) for row in self.model.log]
        self.newest = max(self.newest, taken.epoch)
        pen = Pen(taken, self.model.record)
        self.tellings.append(lambda: pen.telling)
        return pen

    @rule(target=pens, worker=WORKERS, free=st.booleans(), neighbours=NEIGHBOURS)
    def run(self, worker: str, free: bool, neighbours: int) -> Any:
        if free:
            self.let_the_lease_pass()
        return self.acquire(self.name(), worker, neighbours=neighbours) or multiple()

    @rule(target=unheard, worker=WORKERS)
    def run_and_lose_the_answer(self, worker: str) -> tuple[str, str]:
        token = self.name()
        self.acquire(token, worker)
        return token, worker

    @rule(target=pens, asked=consumes(unheard))
    def run_by_the_same_token(self, asked: tuple[str, str]) -> Any:
        return self.acquire(*asked) or multiple()

    @rule(target=enders, status=STATUSES)
    def begin_to_end(self, status: FinalStatus) -> Any:
        return self.acquire(self.name(), "", status) or multiple()

    @rule(status=STATUSES)
    def cancel(self, status: FinalStatus) -> None:
        if pen := self.acquire(self.name(), "", status):
            assert self.finish_with(pen, status).outcome is Outcome.OK

    # Writing

    def append(self, pen: Pen, call: AppendBatch) -> AppendResult:
        answer: AppendResult = self.do(self.log.append([call]))[0]
        assert answer == self.model.append(call)
        if answer.outcome is Outcome.OK and call.rows:
            pen.flushed = True
        return answer

    @rule(pen=pens, what=WHAT_IS_SAID, heals=st.booleans())
    def write(self, pen: Pen, what: list[str], heals: bool) -> None:
        assume(pen.end is None)
        answer = self.append(pen, pen.say(what))
        if heals and answer.outcome is Outcome.BEHIND:
            assert self.append(pen, pen.since(answer.seq)).outcome is Outcome.OK
        if heals and answer.outcome is Outcome.UNKNOWN and self.restore(pen) is Outcome.OK:
            assert self.append(pen, pen.since(pen.last_seq)) == AppendResult(Outcome.OK, pen.last_seq)

    @rule(pen=pens, what=WHAT_IS_SAID)
    def number_and_not_send(self, pen: Pen, what: list[str]) -> None:
        assume(pen.end is None)
        pen.say(what)

    @rule(pen=pens, place=st.integers(0, 30))
    def write_again(self, pen: Pen, place: int) -> None:
        self.append(pen, pen.since(pen.entries[place % len(pen.entries)].id.seq))

    @rule(pen=pens, neighbours=NEIGHBOURS)
    def renew(self, pen: Pen, neighbours: int) -> None:
        answer = self.do(self.log.renew([(self.id, pen.epoch, False)], neighbours=neighbours))
        assert answer == [self.model.renew(pen.epoch, neighbours)]

    @rule(pen=pens)
    def release(self, pen: Pen) -> None:
        job_id = self.name()
        for _ in range(2):
            answer = self.do(self.log.release(self.id, pen.epoch, job_id))
            assert answer is self.model.requeue(pen.epoch, job_id, expired=False)

    @rule(pen=consumes(pens))
    def crash(self, pen: Pen) -> None:
        """Its worker forgets it; what was sent was sent."""

    # Ending

    def finish_with(self, pen: Pen, status: FinalStatus) -> AppendResult:
        pen.end = pen.end or pen.output.build_done(status, 9.5)
        answer: AppendResult = self.do(self.log.finish(self.id, pen.epoch, pen.last_seq, pen.end))
        assert answer == self.model.finish(pen.epoch, pen.last_seq, pen.end.status, to_row(pen.telling[-1]))
        return answer

    @rule(pen=st.one_of(pens, enders), status=STATUSES)
    def finish(self, pen: Pen, status: FinalStatus) -> None:
        assume(pen.flushed)
        self.finish_with(pen, status)

    # What befalls it

    @rule()
    def let_the_lease_pass(self) -> None:
        if self.model.record:
            self.do(self.redis.execute_command("HSET", self.keys[0], "lease", 1))
        self.model.lose_the_lease()

    @rule(how=st.sampled_from(["delete", "expire", "lose"]))
    def vanish(self, how: str) -> None:
        match how:
            case "delete":
                assert self.do(self.log.delete(self.id)) is self.model.delete()
            case "expire":
                self.do(self.redis.delete(*self.keys[:2]))
                self.model.expire()
            case _:
                self.come_back(Data({}, Model()))

    @rule(steps=st.integers(1, 25))
    def come_back_with_older_data(self, steps: int) -> None:
        self.come_back(self.past[-min(steps, len(self.past))])

    def come_back(self, data: Data) -> None:
        self.do(self.redis.delete(*self.keys))
        for key, (dump, life) in data.dumps.items():
            self.do(self.redis.restore(key, life, dump))
        self.model = data.model.copy()
        while self.do(self.log.server.now()) <= self.newest:
            self.do(asyncio.sleep(0.001))

    # What is done about it

    @precondition(lambda self: self.model.record)
    @rule(late=st.booleans(), spared=st.booleans())
    def sweep(self, late: bool, spared: bool) -> None:
        """A sweeper that looked a moment ago finds what has changed since."""
        assert self.model.record is not None
        epoch, job_id = self.model.record.epoch - late, self.name()
        answer = self.do(self.log.requeue_expired(self.id, epoch, job_id, spared=spared))
        assert answer is self.model.requeue(epoch, job_id, expired=True, spared=spared)

    @rule(pen=pens)
    def heal(self, pen: Pen) -> None:
        self.restore(pen)

    def restore(self, pen: Pen) -> Outcome:
        answer: Outcome = self.do(self.log.restore(pen.state, REQUEST, pen.rows))
        assert answer is self.model.restore(pen.model, pen.rows)
        return answer

    # Reading

    @rule()
    def somebody_reads(self) -> None:
        self.do(self.log.touch_presence([self.id]))
        self.model.seen()

    @rule(place=st.integers(-1, 30), up=st.integers(-1, 1), limit=st.integers(1, 50))
    def read_from_any_cursor(self, place: int, up: int, limit: int) -> None:
        rows = self.model.log
        row = rows[place % len(rows)].id if rows and place >= 0 else START
        cursor = EntryId(max(row.epoch + up, 0), max(row.seq, 0))
        expected = [from_row(row) for row in rows if row.id > cursor]
        assert self.do(entries_of(self.log, self.id, cursor, limit)) == expected[:limit]

    @rule(target=readers)
    def come_to_read(self) -> Reader:
        self.following.append(reader := Reader())
        return reader

    @rule(reader=readers, limit=st.integers(1, 5), has_waited=st.booleans())
    def follow(self, reader: Reader, limit: int, has_waited: bool) -> None:
        if reader.told:
            return
        if entries := self.do(entries_of(self.log, self.id, reader.cursor, limit)):
            reader.page(entries)
        else:
            self.look(reader, has_waited)

    def look(self, reader: Reader, has_waited: bool) -> None:
        """Nothing follows: it has ended, vanished, lies behind, or waits for more."""
        try:
            state = self.do(self.log.state(self.id))
        except (NotFound, Gone) as error:
            if has_waited or error.code == "deleted":
                reader.told = "gone"
            return
        if reader.cursor.seq > state.seq or reader.cursor.epoch > state.epoch:
            if has_waited:
                reader.forget()
        elif state.is_final and reader.cursor.seq == state.seq:
            reader.told = "ended"
            assert reader.entries == [from_row(row) for row in self.model.log]

    # The promises

    @invariant()
    def a_server_may_come_back_with_this(self) -> None:
        if not self.past or self.past[-1].model != self.model:
            self.past.append(Data(self.do(self.dumps()), self.model.copy()))

    async def dumps(self) -> dict[str, tuple[bytes, int]]:
        pipe = self.redis.pipeline(transaction=False)
        for key in self.keys:
            pipe.dump(key)
            pipe.pttl(key)
        answers = await pipe.execute()
        return {k: (d, t) for k, d, t in zip(self.keys, answers[::2], answers[1::2], strict=True) if d is not None}

    @invariant()
    def the_server_holds_what_the_model_holds(self) -> None:
        (state,) = self.do(self.log.states([self.id]))
        assert (as_model(state, self.model.record) if state else None) == self.model.record
        assert self.do(self.redis.xrange(self.keys[1])) == [as_stored(row) for row in self.model.log]
        tombstone = self.do(self.redis.execute_command("HGETALL", self.keys[2]))
        assert bool(tombstone) == (self.model.tombstone != "none")
        assert (b"deleted" in tombstone) == (self.model.tombstone == "deleted")

    @invariant()
    def ids_grow_and_numbers_are_dense(self) -> None:
        entries = self.entries()
        assert not entries or entries[0].is_contiguous_after(START)
        assert all(after.id > before.id and after.is_contiguous_after(before.id) for before, after in pairwise(entries))

    @invariant()
    def there_is_one_end_and_it_is_last_and_tells_the_log(self) -> None:
        entries = self.entries()
        assert not any(isinstance(entry.event, Done) for entry in entries[:-1])
        if entries and isinstance(done := entries[-1].event, Done):
            assert done == Output(entries[:-1]).build_done(done.status, done.at)

    @invariant()
    def every_key_has_a_ttl(self) -> None:
        assert -1 not in [self.do(self.redis.pttl(key)) for key in self.keys]

    @invariant()
    def the_log_and_what_each_reader_has_is_the_beginning_of_what_one_attempt_told(self) -> None:
        for told in [self.entries(), *(reader.entries for reader in self.following)]:
            assert not told or any(telling()[: len(told)] == told for telling in self.tellings)

    def entries(self) -> list[Entry]:
        return [from_row(row) for row in self.model.log]


def as_model(state: GenerationState, model: ModelState | None) -> ModelState:
    """What of a real head the model knows; a token is never shown."""
    same = {name: getattr(state, name) for name in ("epoch", "job_id", "seq", "status", "attempt", "worker")}
    more = {name: getattr(state, name) for name in ("terminating", "handovers", "spared", "neighbours")}
    token = model.token if model else None
    return ModelState(**same, **more, token=token, held=state.lease > 1, seen=state.seen > 0)


def as_stored(row: Row) -> tuple[bytes, dict[bytes, bytes]]:
    return str(row.id).encode(), {row.field.encode(): row.value.encode()}


@pytest.fixture
def server(valkey: EmbeddedServer) -> Iterator[Server]:
    redis = connect(valkey.url)
    with asyncio.Runner() as runner:
        yield Server(redis, Log(RedisServer(redis), LEASE_MS), runner.run)
        runner.run(redis.aclose())


QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


@pytest.mark.timeout(3600 if LONG else 120)
def test_the_scripts_do_what_their_model_does(server: Server) -> None:
    machine: Any = lambda: GenerationMachine(server)  # noqa: E731 - a factory serves where a class is asked for
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=QUIET),
    )
