import asyncio
import contextlib
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from support.queues import queue_on, submit
from tailrace import keys
from tailrace.errors import Gone, NotFound
from tailrace.events import Done, Entry, Event, Failure, FinalStatus, Finish, Item, Started, seq_span
from tailrace.ids import EntryId, new_generation_id
from tailrace.lifecycle.termination import terminate
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.log.codec import to_row
from tailrace.queue import Queue
from tailrace.redis.subscriber import Subscriber


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis)


@pytest.fixture
async def generation_id(log: Log, queue: Queue) -> str:
    """One that waits."""
    record = record_of(id=new_generation_id())
    await submit(log, queue, record)
    return record.id


@pytest.fixture
async def taken(log: Log, queue: Queue, generation_id: str) -> LeaseGrant:
    """It runs, and has said something."""
    state = await log.state(generation_id)
    taken = await log.acquire(generation_id, state.job_id, worker="first")
    await queue.jobs.mark_started(state.job_id)
    await write(log, taken, 0, Started(1, 2.0), text_opened(), *texts("Once| upon"))
    return taken


async def write(log: Log, taken: LeaseGrant, last_seq: int, *events: Event) -> Outcome:
    assert taken.state is not None
    after_seq, rows = last_seq, []
    for event in events:
        last_seq += seq_span(event)
        rows.append(to_row(Entry(EntryId(taken.epoch, last_seq), event)))
    (answer,) = await log.append([AppendBatch(taken.state.record.id, taken.epoch, after_seq, rows)])
    assert not isinstance(answer, Exception)
    return answer.outcome


async def whole(log: Log, generation_id: str) -> list[Entry]:
    return [entry async for entry in log.read_all(generation_id)]


async def the_end(log: Log, generation_id: str) -> Done:
    """The `done`, of a log that is in order."""
    entries = await whole(log, generation_id)
    assert all(after.is_contiguous_after(before.id) and after.id > before.id for before, after in pairwise(entries))
    done = entries[-1].event
    assert isinstance(done, Done)
    assert (await log.state(generation_id)).status == done.status
    return done


async def test_what_waits_is_cancelled_and_nobody_will_run_it(
    redis: Redis, log: Log, queue: Queue, generation_id: str
) -> None:
    job_id = (await log.state(generation_id)).job_id
    await terminate(log, queue, generation_id, "cancelled")
    done = await the_end(log, generation_id)
    assert (done.status, done.output, done.finish, done.usage) == ("cancelled", [], [], None)
    assert await queue.load("anna") == (0, 0, None)
    assert await redis.keys(f"*{job_id}*") == []
    assert (await log.acquire(generation_id, job_id, worker="first")).outcome is Outcome.DONE


