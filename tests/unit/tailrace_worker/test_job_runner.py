"""The runner on a real queue: slots, jobs of other workers, errors, kinds of job."""

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix, retry_key_prefix
from redis.asyncio import Redis

from support.api import eventually
from support.queues import queue_on
from tailrace import keys
from tailrace.errors import CorruptEntry, RedisUnavailable
from tailrace.ids import new_token
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import JOB, QUARANTINE, Parked, Right, Taken, job_id_of
from tailrace.queue.arq_jobs import owner_of
from tailrace_worker.job_runner import JobRunner


class Harness:
    """A runner with two kinds of job, which start and then wait for `finish`."""

    def __init__(self, redis: Redis) -> None:
        self.queue = queue_on(redis)
        self.started: list[tuple[str, str]] = []
        self.finish = asyncio.Event()
        self._job_started = asyncio.Event()
        self.runner = self.make_runner()

    def make_runner(self) -> JobRunner:
        """A runner of this worker that polls only when the test does."""
        jobs = {name: partial(self._job, name) for name in (JOB, "another_job")}
        return JobRunner(self.queue, "this worker", jobs, max_jobs=2)

    async def _job(self, name: str, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        self.started.append((name, generation_id))
        self._job_started.set()
        await self.queue.jobs.mark_started(job_id)
        await self.finish.wait()

    async def enqueue(self, *generation_ids: str, job: str = JOB) -> None:
        for generation_id in generation_ids:
            await self.queue.jobs.enqueue(generation_id, new_token(), 60, job=job)
        self.runner.wake()

    async def enqueue_quarantined(self, *generation_ids: str) -> None:
        for generation_id in generation_ids:
            await self.queue.jobs.enqueue(generation_id, QUARANTINE + new_token(), 60)
        self.runner.wake()

    async def until_started(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.started) < count:
                self._job_started.clear()
                await self._job_started.wait()


@pytest.fixture
async def harness(redis: Redis) -> AsyncIterator[Harness]:
    harness = Harness(redis)
    running = asyncio.create_task(harness.runner.main())
    yield harness
    harness.finish.set()
    await asyncio.gather(*harness.runner.tasks.values())
    await cancel_and_wait(running)


async def test_jobs_run_up_to_the_limit_and_then_in_turn(harness: Harness) -> None:
    await harness.enqueue("a", "b", "c")
    await harness.until_started(2)
    assert harness.runner.job_counter == 2
    assert await harness.queue.jobs.depth() == 1
    harness.finish.set()
    await harness.until_started(3)


async def test_job_runs_although_arq_has_counted_it_before(harness: Harness, redis: Redis) -> None:
    """The reply to arq's INCR was lost, and redis-py sent it again."""
    job_id = new_token()
    await redis.set(retry_key_prefix + job_id, 7)
    await harness.queue.jobs.enqueue("a", job_id, 60)
    harness.runner.wake()
    await harness.until_started(1)
    assert harness.started == [(JOB, "a")]


async def test_each_job_runs_under_the_name_it_was_enqueued_with(harness: Harness) -> None:
    await harness.enqueue("a", job="another_job")
    await harness.enqueue("b")
    await harness.until_started(2)
    assert sorted(harness.started) == [("another_job", "a"), (JOB, "b")]


async def test_job_of_another_worker_is_left_to_it(harness: Harness, redis: Redis) -> None:
    harness.runner.stop_picking()
    job_id = new_token()
    await harness.queue.jobs.enqueue("a", job_id, 60)
    await redis.set(in_progress_key_prefix + job_id, b"another worker")
    runner = harness.make_runner()
    await runner.start_jobs([job_id.encode()])
    assert runner.job_counter == 0
    assert not harness.started


async def test_job_whose_take_lost_its_reply_is_taken_again_and_run_once(harness: Harness, redis: Redis) -> None:
    harness.runner.stop_picking()
    job_id = new_token()
    await harness.queue.jobs.enqueue("a", job_id, 60)
    await redis.set(in_progress_key_prefix + job_id, b"this worker")
    runner = harness.make_runner()
    for _ in range(2):
        await runner.start_jobs([job_id.encode()])
    await harness.until_started(1)
    assert runner.job_counter == 1
    harness.finish.set()
    await asyncio.gather(*runner.tasks.values())
    assert harness.started == [(JOB, "a")]
    assert not await redis.exists(in_progress_key_prefix + job_id)


async def test_job_that_was_done_meanwhile_leaves_no_mark(harness: Harness, redis: Redis) -> None:
    await harness.runner.start_jobs([b"gone"])
    assert harness.runner.job_counter == 0
    assert not await redis.exists(in_progress_key_prefix + "gone")


async def test_error_costs_a_poll_and_no_slot(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [RedisUnavailable() for _ in range(5)]
    take = harness.queue.jobs.take

    async def failing(*args: Any) -> Taken | Parked | None:
        if errors:
            raise errors.pop()
        return await take(*args)

    monkeypatch.setattr(harness.queue.jobs, "take", failing)
    await harness.enqueue("a", "b")
    await harness.until_started(2)
    assert not errors
    assert harness.runner.job_counter == 2


async def test_job_that_has_run_leaves_no_key_although_its_removal_failed(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, failures = harness.queue.jobs.remove, 0

    async def fail_twice(job_id: str) -> None:
        nonlocal failures
        if failures < 2:
            failures += 1
            raise RedisUnavailable
        await remove(job_id)

    monkeypatch.setattr(harness.queue.jobs, "remove", fail_twice)
    harness.finish.set()
    await harness.enqueue("a")
    await harness.until_started(1)
    await eventually(lambda: _has_no_key(redis))
    assert failures == 2
    assert harness.runner.job_counter == 0


async def test_job_without_content_leaves_no_key(harness: Harness, redis: Redis) -> None:
    """Its payload was removed after it was taken: by a cancel, or a sweeper."""
    await redis.zadd(keys.QUEUE, {"job": 1})
    harness.runner.wake()
    await eventually(lambda: _has_no_key(redis))
    assert harness.started == []


async def _has_no_key(redis: Redis) -> bool:
    return await redis.keys("arq:*") == [] and not await redis.exists(keys.QUEUE)


async def test_stop_picking_leaves_waiting_jobs_in_the_queue(harness: Harness) -> None:
    harness.runner.stop_picking()
    await harness.enqueue("a")
    await harness.runner._poll_iteration()
    assert not harness.started
    assert await harness.queue.jobs.depth() == 1


async def test_stop_picking_while_a_job_is_taken_starts_that_one_and_no_further(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.runner.stop_picking()
    runner, take, taking, replies = harness.make_runner(), harness.queue.jobs.take, asyncio.Event(), asyncio.Event()

    async def reply_late(*arguments: Any) -> Taken | Parked | None:
        score = await take(*arguments)
        taking.set()
        await replies.wait()
        return score

    monkeypatch.setattr(harness.queue.jobs, "take", reply_late)
    await harness.enqueue("a", "b")
    polling = asyncio.create_task(runner._poll_iteration())
    await taking.wait()
    runner.stop_picking()
    waiting = asyncio.create_task(runner.wait_for_take())
    await asyncio.sleep(0)
    assert not waiting.done()
    replies.set()
    await waiting
    assert len(runner.tasks) == 1
    await polling
    assert len(runner.tasks) == 1
    assert await harness.queue.jobs.depth() >= 1
    await runner.cancel_jobs()


async def test_cancel_ends_a_job_that_was_taken_and_has_not_begun(harness: Harness) -> None:
    harness.runner.stop_picking()
    runner = harness.make_runner()
    await harness.enqueue("a")
    await runner.start_jobs(await harness.queue.jobs.arq.zrange(keys.QUEUE, 0, -1))
    assert not runner.job_tasks
    async with asyncio.timeout(5):
        await runner.cancel_jobs()
    assert not harness.started
    assert not await harness.queue.jobs.depth()


async def test_quarantined_jobs_run_one_at_a_time_and_hold_no_slot_while_they_wait(harness: Harness) -> None:
    await harness.enqueue_quarantined("a", "b", "c")
    await harness.until_started(1)
    await harness.enqueue("new")
    await harness.until_started(2)
    assert [name for _, name in harness.started][1:] == ["new"]
    assert await harness.queue.jobs.depth() == 2
    harness.finish.set()
    await harness.until_started(4)


async def test_waiting_quarantined_job_costs_no_call_and_counts_as_waiting(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    take = harness.queue.jobs.take

    async def recorded(job_id: str, *args: Any) -> Taken | Parked | None:
        taken.append(job_id)
        return await take(job_id, *args)

    monkeypatch.setattr(harness.queue.jobs, "take", recorded)
    await harness.enqueue_quarantined("a", "b", "c")
    await harness.until_started(1)
    for _ in range(5):
        await harness.runner._poll_iteration()
    assert len(taken) == 1
    parked = [job_id.decode() for job_id in await harness.queue.jobs.arq.zrange(keys.QUEUE, 0, -1)]
    assert len(parked) == 2
    assert await harness.queue.jobs.is_waiting(parked) == [True, True]


async def test_quarantined_jobs_of_more_than_a_page_hide_no_other(harness: Harness) -> None:
    await harness.enqueue_quarantined(*(f"quarantined {n}" for n in range(harness.runner.queue_read_limit * 2 + 1)))
    await harness.until_started(1)
    await harness.enqueue("new")
    await harness.until_started(2)
    assert harness.started[-1] == (JOB, "new")
    harness.runner.stop_picking()


async def test_job_ends_by_its_own_deadline_and_not_by_a_setting_of_this_worker(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float | None] = []
    wait_for = asyncio.wait_for

    async def recorded(task: Any, timeout: float | None) -> Any:
        if task in harness.runner.job_tasks.values():
            timeouts.append(timeout)
        return await wait_for(task, timeout)

    monkeypatch.setattr("arq.worker.asyncio.wait_for", recorded)
    await harness.enqueue("a")
    await harness.until_started(1)
    assert timeouts == [None]


async def test_exception_of_a_job_is_logged_and_frees_its_slot(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    async def corrupt(*_: Any) -> None:
        raise CorruptEntry("unreadable entry 'done'")

    logging.getLogger("arq").setLevel(logging.CRITICAL)  # as `tailrace worker` sets it
    runner = JobRunner(harness.queue, "another worker", {JOB: corrupt}, max_jobs=2)
    job_id = new_token()
    harness.runner.stop_picking()
    await harness.queue.jobs.enqueue("gen_a", job_id, 60)
    await runner.start_jobs([job_id.encode()])
    await asyncio.gather(*runner.tasks.values())
    assert runner.job_counter == 0
    (record,) = [record for record in caplog.records if record.name == "tailrace_worker.job_runner"]
    assert record.getMessage() == f"job gen_a {job_id}: the run failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], CorruptEntry)


async def test_jobs_beyond_their_callers_limit_leave_the_slots_to_others(redis: Redis) -> None:
    """More of them than a poll reads: the runner goes on to those behind them without waiting for the next poll."""
    queue = queue_on(redis, right_of=lambda owner: Right(1.0, 1 if owner == "anna" else 0))
    started, finish = asyncio.Queue[str](), asyncio.Event()

    async def run(_: dict[Any, Any], _generation_id: str, job_id: str) -> None:
        await queue.jobs.mark_started(job_id)
        started.put_nowait(owner_of(job_id))
        await finish.wait()

    runner = JobRunner(queue, "this worker", {JOB: run}, max_jobs=3)
    runner.poll_delay_s = 3600
    for _ in range(2 * runner.queue_read_limit + 5):
        await queue.jobs.enqueue("gen", job_id_of("anna"), 60)
    for _ in range(2):
        await queue.jobs.enqueue("gen", job_id_of("bob"), 60)
    running = asyncio.create_task(runner.main())
    async with asyncio.timeout(30):
        owners = [await started.get() for _ in range(3)]
    assert sorted(owners) == ["anna", "bob", "bob"]
    assert len(runner.held) == 3
    runner.stop_picking()
    finish.set()
    await asyncio.gather(*runner.tasks.values())
    assert not runner.held
    await cancel_and_wait(running)


async def test_limit_that_is_raised_lets_parked_jobs_begin_without_a_sweep(redis: Redis) -> None:
    rights = {"anna": Right(1.0, 1)}
    queue = queue_on(redis, right_of=lambda owner: rights[owner])
    started, finish = asyncio.Queue[str](), asyncio.Event()

    async def run(_: dict[Any, Any], _generation_id: str, job_id: str) -> None:
        started.put_nowait(job_id)
        await queue.jobs.mark_started(job_id)
        await finish.wait()

    runner = JobRunner(queue, "this worker", {JOB: run}, max_jobs=5)
    for _ in range(4):
        await queue.jobs.enqueue("gen", job_id_of("anna"), 60)
    running = asyncio.create_task(runner.main())
    async with asyncio.timeout(30):
        await started.get()
        while await redis.zcard(keys.parked("anna")) < 3:  # noqa: ASYNC110 - the server has it
            await asyncio.sleep(0.01)
        rights["anna"] = Right(1.0, 3)
        runner.on_rights_changed()
        for _ in range(2):
            await started.get()
    assert len(runner.held) == 3
    runner.stop_picking()
    finish.set()
    await asyncio.gather(*runner.tasks.values())
    await cancel_and_wait(running)
