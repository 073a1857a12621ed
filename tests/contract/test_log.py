"""What `tailrace.log` promises, on a real server: the seven promises by name, then every answer of every script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from conftest import LEASE_MS
from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from tailrace import keys
from tailrace.errors import Gone, NotFound
from tailrace.events import (
    Created,
    Done,
    Entry,
    Event,
    Extra,
    FinalStatus,
    GenerationRecord,
    Options,
    Started,
    Text,
    seq_span,
)
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import log as log_module
from tailrace.log.codec import Row, from_row, to_row, unpack
from tailrace.log.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome, page_size
from tailrace.log.output import Output
from tailrace.log.state import ABANDONED_MS, GenerationState
from tailrace.redis.subscriber import Subscriber

DEADLINE_MS = RETENTION_MS = 3_600_000
DAY_MS = 86_400_000
SLACK_MS = 30_000  # what a slow machine may take between a call and a look at what it left


class Pen:
    """One attempt's hand on a log: numbers events as a worker does, and keeps every row."""

    def __init__(self, log: Log, taken: LeaseGrant) -> None:
        assert taken.state is not None
        self.log = log
        self.state: GenerationState = taken.state
        self.generation_id = self.state.record.id
        self.epoch = taken.epoch
        self.last_seq = self.state.seq
        self.rows = list(taken.rows)

    @property
    def entries(self) -> list[Entry]:
        return [from_row(row) for row in self.rows]

    def number(self, *events: Event) -> AppendBatch:
        """The call that adds these."""
        after_seq, before = self.last_seq, len(self.rows)
        for event in events:
            self.last_seq += seq_span(event)
            self.rows.append(to_row(Entry(EntryId(self.epoch, self.last_seq), event)))
        return AppendBatch(self.generation_id, self.epoch, after_seq, self.rows[before:])

    def since(self, seq: int) -> AppendBatch:
        """The call that adds all above a number once more."""
        return AppendBatch(self.generation_id, self.epoch, seq, [row for row in self.rows if row.seq > seq])

    async def send(self, call: AppendBatch) -> AppendResult:
        (answer,) = await self.log.append([call])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def write(self, *events: Event) -> AppendBatch:
        call = self.number(*events)
        assert await self.send(call) == AppendResult(Outcome.OK, self.last_seq)
        return call

    async def finish(self, status: FinalStatus = "completed") -> AppendResult:
        return await self.log.finish(self.generation_id, self.epoch, self.last_seq, self.done(status))

    def done(self, status: FinalStatus = "completed") -> Done:
        return Output(self.entries).build_done(status, 1.5)


STARTED = Started(1, 0.25)
ANSWER = (STARTED, text_opened(), *texts("Once| upon| a| time"))


async def begin(log: Log, **changes: Any) -> str:
    record = record_of(id=new_generation_id(), **changes)
    await log.create(record, REQUEST, "the first dispatch")
    return record.id


async def take(log: Log, generation_id: str, token: str, **purpose: Any) -> Pen:
    taken = await log.acquire(generation_id, token, **purpose)
    assert taken.outcome is Outcome.OK
    return Pen(log, taken)


async def read_all(log: Log, generation_id: str, after: EntryId = START) -> list[Entry]:
    return [entry async for entry in log.read_all(generation_id, after)]


async def stored(redis: Redis, generation_id: str) -> list[Any]:
    """The log as it lies in Redis, byte for byte."""
    rows: list[Any] = await redis.xrange(keys.log(generation_id))
    return rows


async def expire(redis: Redis, generation_id: str) -> None:
    """What Redis does when the retention is over."""
    await redis.delete(keys.state(generation_id), keys.log(generation_id))


async def lose(redis: Redis, generation_id: str) -> None:
    """What is left of a generation when a server comes back with nothing."""
    await redis.delete(*keys.of_generation(generation_id))


async def let_the_lease_pass(redis: Redis, generation_id: str) -> None:
    await redis.execute_command("HSET", keys.state(generation_id), "lease", 1)


async def lives(redis: Redis, generation_id: str) -> list[int]:
    """ms that head, log and tombstone still have; -1 is for ever, -2 is not there."""
    return [await redis.pttl(name) for name in keys.of_generation(generation_id)[:3]]


class OlderData:
    """A server that comes back with what it had a moment ago."""

    @classmethod
    async def of(cls, redis: Redis, generation_id: str) -> "OlderData":
        data = cls()
        data.redis = redis
        data.dumps = {name: await redis.dump(name) for name in keys.of_generation(generation_id)[:3]}
        return data

    redis: Redis
    dumps: dict[str, Any]

    async def come_back(self) -> None:
        for name, dump in self.dumps.items():
            await self.redis.restore(name, DEADLINE_MS, dump, replace=True)


@pytest.fixture
async def generation_id(log: Log) -> str:
    return await begin(log)


@pytest.fixture
async def pen(log: Log, generation_id: str) -> Pen:
    return await take(log, generation_id, "one", worker="first")


@pytest.fixture
async def full(redis: Redis) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A call that fills the server's memory."""

    async def fill() -> None:
        await redis.config_set("maxmemory", 1)

    yield fill
    await redis.config_set("maxmemory", 0)


# The seven promises