async def test_what_runs_is_cancelled_with_what_it_has_said(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    await terminate(log, queue, generation_id, "cancelled")
    done = await the_end(log, generation_id)
    assert (done.status, done.finish, done.open) == ("cancelled", [Finish(0, None)], [0])
    assert done.output == [Item(0, "text", text="Once upon", status="incomplete")]
    assert done.usage is not None
    assert done.usage["estimated"]
    assert await write(log, taken, 5, *texts("a")) is Outcome.FENCED
    assert await queue.index.list_unfinished(int(keys.unfinished(generation_id).rpartition(":")[2])) == []


async def test_the_worker_is_told_before_anything_else(
    redis: Redis, log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    told: asyncio.Queue[bytes | None] = asyncio.Queue()
    control = Subscriber(redis)
    control.add(keys.worker("first"), told.put_nowait)
    control.start()
    async with asyncio.timeout(5):
        assert await told.get() is None
        await terminate(log, queue, generation_id, "cancelled")
        assert await told.get() == generation_id.encode()
    await control.close()


@pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete"])
async def test_an_end_says_why(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, status: FinalStatus
) -> None:
    why = Failure("The deadline has passed.", "deadline_exceeded")
    await terminate(log, queue, generation_id, status, why)
    done = await the_end(log, generation_id)
    assert (done.status, done.error) == (status, why)
    assert done.at == pytest.approx((await log.server.now()) / 1000, abs=30)


async def test_what_has_ended_stays_as_it_ended(log: Log, queue: Queue, taken: LeaseGrant, generation_id: str) -> None:
    await terminate(log, queue, generation_id, "failed")
    before = await whole(log, generation_id)
    await terminate(log, queue, generation_id, "cancelled")
    assert await whole(log, generation_id) == before


async def test_what_never_was_is_not_found(redis: Redis, log: Log, queue: Queue) -> None:
    with pytest.raises(NotFound):
        await terminate(log, queue, new_generation_id(), "cancelled")
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_what_is_no_longer_kept_is_gone_and_why(
    redis: Redis, log: Log, queue: Queue, generation_id: str, fate: str
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await redis.delete(keys.state(generation_id), keys.log(generation_id))
    with pytest.raises(Gone) as gone:
        await terminate(log, queue, generation_id, "cancelled")
    assert gone.value.code == fate


@pytest.mark.parametrize("enders", [2, 20])
async def test_of_all_who_end_it_one_does_and_all_return(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, enders: int
) -> None:
    statuses: list[FinalStatus] = ["cancelled", "failed", "incomplete", "completed"]
    await asyncio.gather(*(terminate(log, queue, generation_id, statuses[n % 4]) for n in range(enders)))
    assert [isinstance(entry.event, Done) for entry in await whole(log, generation_id)].count(True) == 1
    await the_end(log, generation_id)


async def test_two_who_end_it_in_step_do_not_fence_each_other_for_ever(
    log: Log, queue: Queue, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever one is about to finish, the other takes over first, if it comes within 5 ms."""
    acquire, finish = log.acquire, log.finish
    overtaken, latest = asyncio.Condition(), 0

    async def acquire_and_tell(*given: Any, **more: Any) -> LeaseGrant:
        nonlocal latest
        taken = await acquire(*given, **more)
        async with overtaken:
            latest = max(latest, taken.epoch)
            overtaken.notify_all()
        return taken

    async def finish_late(generation_id: str, epoch: int, last_seq: int, done: Done) -> AppendResult:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.005), overtaken:
                await overtaken.wait_for(lambda: latest > epoch)
        return await finish(generation_id, epoch, last_seq, done)

    monkeypatch.setattr(log, "acquire", acquire_and_tell)
    monkeypatch.setattr(log, "finish", finish_late)
    async with asyncio.timeout(10):
        await asyncio.gather(*(terminate(log, queue, generation_id, "cancelled") for _ in range(2)))
    await the_end(log, generation_id)


async def test_a_worker_that_writes_on_meanwhile_loses_nothing_it_was_told_is_there(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    """Whatever the log confirmed is in the output of the end."""
    confirmed: list[str] = []
    under_way = asyncio.Event()

    async def write_on() -> None:
        last_seq = 5
        while await write(log, taken, last_seq, *texts(text := f" {last_seq}")) is Outcome.OK:
            confirmed.append(text)
            last_seq += 1
            if len(confirmed) == 20:
                under_way.set()

    async with asyncio.timeout(10):
        writing = asyncio.create_task(write_on())
        await under_way.wait()
        await terminate(log, queue, generation_id, "cancelled")
        await writing
    assert (await the_end(log, generation_id)).output[0].text == "Once upon" + "".join(confirmed)


async def test_who_dies_half_way_leaves_what_was_begun_for_the_next(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    await log.acquire(generation_id, "dies here", terminating="cancelled")
    state = await log.state(generation_id)
    assert (state.terminating, state.is_final) == ("cancelled", False)
    assert state.terminating is not None
    await terminate(log, queue, generation_id, state.terminating)
    assert (await the_end(log, generation_id)).status == "cancelled"


async def test_what_comes_back_while_it_is_looked_for_is_ended(
    redis: Redis, log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that lost it, and a worker that restores it just then."""
    rows = [to_row(entry) for entry in await whole(log, generation_id)]
    await redis.delete(*keys.of_generation(generation_id))
    acquire = log.acquire

    async def miss_it_once(*given: Any, **more: Any) -> LeaseGrant:
        monkeypatch.undo()
        answer = await acquire(*given, **more)
        assert taken.state is not None
        assert await log.restore(taken.state, REQUEST, rows) is Outcome.OK
        return answer

    monkeypatch.setattr(log, "acquire", miss_it_once)
    await terminate(log, queue, generation_id, "cancelled")
    assert (await the_end(log, generation_id)).output[0].text == "Once upon"
