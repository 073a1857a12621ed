import asyncio
import contextlib
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from support.ends import terminate
from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from support.queues import queue_on, submit
from tailrace import keys
from tailrace.errors import Gone, NotFound, RedisUnavailable
from tailrace.events import Done, Entry, Event, Failure, FinalStatus, Finish, Gap, Item, Started, Stream, Text, seq_span
from tailrace.failures import failure
from tailrace.ids import EntryId, new_generation_id
from tailrace.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome
from tailrace.log.codec import to_row
from tailrace.log.measures import Measures
from tailrace.log.reading import Fold
from tailrace.queue import Queue
from tailrace.redis.subscriber import Subscriber


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return queue_on(redis)


@pytest.fixture
async def generation_id(log: Log, queue: Queue) -> str:
    """Of a generation that waits for a worker."""
    record = record_of(id=new_generation_id())
    await submit(log, queue, record)
    return record.id


@pytest.fixture
async def taken(log: Log, queue: Queue, generation_id: str) -> LeaseGrant:
    """The lease of a worker that has written a first text."""
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


async def entries_of(log: Log, generation_id: str) -> list[Entry]:
    return [entry async for entry in log.read_all(generation_id)]


async def checked_done(log: Log, generation_id: str) -> Done:
    """The `done` of a log whose ids and numbers are in order."""
    entries = await entries_of(log, generation_id)
    assert all(after.is_contiguous_after(before.id) and after.id > before.id for before, after in pairwise(entries))
    done = entries[-1].event
    assert isinstance(done, Done)
    assert (await log.state(generation_id)).status == done.status
    return done


async def test_terminate_cancels_a_queued_generation_and_removes_its_job(
    redis: Redis, log: Log, queue: Queue, generation_id: str
) -> None:
    job_id = (await log.state(generation_id)).job_id
    await terminate(log, queue, generation_id, "cancelled")
    done = await checked_done(log, generation_id)
    assert (done.status, done.output, done.finish, done.usage) == ("cancelled", [], [], None)
    assert (await queue.load("anna"))[:2] == (0, 0)
    assert await redis.keys(f"*{job_id}*") == []
    assert (await log.acquire(generation_id, job_id, worker="first")).outcome is Outcome.DONE