async def test_ordered_ids_grow_and_numbers_are_dense_across_attempts(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    await let_the_lease_pass(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="second")
    await later.write(Output(later.entries).restarted(2, "worker_lost", 2.0), text_opened(1), *texts("Anew|.", 1))
    assert (await later.finish()).outcome is Outcome.OK
    entries = await read_all(log, pen.generation_id)
    assert len(entries) == 12
    assert entries[0].id.seq == entries[0].seq_span - 1
    assert all(after.is_contiguous_after(before.id) and after.id > before.id for before, after in pairwise(entries))


async def test_immutable_no_call_changes_an_entry(log: Log, redis: Redis, pen: Pen) -> None:
    call = await pen.write(*ANSWER)
    before = await stored(redis, pen.generation_id)
    forged = [row._replace(value="other", extra='{"chunk_fields":{}}') for row in call.rows]
    assert (await pen.send(call._replace(rows=forged))).outcome is Outcome.OK
    await log.renew([(pen.generation_id, pen.epoch, False)])
    await log.touch_presence([pen.generation_id])
    await log.release(pen.generation_id, pen.epoch, "another dispatch")
    await log.create(record_of(id=pen.generation_id, model="other"), REQUEST, "a third dispatch")
    await log.restore(pen.state, REQUEST, pen.rows[:2])
    ender = await take(log, pen.generation_id, "end", terminating="cancelled")
    await ender.finish("cancelled")
    assert (await stored(redis, pen.generation_id))[:-1] == before


@pytest.mark.parametrize("finishers", [2, 8, 40])
@pytest.mark.parametrize("by", ["one attempt", "attempts of their own"])
async def test_finite_of_all_who_race_for_it_one_writes_the_done(log: Log, pen: Pen, finishers: int, by: str) -> None:
    await pen.write(*ANSWER)
    statuses: list[FinalStatus] = ["completed", "cancelled", "failed", "incomplete"]

    async def finish(number: int) -> Outcome:
        status = statuses[number % 4]
        if by == "one attempt":
            return (await pen.finish(status)).outcome
        taken = await log.acquire(pen.generation_id, f"ender {number}", terminating=status)
        return (await Pen(log, taken).finish(status)).outcome if taken.state else taken.outcome

    outcomes = await asyncio.gather(*map(finish, range(finishers)))
    assert outcomes.count(Outcome.OK) == 1
    assert set(outcomes) <= {Outcome.OK, Outcome.DONE, Outcome.FENCED}
    entries = await read_all(log, pen.generation_id)
    assert [isinstance(entry.event, Done) for entry in entries] == [False] * 7 + [True]
    state = await log.state(pen.generation_id)
    assert isinstance(done := entries[-1].event, Done)
    assert (state.status, state.position, state.is_final) == (done.status, entries[-1].id, True)
    assert done.status == statuses[outcomes.index(Outcome.OK) % 4]


async def test_finite_nothing_follows_the_done(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    await pen.finish()
    before = await stored(redis, pen.generation_id)
    await pen.send(pen.number(Text(0, "more")))
    await pen.finish("failed")
    await log.acquire(pen.generation_id, "two")
    await log.acquire(pen.generation_id, "three", terminating="cancelled")
    assert await stored(redis, pen.generation_id) == before


@pytest.mark.parametrize("terminating", [None, "cancelled"])
async def test_one_writer_a_zombie_is_refused_everything(
    log: Log, redis: Redis, pen: Pen, terminating: FinalStatus | None
) -> None:
    await pen.write(STARTED)
    await let_the_lease_pass(redis, pen.generation_id)
    await log.acquire(pen.generation_id, "two", worker="second", terminating=terminating)
    before = await stored(redis, pen.generation_id), await log.state(pen.generation_id)
    assert (await pen.finish()).outcome is Outcome.FENCED
    assert (await pen.send(pen.number(text_opened()))).outcome is Outcome.FENCED
    assert await log.renew([(pen.generation_id, pen.epoch, False)]) == [Outcome.FENCED]
    assert await log.release(pen.generation_id, pen.epoch, "another dispatch") is Outcome.FENCED
    assert await log.requeue_expired(pen.generation_id, pen.epoch, "another dispatch") is Outcome.FENCED
    assert (await stored(redis, pen.generation_id), await log.state(pen.generation_id)) == before


async def test_exactly_once_every_call_may_be_sent_twice(log: Log, redis: Redis) -> None:
    """The story of a generation, told twice, each call once and each call twice, comes to the same."""

    async def told(times: int) -> list[tuple[int, str, str]]:
        record = record_of(id=new_generation_id())
        for _ in range(times):
            await log.create(record, REQUEST, "the first dispatch")
        for _ in range(times):
            pen = await take(log, record.id, "one", worker="first")
        call = pen.number(*ANSWER)
        for _ in range(times):
            assert await pen.send(call) == AppendResult(Outcome.OK, pen.last_seq)
        for _ in range(times):
            assert await log.release(record.id, pen.epoch, "another dispatch") is Outcome.OK
        for _ in range(times):
            later = await take(log, record.id, "two", worker="second")
        call = later.number(Output(later.entries).restarted(2, "drained", 2.0))
        for _ in range(times):
            await later.send(call)
        for _ in range(times):
            await later.finish()
        state = await log.state(record.id)
        assert (state.attempt, state.handovers, state.tries) == (2, 1, 1)
        return [
            (entry.id.seq, to_row(entry).field, type(entry.event).__name__) for entry in await read_all(log, record.id)
        ]

    assert await told(3) == await told(1)


async def test_exactly_once_of_rows_that_are_partly_known_the_rest_is_added(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(STARTED, text_opened())
    pen.number(*texts("Once| upon"))
    assert await pen.send(pen.since(0)) == AppendResult(Outcome.OK, pen.last_seq)
    assert await read_all(log, pen.generation_id) == pen.entries


async def test_exactly_once_two_copies_of_a_call_at_the_same_time(log: Log, pen: Pen) -> None:
    call = pen.number(*ANSWER)
    answers = await asyncio.gather(*(pen.send(call) for _ in range(10)))
    assert answers == [AppendResult(Outcome.OK, pen.last_seq)] * 10
    assert await read_all(log, pen.generation_id) == pen.entries


async def test_resumable_reading_after_any_cursor_yields_what_follows(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    await let_the_lease_pass(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="second")
    await later.write(Output(later.entries).restarted(2, "worker_lost", 2.0), text_opened(1))
    await later.finish()
    entries = await read_all(log, pen.generation_id)
    epochs = sorted({entry.id.epoch for entry in entries})
    assert len(epochs) == 3
    cursors = [EntryId(epoch, seq) for epoch in [1, *epochs, epochs[-1] + 1] for seq in range(entries[-1].id.seq + 2)]
    for cursor in [START, *cursors]:
        rest = [entry for entry in entries if entry.id > cursor]
        assert await log.read(pen.generation_id, cursor) == rest
        assert await read_all(log, pen.generation_id, cursor) == rest
        assert [entry async for entry in log.tail(pen.generation_id, cursor)] == rest


async def test_resumable_a_long_log_is_read_in_pages(log: Log, pen: Pen) -> None:
    await pen.write(STARTED, text_opened(), *(Text(0, f" {seq}") for seq in range(3000)), Text(0, "x" * 200_000))
    await pen.write(*(Text(0, "y" * 30_000) for _ in range(40)))
    assert await read_all(log, pen.generation_id) == pen.entries
    assert await log.read(pen.generation_id, pen.entries[9].id, 5) == pen.entries[10:15]


async def test_resumable_tail_goes_on_until_the_end(log: Log, pen: Pen) -> None:
    told: asyncio.Queue[Entry] = asyncio.Queue()

    async def follow() -> None:
        async for entry in log.tail(pen.generation_id):
            told.put_nowait(entry)

    async with asyncio.timeout(10), asyncio.TaskGroup() as readers:
        readers.create_task(follow())
        assert isinstance((await told.get()).event, Created)
        for event in ANSWER:
            await pen.write(event)
            assert (await told.get()).event == event
        await pen.finish()
        assert (await told.get()).event == pen.done()
    assert told.empty()


async def test_resumable_tail_that_starts_at_the_end_ends_at_once(log: Log, pen: Pen) -> None:
    await pen.write(*ANSWER)
    await pen.finish()
    position = (await log.state(pen.generation_id)).position
    async with asyncio.timeout(log_module.BLOCK_MS / 1000 / 2):
        assert [entry async for entry in log.tail(pen.generation_id, position)] == []
        assert (
            len([entry async for entry in log.tail(pen.generation_id, EntryId(position.epoch, position.seq - 1))]) == 1
        )


async def test_resumable_tail_does_not_miss_an_end_that_comes_while_it_looks(
    log: Log, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `done` is written after a read found nothing, and before the head is looked at."""
    await pen.write(*ANSWER)
    look = log.state

    async def end_and_look(generation_id: str, owner: str | None = None) -> GenerationState:
        await pen.finish()
        return await look(generation_id, owner)

    monkeypatch.setattr(log, "state", end_and_look)
    monkeypatch.setattr(log_module, "BLOCK_MS", 10)
    events = [entry.event async for entry in log.tail(pen.generation_id)]
    assert events[1:] == [*ANSWER, pen.done()]


async def test_resumable_tail_of_a_log_that_vanishes_says_so(
    log: Log, redis: Redis, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "BLOCK_MS", 10)
    entries = log.tail(pen.generation_id)
    assert isinstance((await anext(entries)).event, Created)
    await log.delete(pen.generation_id)
    with pytest.raises(Gone) as gone:
        await anext(entries)
    assert gone.value.code == "deleted"


async def test_honest_what_never_existed_is_not_found(log: Log) -> None:
    with pytest.raises(NotFound):
        await log.state(new_generation_id(), "anna")
    with pytest.raises(NotFound):
        await anext(log.tail(new_generation_id()))
    assert await log.read(new_generation_id()) == []
    assert await log.done_entry(new_generation_id()) is None


@pytest.mark.parametrize("fate", ["kept", "deleted", "expired"])
async def test_honest_what_is_somebody_elses_is_not_found_whatever_became_of_it(
    log: Log, redis: Redis, generation_id: str, fate: str
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    elif fate == "expired":
        await expire(redis, generation_id)
    with pytest.raises(NotFound):
        await log.state(generation_id, "bob")


@pytest.mark.parametrize("owner", ["anna", None])
@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_honest_what_is_no_longer_kept_is_gone_and_why(
    log: Log, redis: Redis, generation_id: str, fate: str, owner: str | None
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await expire(redis, generation_id)
    with pytest.raises(Gone) as gone:
        await log.state(generation_id, owner)
    assert gone.value.code == fate


# create


async def test_create_begins_the_log_with_one_entry_by_redis_clock(log: Log, redis: Redis) -> None:
    before = await log.now()
    record = record_of(id=new_generation_id(), background=True)
    request = {"messages": "naïve \u2028 \x00"}
    created = await log.create(record, request, "the first dispatch")
    assert before <= created <= await log.now()
    state = await log.state(record.id, "anna")
    assert state == GenerationState(
        GenerationRecord(**{name: getattr(record, name) for name in GenerationRecord.__struct_fields__} | {"created":
        created}), status="queued", epoch=created, attempt=0, seq=1, lease=0, deadline=created + DEADLINE_MS,
        job_id="the first dispatch",
    )  # fmt: skip
    assert await log.request(record.id) == request
    assert await log.read(record.id) == [Entry(EntryId(created, 1), Created(created / 1000, queued=True))]


async def test_request_is_stored_beside_the_state_and_restored_with_it(log: Log) -> None:
    record, request = record_of(id=new_generation_id()), {"messages": ["x" * 100_000]}
    await log.create(record, request, "job_id")
    assert await log.states([record.id]) == [await log.state(record.id)]
    taken = await log.acquire(record.id, "token", worker="w")
    assert taken.state is not None
    assert taken.request == await log.request(record.id) == request
    await log.redis.delete(*keys.of_generation(record.id))
    with pytest.raises(NotFound):
        await log.request(record.id)
    assert await log.restore(taken.state, taken.request, taken.rows) is Outcome.OK
    assert (await log.state(record.id)).record == taken.state.record
    assert await log.request(record.id) == request


async def test_request_of_a_deleted_generation_is_gone(log: Log, generation_id: str) -> None:
    await log.delete(generation_id)
    with pytest.raises(Gone):
        await log.request(generation_id)


async def test_create_again_answers_the_same_time_and_changes_nothing(log: Log, redis: Redis) -> None:
    record = record_of(id=new_generation_id())
    created = await log.create(record, REQUEST, "the first dispatch")
    before = await stored(redis, record.id), await log.state(record.id)
    pen = await take(log, record.id, "one")
    assert await log.create(record, REQUEST, "another dispatch") == created
    await pen.finish()
    assert await log.create(record, REQUEST, "another dispatch") == created
    assert (await stored(redis, record.id))[:1] == before[0]
    assert (await log.state(record.id)).job_id == "the first dispatch"


@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_create_of_what_is_no_longer_kept_is_gone(log: Log, redis: Redis, generation_id: str, fate: str) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await expire(redis, generation_id)
    with pytest.raises(Gone) as gone:
        await log.create(record_of(id=generation_id), REQUEST, "another dispatch")
    assert gone.value.code == fate
    assert not await redis.exists(keys.state(generation_id), keys.log(generation_id))


async def test_create_out_of_memory_is_refused_and_leaves_nothing(
    log: Log, redis: Redis, full: Callable[[], Awaitable[None]]
) -> None:
    await full()
    with pytest.raises(OutOfMemoryError):
        await begin(log)
    assert await redis.dbsize() == 0


# acquire


async def test_acquire_answers_head_rows_and_redis_time(log: Log, generation_id: str) -> None:
    before = await log.now()
    taken = await log.acquire(generation_id, "one", worker="first")
    assert before <= taken.now <= await log.now()
    state = await log.state(generation_id)
    assert taken == LeaseGrant(Outcome.OK, state.epoch, taken.now, state, taken.rows, REQUEST)
    assert [from_row(row) for row in taken.rows] == await log.read(generation_id)
    assert (state.status, state.attempt, state.worker) == ("running", 1, "first")
    assert state.epoch == max(taken.now, state.record.created + 1)
    assert state.lease == taken.now + LEASE_MS


async def test_acquire_notes_where_each_run_began(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    await let_the_lease_pass(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="second")
    assert later.state.attempt == 2


async def test_acquire_by_the_same_token_is_the_same_answer(log: Log, generation_id: str) -> None:
    first = await log.acquire(generation_id, "one", worker="first")
    again = await log.acquire(generation_id, "one", worker="first")
    assert again == first._replace(now=again.now)


async def test_acquire_is_refused_while_another_workers_lease_lives(log: Log, redis: Redis, pen: Pen) -> None:
    assert await log.acquire(pen.generation_id, "two", worker="second") == LeaseGrant(Outcome.HELD)
    assert (await pen.finish()).outcome is Outcome.OK


async def test_acquire_by_the_worker_that_holds_it_is_granted(log: Log, pen: Pen) -> None:
    assert (await take(log, pen.generation_id, "two", worker="first")).epoch > pen.epoch


async def test_acquire_is_granted_once_the_lease_has_expired(log: Log, redis: Redis, pen: Pen) -> None:
    await let_the_lease_pass(redis, pen.generation_id)
    assert (await take(log, pen.generation_id, "two", worker="second")).epoch > pen.epoch


async def test_acquire_to_end_is_never_refused(log: Log, pen: Pen) -> None:
    one = await take(log, pen.generation_id, "end one", terminating="cancelled")
    two = await take(log, pen.generation_id, "end two", terminating="failed")
    assert pen.epoch < one.epoch < two.epoch
    assert (two.state.terminating, two.state.worker, two.state.attempt) == ("failed", "first", 1)


async def test_acquire_to_run_is_refused_once_an_end_was_begun(log: Log, redis: Redis, pen: Pen) -> None:
    await take(log, pen.generation_id, "end", terminating="cancelled")
    await let_the_lease_pass(redis, pen.generation_id)
    assert await log.acquire(pen.generation_id, "two", worker="second") == LeaseGrant(Outcome.TERMINATING)


@pytest.mark.parametrize("terminating", [None, "failed"])
@pytest.mark.parametrize(
    ("fate", "outcome"),
    [("finished", Outcome.DONE), ("deleted", Outcome.GONE), ("expired", Outcome.UNKNOWN), ("lost", Outcome.UNKNOWN)],
)
async def test_acquire_of_what_is_not_there_to_be_written(
    log: Log, redis: Redis, pen: Pen, fate: str, outcome: Outcome, terminating: FinalStatus | None
) -> None:
    await befall(fate, log, redis, pen)
    assert await log.acquire(pen.generation_id, "two", terminating=terminating) == LeaseGrant(outcome)


async def test_acquire_attempts_grow_even_if_the_clock_went_back(log: Log, redis: Redis, pen: Pen) -> None:
    future = pen.epoch + 10 * DAY_MS
    await redis.execute_command("HSET", keys.state(pen.generation_id), "epoch", future)
    later = await take(log, pen.generation_id, "two", worker="first")
    assert later.epoch == future + 1
    await later.write(STARTED)
    assert (await log.read(pen.generation_id))[-1].id == EntryId(future + 1, 1)


# append


async def test_append_adds_rows_and_leaves_the_lease_to_its_timer(log: Log, pen: Pen) -> None:
    await pen.write(*ANSWER)
    state = await log.state(pen.generation_id)
    assert await read_all(log, pen.generation_id) == pen.entries
    assert (state.position, state.epoch) == (EntryId(pen.epoch, pen.last_seq), pen.epoch)
    assert state.lease == pen.state.lease


async def test_append_keeps_what_else_an_entry_has(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(STARTED, text_opened())
    entry = Entry(EntryId(pen.epoch, pen.last_seq + 1), Text(0, ""), Extra(chunk_fields={"x": "ü\x00"}, before=2))
    call = AppendBatch(pen.generation_id, pen.epoch, pen.last_seq, [to_row(entry)])
    assert (await pen.send(call)).outcome is Outcome.OK
    assert (await log.read(pen.generation_id))[-1] == entry
    assert (await stored(redis, pen.generation_id))[-1][1] == {
        b"text:0": b"",
        b"extra": '{"chunk_fields":{"x":"ü\\u0000"},"before":2}'.encode(),
    }


async def befall(fate: str, log: Log, redis: Redis, pen: Pen) -> None:
    match fate:
        case "finished":
            await pen.finish()
        case "deleted":
            await log.delete(pen.generation_id)
        case "expired":
            await expire(redis, pen.generation_id)
        case "lost":
            await lose(redis, pen.generation_id)
        case "taken over":
            await take(log, pen.generation_id, "end", terminating="cancelled")
        case "taken over and finished":
            ender = await take(log, pen.generation_id, "end", terminating="cancelled")
            await ender.finish("cancelled")


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        ("deleted", Outcome.GONE),
        ("expired", Outcome.UNKNOWN),
        ("lost", Outcome.UNKNOWN),
        ("taken over", Outcome.FENCED),
        ("taken over and finished", Outcome.FENCED),
    ],
)
async def test_append_to_what_it_may_not_write(log: Log, redis: Redis, pen: Pen, fate: str, outcome: Outcome) -> None:
    await pen.write(STARTED)
    await befall(fate, log, redis, pen)
    before = await stored(redis, pen.generation_id)
    assert await pen.send(pen.number(text_opened())) == AppendResult(outcome)
    assert await stored(redis, pen.generation_id) == before


async def test_append_to_what_has_ended_answers_the_end(log: Log, pen: Pen) -> None:
    await pen.write(*ANSWER)
    done = to_row(Entry(EntryId(pen.epoch, pen.last_seq + seq_span(pen.done())), pen.done()))
    await pen.finish()
    assert await pen.send(pen.number(Text(0, "more"))) == AppendResult(Outcome.DONE, done=done)


@pytest.mark.parametrize("missing", [1, 2])
async def test_append_behind_the_log_is_healed_by_sending_again(log: Log, redis: Redis, pen: Pen, missing: int) -> None:
    """The server comes back with what it had before the last appends."""
    await pen.write(STARTED, text_opened())
    older, last_seq = await OlderData.of(redis, pen.generation_id), pen.last_seq
    await pen.write(*texts("Once| upon"))
    expected = await stored(redis, pen.generation_id)
    await older.come_back()
    pen.number(Text(0, " a"))
    assert await pen.send(pen.since(last_seq + missing)) == AppendResult(Outcome.BEHIND, last_seq)
    assert await pen.send(pen.since(last_seq)) == AppendResult(Outcome.OK, pen.last_seq)
    assert (await stored(redis, pen.generation_id))[:-1] == expected
    assert await read_all(log, pen.generation_id) == pen.entries


async def test_append_finish_and_renew_under_an_attempt_that_the_server_has_lost_are_refused(
    log: Log, redis: Redis, pen: Pen
) -> None:
    """The server comes back with what it had before this attempt, whose numbers others may have used since."""
    await pen.write(*ANSWER)
    older = await OlderData.of(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="first")
    await later.write(text_opened(1))
    await older.come_back()
    for last_seq in (pen.last_seq, pen.last_seq + 1):
        assert await later.send(later.since(last_seq - 1)) == AppendResult(Outcome.UNKNOWN)
        assert await later.finish() == AppendResult(Outcome.UNKNOWN)
        assert await log.renew([(pen.generation_id, later.epoch, False)]) == [Outcome.UNKNOWN]
        await pen.write(Text(0, "!"))
    assert await read_all(log, pen.generation_id) == pen.entries


async def test_append_out_of_memory_is_refused_and_every_way_to_an_end_is_not(
    log: Log, redis: Redis, pen: Pen, full: Callable[[], Awaitable[None]]
) -> None:
    await pen.write(*ANSWER)
    other = await take(log, await begin(log), "one", worker="first")
    await full()
    (refused,) = await log.append([pen.number(Text(0, "more"))])
    assert isinstance(refused, OutOfMemoryError)
    assert await log.renew([(pen.generation_id, pen.epoch, False)]) == [Outcome.OK]
    await log.touch_presence([pen.generation_id])
    assert await log.release(other.generation_id, other.epoch, "another dispatch") is Outcome.OK
    ender = await take(log, pen.generation_id, "end", terminating="failed")
    assert (await ender.finish("failed")).outcome is Outcome.OK
    assert (await log.state(pen.generation_id)).status == "failed"
    assert await log.delete(pen.generation_id) is Outcome.OK


async def test_append_to_many_logs_fails_for_the_one_that_is_broken_alone(log: Log, redis: Redis) -> None:
    pens = [await take(log, await begin(log), "one") for _ in range(3)]
    await redis.set(keys.log(pens[1].generation_id), "no stream")
    first, broken, last = await log.append([pen.number(STARTED) for pen in pens])
    assert isinstance(broken, ResponseError)
    assert first == last == AppendResult(Outcome.OK, 1)


async def test_append_to_none_asks_nobody(log: Log) -> None:
    assert await log.append([]) == []
    assert await log.renew([]) == []


# renew, seen, release, requeue_expired


async def test_renew_prolongs_the_lease(log: Log, redis: Redis, pen: Pen) -> None:
    await let_the_lease_pass(redis, pen.generation_id)
    before = await log.now()
    assert await log.renew([(pen.generation_id, pen.epoch, False)]) == [Outcome.OK]
    assert before + LEASE_MS <= (await log.state(pen.generation_id)).lease <= await log.now() + LEASE_MS


RENEWALS = [
    ("nothing", Outcome.OK),
    ("taken over", Outcome.FENCED),
    ("finished", Outcome.DONE),
    ("lost", Outcome.UNKNOWN),
    ("expired", Outcome.UNKNOWN),
    ("deleted", Outcome.GONE),
]


async def test_renew_answers_for_each_what_befell_it(log: Log, redis: Redis) -> None:
    pens = [await take(log, await begin(log), "one") for _ in RENEWALS]
    for pen, (fate, _) in zip(pens, RENEWALS, strict=True):
        await befall(fate, log, redis, pen)
    answers = await log.renew([(pen.generation_id, pen.epoch, False) for pen in pens])
    assert answers == [outcome for _, outcome in RENEWALS]
    assert not await redis.exists(*(keys.state(pen.generation_id) for pen in pens[3:]))


async def test_renew_tells_whether_anybody_has_read_it_lately(log: Log, redis: Redis, pen: Pen) -> None:
    long_ago = await log.now() - ABANDONED_MS - 1
    lease = pen.generation_id, pen.epoch, True
    assert await log.renew([lease]) == [Outcome.OK]
    await redis.execute_command("HSET", keys.state(pen.generation_id), "created", long_ago)
    assert await log.renew([lease, (*lease[:2], False)]) == [Outcome.ABANDONED, Outcome.OK]
    await log.touch_presence([pen.generation_id])
    assert await log.renew([lease]) == [Outcome.OK]
    await redis.execute_command("HSET", keys.state(pen.generation_id), "seen", long_ago)
    await let_the_lease_pass(redis, pen.generation_id)
    assert await log.renew([lease]) == [Outcome.ABANDONED]
    assert (await log.state(pen.generation_id)).lease > await log.now()


@pytest.mark.parametrize("fate", ["expired", "lost", "deleted"])
async def test_seen_brings_nothing_back(log: Log, redis: Redis, pen: Pen, fate: str) -> None:
    await befall(fate, log, redis, pen)
    await log.touch_presence([pen.generation_id])
    assert not await redis.exists(keys.state(pen.generation_id))


@pytest.mark.parametrize(("policy", "unseen"), [("cancel", True), ("continue", False)])
async def test_only_what_should_run_while_somebody_reads_is_ever_unseen(log: Log, policy: Any, unseen: bool) -> None:
    generation_id = await begin(log, options=Options(60, 60, on_disconnect=policy))
    state = await log.state(generation_id)
    limit = state.record.created + ABANDONED_MS
    assert (state.is_abandoned(limit), state.is_abandoned(limit + 1)) == (False, unseen)
    await log.touch_presence([generation_id])
    assert not (await log.state(generation_id)).is_abandoned(await log.now() + ABANDONED_MS - SLACK_MS // 2)


async def test_give_back_lets_the_next_worker_have_it_at_once(log: Log, pen: Pen) -> None:
    assert await log.release(pen.generation_id, pen.epoch, "another dispatch") is Outcome.OK
    state = await log.state(pen.generation_id)
    assert (state.status, state.job_id, state.lease, state.tries) == ("queued", "another dispatch", 0, 0)
    later = await take(log, pen.generation_id, "two", worker="second")
    assert (later.state.status, later.state.attempt, later.state.tries) == ("running", 2, 1)


async def test_requeue_expired_only_what_nobody_holds(log: Log, redis: Redis, pen: Pen) -> None:
    assert await log.requeue_expired(pen.generation_id, pen.epoch, "another dispatch") is Outcome.HELD
    assert (await log.state(pen.generation_id)).status == "running"
    await let_the_lease_pass(redis, pen.generation_id)
    assert await log.requeue_expired(pen.generation_id, pen.epoch, "another dispatch") is Outcome.OK
    state = await log.state(pen.generation_id)
    assert (state.status, state.job_id, state.tries) == ("queued", "another dispatch", 1)


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [("finished", Outcome.DONE), ("deleted", Outcome.GONE), ("lost", Outcome.UNKNOWN)],
)
async def test_what_is_not_there_to_be_given_back_is_not(
    log: Log, redis: Redis, pen: Pen, fate: str, outcome: Outcome
) -> None:
    await befall(fate, log, redis, pen)
    for release in (log.release, log.requeue_expired):
        assert await release(pen.generation_id, pen.epoch, "another dispatch") is outcome


async def test_what_is_being_ended_is_not_given_back(log: Log, redis: Redis, pen: Pen) -> None:
    ender = await take(log, pen.generation_id, "end", terminating="cancelled")
    await let_the_lease_pass(redis, pen.generation_id)
    for release in (log.release, log.requeue_expired):
        assert await release(pen.generation_id, ender.epoch, "another dispatch") is Outcome.TERMINATING


# restore


async def test_restore_brings_back_the_same_bytes_and_writing_goes_on(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    expected, state = await stored(redis, pen.generation_id), await log.state(pen.generation_id)
    await lose(redis, pen.generation_id)
    assert (await pen.send(pen.number(Text(0, "!")))).outcome is Outcome.UNKNOWN
    assert await log.restore(pen.state, REQUEST, pen.rows[:-1]) is Outcome.OK
    assert await stored(redis, pen.generation_id) == expected
    restored = await log.state(pen.generation_id, "anna")
    assert restored == GenerationState(**fields_of(state) | {"lease": restored.lease, "seen": restored.seen})
    assert restored.lease > state.lease - LEASE_MS
    assert await pen.send(pen.since(pen.last_seq - 1)) == AppendResult(Outcome.OK, pen.last_seq)
    assert (await pen.finish()).outcome is Outcome.OK


def fields_of(state: GenerationState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in GenerationState.__struct_fields__}


async def test_restore_of_what_is_there_adds_nothing(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.write(*ANSWER)
    before = await stored(redis, pen.generation_id), await log.state(pen.generation_id)
    assert await log.restore(pen.state, REQUEST, pen.rows[:3]) is Outcome.OK
    assert (await stored(redis, pen.generation_id), await log.state(pen.generation_id)) == before


async def test_restore_of_what_was_deleted_is_refused(log: Log, redis: Redis, pen: Pen) -> None:
    await log.delete(pen.generation_id)
    assert await log.restore(pen.state, REQUEST, pen.rows) is Outcome.GONE
    assert not await redis.exists(keys.state(pen.generation_id), keys.log(pen.generation_id))


async def test_restore_brings_back_a_acquire_and_an_earlier_attempts_rows_too(log: Log, redis: Redis, pen: Pen) -> None:
    """The server comes back with what it had before this attempt, and before the end of the one before it."""
    await pen.write(STARTED)
    older = await OlderData.of(redis, pen.generation_id)
    await pen.write(text_opened(), *texts("Once"))
    later = await take(log, pen.generation_id, "two", worker="first")
    await later.write(Output(later.entries).restarted(2, "worker_lost", 2.0), text_opened(1))
    expected, state = await stored(redis, pen.generation_id), await log.state(pen.generation_id)
    await older.come_back()
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.OK
    assert await stored(redis, pen.generation_id) == expected
    restored = await log.state(pen.generation_id)
    assert restored == GenerationState(**fields_of(state) | {"lease": restored.lease, "seen": restored.seen})
    assert await later.send(later.number(Text(1, "Anew"))) == AppendResult(Outcome.OK, later.last_seq)
    assert (await pen.send(pen.number(Text(0, "!")))).outcome is Outcome.FENCED


async def test_restore_where_the_log_has_gone_on_without_the_attempt_is_refused(
    log: Log, redis: Redis, pen: Pen
) -> None:
    """Whoever was fenced before writes again, to a server that no longer knows why it should not."""
    await pen.write(STARTED)
    older = await OlderData.of(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="first")
    await later.write(Output(later.entries).restarted(2, "worker_lost", 2.0))
    await older.come_back()
    await pen.write(Text(0, "!"))
    assert pen.last_seq == later.last_seq
    before = await stored(redis, pen.generation_id), await log.state(pen.generation_id)
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.FENCED
    assert (await stored(redis, pen.generation_id), await log.state(pen.generation_id)) == before


async def test_restore_of_what_is_being_ended_is_refused(log: Log, redis: Redis, pen: Pen) -> None:
    older = await OlderData.of(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="first")
    await older.come_back()
    await redis.execute_command("HSET", keys.state(pen.generation_id), "terminating", "cancelled")
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.FENCED


async def test_restore_makes_an_earlier_acquire_void(log: Log, redis: Redis, pen: Pen) -> None:
    """Who asks again by the token of a lost take-over is not given the attempt of another."""
    older = await OlderData.of(redis, pen.generation_id)
    later = await take(log, pen.generation_id, "two", worker="first")
    await older.come_back()
    assert await log.restore(later.state, REQUEST, later.rows) is Outcome.OK
    assert (await log.acquire(pen.generation_id, "one", worker="another")).outcome is Outcome.HELD


# finish


async def test_finish_writes_the_end_and_lets_go(log: Log, pen: Pen) -> None:
    await pen.write(*ANSWER)
    assert await log.done_entry(pen.generation_id) is None
    assert await pen.finish("incomplete") == AppendResult(Outcome.OK)
    state = await log.state(pen.generation_id)
    assert (state.status, state.lease, state.is_final) == ("incomplete", 0, True)
    assert state.position == EntryId(pen.epoch, pen.last_seq + seq_span(pen.done()))
    assert (await read_all(log, pen.generation_id))[-1] == Entry(state.position, pen.done("incomplete"))
    assert await log.done_entry(pen.generation_id) == pen.done("incomplete")


async def test_finish_keeps_what_else_the_end_has(log: Log, pen: Pen) -> None:
    extra = Extra(chunk_fields={"system_fingerprint": "fp"})
    await log.finish(pen.generation_id, pen.epoch, pen.last_seq, pen.done(), extra)
    assert (await read_all(log, pen.generation_id))[-1].extra == extra


@pytest.mark.parametrize("off", [-1, 1])
async def test_finish_onto_another_top_than_was_folded_is_refused(log: Log, pen: Pen, off: int) -> None:
    await pen.write(*ANSWER)
    answer = await log.finish(pen.generation_id, pen.epoch, pen.last_seq + off, pen.done())
    assert answer == AppendResult(Outcome.CHANGED, pen.last_seq)
    assert await log.done_entry(pen.generation_id) is None


async def test_finish_again_answers_the_end_that_is_there(log: Log, pen: Pen) -> None:
    await pen.finish("completed")
    answer = await pen.finish("failed")
    assert answer.outcome is Outcome.DONE
    assert answer.done is not None
    assert from_row(answer.done).event == pen.done("completed")


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [
        ("taken over", Outcome.FENCED),
        ("deleted", Outcome.GONE),
        ("expired", Outcome.UNKNOWN),
        ("lost", Outcome.UNKNOWN),
    ],
)
async def test_finish_of_what_it_may_not_write(log: Log, redis: Redis, pen: Pen, fate: str, outcome: Outcome) -> None:
    await befall(fate, log, redis, pen)
    assert await pen.finish() == AppendResult(outcome)
    assert await log.done_entry(pen.generation_id) is None


# delete


async def test_delete_takes_all_but_the_tombstone(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.finish()
    assert await log.delete(pen.generation_id) is Outcome.OK
    assert await redis.keys() == [keys.tombstone(pen.generation_id).encode()]
    assert await log.delete(pen.generation_id) is Outcome.GONE


async def test_delete_of_what_never_was_leaves_nothing(log: Log, redis: Redis) -> None:
    assert await log.delete(new_generation_id()) is Outcome.UNKNOWN
    assert await redis.dbsize() == 0


async def test_delete_of_what_has_expired_is_remembered_as_deleted(log: Log, redis: Redis, generation_id: str) -> None:
    await expire(redis, generation_id)
    assert await log.delete(generation_id) is Outcome.OK
    with pytest.raises(Gone) as gone:
        await log.state(generation_id, "anna")
    assert gone.value.code == "deleted"


# How long things live


async def test_every_key_of_a_generation_has_a_ttl_at_all_times(log: Log, redis: Redis) -> None:
    record = record_of(id=new_generation_id())

    async def mortal(*expected: int) -> None:
        names = [name.decode() for name in await redis.keys()]
        assert sorted(names) == sorted(keys.of_generation(record.id)[:3])
        for life, limit in zip(await lives(redis, record.id), expected, strict=True):
            assert limit - SLACK_MS < life <= limit

    run = DEADLINE_MS + LEASE_MS + RETENTION_MS
    told = DEADLINE_MS + 2 * RETENTION_MS + DAY_MS
    await log.create(record, REQUEST, "the first dispatch")
    await mortal(run, run, told)
    pen = await take(log, record.id, "one", worker="first")
    await mortal(run, run, told)
    await pen.write(*ANSWER)
    await log.renew([(record.id, pen.epoch, False)])
    await log.touch_presence([record.id])
    await mortal(run, run, told)
    await lose(redis, record.id)
    await log.restore(pen.state, REQUEST, pen.rows)
    await mortal(run, run, told + LEASE_MS)
    await log.release(record.id, pen.epoch, "another dispatch")
    await mortal(run, run, told + LEASE_MS)
    ender = await take(log, record.id, "end", terminating="cancelled")
    await ender.finish("cancelled")
    await mortal(RETENTION_MS, RETENTION_MS, told + LEASE_MS)
    await ender.finish("cancelled")
    await mortal(RETENTION_MS, RETENTION_MS, told + LEASE_MS)


async def test_the_retention_is_each_generations_own(log: Log, redis: Redis) -> None:
    pen = await take(log, await begin(log, options=Options(deadline_s=100, retention_s=7)), "one")
    assert all(100_000 < life <= 100_000 + LEASE_MS + 7000 for life in (await lives(redis, pen.generation_id))[:2])
    await pen.finish()
    assert all(0 < life <= 7000 for life in (await lives(redis, pen.generation_id))[:2])


async def test_head_and_log_expire_together(log: Log, redis: Redis, pen: Pen) -> None:
    for _ in range(2):
        record, stream = [
            await redis.execute_command("PEXPIRETIME", name) for name in keys.of_generation(pen.generation_id)[:2]
        ]
        assert record == stream
        await pen.finish()


async def test_a_deleted_generation_is_remembered_beyond_its_retention(log: Log, redis: Redis, pen: Pen) -> None:
    await pen.finish()
    await log.delete(pen.generation_id)
    assert (await lives(redis, pen.generation_id))[2] > DEADLINE_MS + RETENTION_MS


# A server that forgets its scripts


async def test_a_server_that_forgot_the_scripts_is_told_them_again(log: Log, redis: Redis) -> None:
    async def forget() -> None:
        await redis.script_flush()

    record = record_of(id=new_generation_id())
    await forget()
    await log.create(record, REQUEST, "the first dispatch")
    await forget()
    pen = await take(log, record.id, "one")
    await forget()
    await pen.write(*ANSWER)
    await forget()
    assert await log.renew([(record.id, pen.epoch, False)]) == [Outcome.OK]
    await forget()
    await log.touch_presence([record.id])
    await forget()
    assert await log.restore(pen.state, REQUEST, pen.rows) is Outcome.OK
    await forget()
    assert await log.release(record.id, pen.epoch, "another dispatch") is Outcome.OK
    await forget()
    assert (await pen.finish()).outcome is Outcome.OK
    await forget()
    assert await log.delete(record.id) is Outcome.OK


async def test_a_pipeline_of_appends_loses_none_when_the_scripts_were_forgotten(log: Log, redis: Redis) -> None:
    pens = [await take(log, await begin(log), "one") for _ in range(20)]
    for _ in range(2):
        await redis.script_flush()
        answers = await log.append([pen.number(STARTED) for pen in pens])
        assert answers == [AppendResult(Outcome.OK, pen.last_seq) for pen in pens]
    for pen in pens:
        assert await read_all(log, pen.generation_id) == pen.entries


async def test_a_full_server_that_forgot_the_scripts_still_ends_what_runs(
    log: Log, redis: Redis, pen: Pen, full: Callable[[], Awaitable[None]]
) -> None:
    await full()
    await redis.script_flush()
    ender = await take(log, pen.generation_id, "end", terminating="failed")
    await redis.script_flush()
    assert (await ender.finish("failed")).outcome is Outcome.OK


# What subscribers hear


@pytest.fixture
async def heard(redis: Redis, generation_id: str) -> AsyncIterator[asyncio.Queue[bytes | None]]:
    """What is published on the generation's channel."""
    messages: asyncio.Queue[bytes | None] = asyncio.Queue()
    subscriber = Subscriber(redis)
    subscriber.add(keys.events(generation_id), messages.put_nowait)
    subscriber.start()
    async with asyncio.timeout(5):
        assert await messages.get() is None
    yield messages
    await subscriber.close()


async def hears(heard: asyncio.Queue[bytes | None]) -> list[Row]:
    async with asyncio.timeout(5):
        message = await heard.get()
    assert message is not None
    return unpack(message) if message else []


async def test_subscribers_hear_exactly_what_was_added(
    log: Log, redis: Redis, generation_id: str, heard: asyncio.Queue[bytes | None]
) -> None:
    pen = await take(log, generation_id, "one")
    for call in (await pen.write(STARTED), await pen.write(*ANSWER[1:]), await pen.write(Text(0, "\x00 \u2028 ü"))):
        assert await hears(heard) == call.rows
    await pen.finish()
    assert [from_row(row) for row in await hears(heard)] == [
        Entry(EntryId(pen.epoch, pen.last_seq + seq_span(pen.done())), pen.done())
    ]
    assert heard.empty()


async def test_subscribers_hear_nothing_that_adds_nothing(
    log: Log, redis: Redis, generation_id: str, heard: asyncio.Queue[bytes | None]
) -> None:
    pen = await take(log, generation_id, "one")
    call = await pen.write(*ANSWER)
    assert await hears(heard) == call.rows
    await pen.send(call)
    await pen.send(AppendBatch(generation_id, pen.epoch, pen.last_seq + 5, call.rows))
    await pen.send(call._replace(epoch=1))
    await log.finish(generation_id, pen.epoch, pen.last_seq + 1, pen.done())
    await log.renew([(generation_id, pen.epoch, False)])
    await pen.finish()
    assert len(await hears(heard)) == 1
    await pen.finish()
    await pen.send(call)
    await log.delete(generation_id)
    assert await hears(heard) == []
    assert heard.empty()


async def test_subscribers_are_told_to_look_when_a_log_comes_back(
    log: Log, redis: Redis, generation_id: str, heard: asyncio.Queue[bytes | None]
) -> None:
    pen = await take(log, generation_id, "one")
    await lose(redis, generation_id)
    await log.restore(pen.state, REQUEST, pen.rows)
    assert await hears(heard) == []


async def test_the_worker_that_holds_it_is_nudged_and_nobody_where_none_does(log: Log, redis: Redis, pen: Pen) -> None:
    messages: asyncio.Queue[bytes | None] = asyncio.Queue()
    subscriber = Subscriber(redis)
    subscriber.add(keys.worker("first"), messages.put_nowait)
    subscriber.add(keys.worker(""), messages.put_nowait)
    subscriber.start()
    async with asyncio.timeout(5):
        assert [await messages.get(), await messages.get()] == [None, None]
        waiting = await begin(log)
        await log.notify_worker(await log.state(waiting))
        await log.notify_worker(await log.state(pen.generation_id))
        assert await messages.get() == pen.generation_id.encode()
    await subscriber.close()


# What it costs, and the rest


async def test_a_token_costs_at_most_20_bytes(log: Log, redis: Redis, pen: Pen) -> None:
    """2,000 short deltas of plain text, each an entry of its own, with everything that stands around them."""
    tokens = 2000
    vocabulary = (" the", " river", " keeps", " what", " it", " carries", ",", " and", " tells", " more", ".", " So")
    await pen.write(STARTED, text_opened())
    for start in range(0, tokens, 100):
        await pen.write(*(Text(0, vocabulary[seq % len(vocabulary)]) for seq in range(start, start + 100)))
    assert len(await stored(redis, pen.generation_id)) == tokens + 3
    bytes_used = await redis.memory_usage(keys.log(pen.generation_id), samples=0)
    assert bytes_used / tokens <= 20


async def test_many_heads_in_one_look(log: Log, generation_id: str, pen: Pen) -> None:
    other = await begin(log, owner="bob")
    states = await log.states([generation_id, new_generation_id(), other])
    assert states == [await log.state(generation_id), None, await log.state(other, "bob")]


async def test_the_server_tells_its_run_and_its_age(log: Log, redis: Redis) -> None:
    run, age = await log.server()
    assert run == (await redis.info("server"))["run_id"]
    assert 0 <= age < 3600


@pytest.mark.parametrize(
    ("text", "entries"),
    [("", 2000), ("x" * 100, 618), ("x" * 1000, 65), ("x" * 100_000, 16)],
)
def test_a_page_is_about_64_kib(text: str, entries: int) -> None:
    assert page_size(100, 100 * len("text:0" + text)) == entries
