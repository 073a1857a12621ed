"""The leases of a worker that has exited, on a real server."""

import pytest
from redis.asyncio import Redis

from support.queues import queue_on
from support.stored_log import create_generation
from tailrace import keys
from tailrace.ids import new_token
from tailrace.lifecycle.limits import limit_failure
from tailrace.lifecycle.lost_worker import expire_leases, hand_over
from tailrace.log import Log, Outcome
from tailrace.queue import QUARANTINE


async def running(log: Log, worker: str) -> str:
    generation_id = await create_generation(log)
    await log.unfinished.add_restored(generation_id)
    await log.acquire(generation_id, new_token(), worker=worker, neighbours=2)
    return generation_id


async def has_lease(log: Log, generation_id: str) -> bool:
    return (await log.state(generation_id)).lease > await log.server.now()


async def test_leases_of_a_dead_worker_end_and_those_of_others_do_not(log: Log) -> None:
    lost, also_lost, other = [await running(log, worker) for worker in ("dead", "dead", "living")]
    before = await log.state(lost)
    await expire_leases(log, "dead")
    assert [await has_lease(log, each) for each in (lost, also_lost, other)] == [False, False, True]
    after = await log.state(lost)
    assert (after.status, after.epoch, after.neighbours) == ("running", before.epoch, 2)
    assert await log.requeue_expired(lost, after.epoch, "next job") is Outcome.OK


async def test_lease_of_a_process_that_ends_a_generation_of_the_dead_worker_goes_on(log: Log) -> None:
    generation_id = await running(log, "dead")
    await log.acquire(generation_id, new_token(), terminating="cancelled")
    await expire_leases(log, "dead")
    assert await has_lease(log, generation_id)


@pytest.mark.parametrize("damage", ["waits", "is missing", "cannot be read"])
async def test_generation_that_no_lease_runs_is_passed_over(log: Log, redis: Redis, damage: str) -> None:
    damaged, lost = await running(log, "dead"), await running(log, "dead")
    state = await log.state(damaged)
    if damage == "waits":
        await log.release(damaged, state.epoch, "next job")
    elif damage == "is missing":
        await redis.delete(keys.state(damaged))
    else:
        await redis.execute_command("HSET", keys.state(damaged), "record", "{")
    await expire_leases(log, "dead")
    assert not await has_lease(log, lost)
    if damage == "waits":
        assert (await log.state(damaged)).status == "queued"


@pytest.mark.parametrize("neighbours", [0, 2])
async def test_generation_that_is_handed_over_eight_times_is_neither_charged_nor_quarantined(
    log: Log, redis: Redis, neighbours: int
) -> None:
    queue = queue_on(redis)
    generation_id = await create_generation(log)
    await log.unfinished.add_restored(generation_id)
    for attempt in range(1, 9):
        await log.acquire(generation_id, new_token(), worker="dead", neighbours=neighbours)
        await hand_over(log, queue, "dead")
        state = await log.state(generation_id)
        assert (state.status, state.attempt, state.handovers) == ("queued", attempt, attempt)
        assert (state.lost_attempts, state.failed_attempts) == (0, 0)
        assert not state.job_id.startswith(QUARANTINE)
        assert await queue.jobs.is_waiting([state.job_id]) == [True]
        assert limit_failure(state, 0, max_attempts=1) is None


async def test_handover_of_a_dead_worker_leaves_what_others_run_and_end_alone(log: Log, redis: Redis) -> None:
    other, ending = await running(log, "living"), await running(log, "dead")
    await log.acquire(ending, new_token(), terminating="cancelled")
    before = await log.states([other, ending])
    await hand_over(log, queue_on(redis), "dead")
    assert await log.states([other, ending]) == before


async def test_writer_of_a_worker_that_was_handed_over_is_fenced_by_the_next_one(log: Log, redis: Redis) -> None:
    lost = await running(log, "dead")
    state = await log.state(lost)
    await hand_over(log, queue_on(redis), "dead")
    await log.acquire(lost, new_token(), worker="next")
    assert await log.renew([(lost, state.epoch, False)]) == [Outcome.FENCED]