async def test_terminate_cancels_a_running_generation_and_keeps_its_text(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    await terminate(log, queue, generation_id, "cancelled")
    done = await checked_done(log, generation_id)
    assert (done.status, done.finish, done.open) == ("cancelled", [Finish(0, None)], [0])
    assert done.output == [Item(0, "text", text="Once upon", status="incomplete")]
    assert done.usage is not None
    assert done.usage["estimated"]
    assert done.stream == Stream(attempts=1), "what another process does not know is left out"
    assert await write(log, taken, 5, *texts("a")) is Outcome.FENCED
    assert [each for shard in await log.unfinished.shards() for each in await shard.list()] == []


async def test_terminate_writes_what_the_worker_had_measured(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    gap = Gap(2.5, 1.5, f"{taken.epoch}-4")
    stream = Stream(retries=1, chunks=2, bytes=300, malformed=0, stalls=0, slowest=[gap])
    measured = Measures(0.5, 1.5, 2.0, stream, (1.0, 2.0, None))
    await log.renew([(generation_id, taken.epoch, False)], measures={generation_id: msgspec.json.encode(measured)})
    assert await log.measures(generation_id) == measured
    await terminate(log, queue, generation_id, "cancelled")
    done = await checked_done(log, generation_id)
    assert done.usage
    tokens = done.usage["completion_tokens"]
    assert done.stream == msgspec.structs.replace(stream, attempts=1, tokens_per_second=tokens / 2.0)
    assert (done.timings.first_token, done.timings.between_tokens_max) == (0.5, 1.5)
    assert done.timings.total is not None
    assert done.cost == (done.usage["prompt_tokens"] + 2 * tokens) / 1e6


async def test_terminate_notifies_the_worker(
    redis: Redis, log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    messages: asyncio.Queue[bytes | None] = asyncio.Queue()
    control = Subscriber(redis)
    control.add(keys.worker("first"), messages.put_nowait)
    control.start()
    async with asyncio.timeout(5):
        assert await messages.get() is None
        await terminate(log, queue, generation_id, "cancelled")
        assert await messages.get() == generation_id.encode()
    await control.close()


@pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete"])
async def test_terminate_writes_the_status_and_the_failure(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, status: FinalStatus
) -> None:
    reason = Failure("The deadline has passed.", "deadline_exceeded")
    await terminate(log, queue, generation_id, status, reason)
    done = await checked_done(log, generation_id)
    assert (done.status, done.error) == (status, reason)
    assert done.at == pytest.approx((await log.server.now()) / 1000, abs=30)


async def test_terminate_leaves_an_ended_generation_as_it_is(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    await terminate(log, queue, generation_id, "failed")
    before = await entries_of(log, generation_id)
    await terminate(log, queue, generation_id, "cancelled")
    assert await entries_of(log, generation_id) == before


async def test_terminate_of_an_unknown_generation_is_not_found(redis: Redis, log: Log, queue: Queue) -> None:
    with pytest.raises(NotFound):
        await terminate(log, queue, new_generation_id(), "cancelled")
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_terminate_of_a_generation_no_longer_kept_is_gone(
    redis: Redis, log: Log, queue: Queue, generation_id: str, fate: str
) -> None:
    if fate == "deleted":
        await log.delete(generation_id)
    else:
        await redis.delete(keys.state(generation_id), keys.log(generation_id))
    with pytest.raises(Gone) as gone:
        await terminate(log, queue, generation_id, "cancelled")
    assert gone.value.code == fate


@pytest.mark.parametrize("callers", [2, 20])
async def test_concurrent_callers_of_terminate_write_one_done(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, callers: int
) -> None:
    statuses: list[FinalStatus] = ["cancelled", "failed", "incomplete", "completed"]
    await asyncio.gather(*(terminate(log, queue, generation_id, statuses[n % 4]) for n in range(callers)))
    assert [isinstance(entry.event, Done) for entry in await entries_of(log, generation_id)].count(True) == 1
    await checked_done(log, generation_id)


async def test_two_callers_of_terminate_in_lock_step_do_not_fence_each_other_forever(
    log: Log, queue: Queue, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each `finish`, the other caller has 5 ms to acquire the log first."""
    acquire, finish = log.acquire, log.finish
    acquired, latest = asyncio.Condition(), 0

    async def acquire_and_notify(*args: Any, **options: Any) -> LeaseGrant:
        nonlocal latest
        taken = await acquire(*args, **options)
        async with acquired:
            latest = max(latest, taken.epoch)
            acquired.notify_all()
        return taken

    async def finish_late(generation_id: str, epoch: int, last_seq: int, done: Done) -> AppendResult:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.005), acquired:
                await acquired.wait_for(lambda: latest > epoch)
        return await finish(generation_id, epoch, last_seq, done)

    monkeypatch.setattr(log, "acquire", acquire_and_notify)
    monkeypatch.setattr(log, "finish", finish_late)
    async with asyncio.timeout(10):
        await asyncio.gather(*(terminate(log, queue, generation_id, "cancelled") for _ in range(2)))
    await checked_done(log, generation_id)


async def test_terminate_keeps_every_row_that_was_confirmed_to_the_worker(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str
) -> None:
    confirmed: list[str] = []
    has_begun = asyncio.Event()

    async def write_on() -> None:
        last_seq = 5
        while await write(log, taken, last_seq, *texts(text := f" {last_seq}")) is Outcome.OK:
            confirmed.append(text)
            last_seq += 1
            if len(confirmed) == 20:
                has_begun.set()

    async with asyncio.timeout(10):
        writing = asyncio.create_task(write_on())
        await has_begun.wait()
        await terminate(log, queue, generation_id, "cancelled")
        await writing
    assert (await checked_done(log, generation_id)).output[0].text == "Once upon" + "".join(confirmed)


@pytest.mark.parametrize(("status", "reason"), [("cancelled", None), ("failed", failure("worker_lost"))])
async def test_terminate_that_died_half_way_leaves_status_and_error_to_the_next_caller(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch,
    status: FinalStatus, reason: Failure | None,
) -> None:  # fmt: skip
    async def die(*_: Any) -> AppendResult:
        raise RedisUnavailable

    with monkeypatch.context() as dying:
        dying.setattr(log, "finish", die)
        with pytest.raises(RedisUnavailable):
            await terminate(log, queue, generation_id, status, reason)
    state = await log.state(generation_id)
    assert (state.terminating, state.terminating_error, state.is_final) == (status, reason, False)
    assert state.terminating is not None
    await terminate(log, queue, generation_id, state.terminating, state.terminating_error)
    done = await checked_done(log, generation_id)
    assert (done.status, done.error) == (status, reason)


async def test_terminate_ends_a_generation_that_is_restored_meanwhile(
    redis: Redis, log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has lost it, and a worker restores it between the two calls of `terminate`."""
    rows = [to_row(entry) for entry in await entries_of(log, generation_id)]
    await redis.delete(*keys.of_generation(generation_id))
    acquire = log.acquire

    async def restore_after_a_miss(*args: Any, **options: Any) -> LeaseGrant:
        monkeypatch.undo()
        answer = await acquire(*args, **options)
        assert taken.state is not None
        assert await log.restore(taken.state, REQUEST, rows) is Outcome.OK
        return answer

    monkeypatch.setattr(log, "acquire", restore_after_a_miss)
    await terminate(log, queue, generation_id, "cancelled")
    assert (await checked_done(log, generation_id)).output[0].text == "Once upon"


async def test_terminate_that_was_fenced_folds_the_log_once(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folding a long log takes longer than the backoff: callers that fold it again would fence each other for ever."""
    fold, finish = log.output_and_rows, log.finish
    folded = 0

    async def count_folds(*args: Any, **options: Any) -> Fold:
        nonlocal folded
        folded += 1
        return await fold(*args, **options)

    async def fence_and_finish(*args: Any) -> AppendResult:
        monkeypatch.setattr(log, "finish", finish)
        await log.acquire(generation_id, "another caller", terminating="failed")
        return await finish(*args)

    monkeypatch.setattr(log, "output_and_rows", count_folds)
    monkeypatch.setattr(log, "finish", fence_and_finish)
    await terminate(log, queue, generation_id, "cancelled")
    assert (await checked_done(log, generation_id)).output[0].text == "Once upon"
    assert folded == 1


async def test_terminate_folds_again_what_has_changed_since_it_was_fenced(
    redis: Redis, log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server loses the last row, and comes back as it was before."""
    finish = log.finish
    *_, last = await entries_of(log, generation_id)

    async def lose_a_row_and_finish(*args: Any) -> AppendResult:
        monkeypatch.undo()
        await redis.xdel(keys.log(generation_id), str(last.id))
        await redis.execute_command("HSET", keys.state(generation_id), "seq", last.id.seq - 1)
        return await finish(*args)

    monkeypatch.setattr(log, "finish", lose_a_row_and_finish)
    await terminate(log, queue, generation_id, "cancelled")
    assert (await checked_done(log, generation_id)).output[0].text == "Once"


async def test_terminate_reads_a_long_log_in_pages(
    log: Log, queue: Queue, taken: LeaseGrant, generation_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reply with 200,000 rows kept Redis busy for 0.1 s, and the loop for 3 s (`scripts/bench --workload
    long-log`)."""
    last_seq = 5
    for _ in range(10):
        await write(log, taken, last_seq, *[Text(0, " word")] * 4000)
        last_seq += 4000
    read_page = log.server.read_page
    pages: list[list[Any]] = []

    async def count_and_read(*command: Any) -> Any:
        pages.append(await read_page(*command))
        return pages[-1]

    monkeypatch.setattr(log.server, "read_page", count_and_read)
    grant = await log.acquire(generation_id, "another caller", terminating="failed", rows=False)
    await terminate(log, queue, generation_id, "cancelled")
    assert grant.rows == ()
    assert max(map(len, pages)) < 10_000
    assert len((await checked_done(log, generation_id)).output[0].text or "") == len("Once upon" + " word" * 40_000)
