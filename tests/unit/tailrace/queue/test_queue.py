"""Calls that need several parts of the queue: load, submit, remove."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from support.logs import record as record_of
from support.queues import submit
from tailrace import keys
from tailrace.errors import RedisFull
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.queue import Charge, Claim, Queue, Submission


async def everything(redis: Redis) -> dict[str, Any]:
    """Every key on the server and its value, without the time to live."""
    names = sorted(name.decode() for name in await redis.keys())
    return {name: await redis.dump(name) for name in names}


async def test_submission_registers_and_enqueues_a_generation(log: Log, queue: Queue) -> None:
    await queue.presence.heartbeat("a worker")
    record = record_of(id=new_generation_id())
    assert await submit(log, queue, record) == Submission(position=1, workers=1)
    state = await log.state(record.id, "anna")
    assert (state.status, await queue.jobs.position(state.job_id), await queue.jobs.depth()) == ("queued", 1, 1)
    assert await queue.jobs.is_waiting([state.job_id]) == [True]
    assert [page async for page in queue.index.list_owned("anna", None)] == [[record.id]]


async def test_submission_repeated_changes_nothing(redis: Redis, log: Log, queue: Queue) -> None:
    record = record_of(id=new_generation_id())
    await submit(log, queue, record)
    assert await submit(log, queue, record) == Submission(1, 0)  # now the state is marked as shared
    before = await everything(redis)
    assert await submit(log, queue, record) == Submission(1, 0)
    assert await everything(redis) == before


async def test_submission_by_many_at_once_is_one_job(log: Log, queue: Queue) -> None:
    record = record_of(id=new_generation_id())
    positions = await asyncio.gather(*(submit(log, queue, record) for _ in range(10)))
    assert positions == [Submission(1, 0)] * 10
    assert await queue.jobs.depth() == 1


async def test_submission_to_a_full_server_leaves_nothing(
    redis: Redis, log: Log, queue: Queue, full: Callable[[], Awaitable[None]]
) -> None:
    record = record_of(id=new_generation_id())
    created, job_id = await log.create(record, {}, "job")
    assert job_id == "job"
    await full()
    with pytest.raises(RedisFull):
        await queue.submit(record, created, job_id)
    await log.discard(record.id, job_id)
    assert await redis.dbsize() == 0


async def test_load_counts_jobs_and_the_owners_generations(log: Log, queue: Queue) -> None:
    await submit(log, queue, record_of(id=new_generation_id()))
    assert (await queue.load("anna"))[:3] == (1, 1, None)
    assert (await queue.load("bob"))[:3] == (1, 0, None)


async def test_load_claims_an_idempotency_key(queue: Queue) -> None:
    first, second = Claim.of("gen 0", b"{}"), Claim.of("gen 1", b"{}")
    assert first.held_by((await queue.load("anna", "key", first, 60)).claimed) == "gen 0"
    assert second.held_by((await queue.load("anna", "key", second, 60)).claimed) == "gen 0"


async def test_load_of_a_full_server_reads_a_claim_and_makes_none(
    queue: Queue, full: Callable[[], Awaitable[None]]
) -> None:
    claim = Claim.of("gen 0", b"{}")
    await queue.load("anna", "first", claim, 60)
    await full()
    assert claim.held_by((await queue.load("anna", "first", Claim.of("gen 1", b"{}"), 60)).claimed) == "gen 0"
    with pytest.raises(RedisFull):
        await queue.load("anna", "second", claim, 60)
    assert (await queue.load("anna")).claimed is None


async def test_load_beyond_the_rate_reads_a_claim_and_makes_none(redis: Redis, queue: Queue) -> None:
    charge = Charge(1, 60_000.0)
    first, second = Claim.of("gen 0", b"{}"), Claim.of("gen 1", b"{}")
    await queue.load("anna", "key", first, 60, charge)
    loads = [await queue.load("anna", key, second, 60, charge) for key in ("key", "other")]
    assert all(load.usage.wait_ms for load in loads)
    assert second.held_by(loads[0].claimed) == "gen 0"
    assert loads[1].claimed is None
    assert not await redis.exists(keys.idempotency("anna", "other"))


async def test_request_that_was_beyond_the_rate_is_within_a_raised_one(redis: Redis, queue: Queue) -> None:
    few, many = Charge(1, 60_000.0, 2000.0), Charge(1, 1.0, 2000.0)
    await queue.load("anna", charge=few._replace(units=100))
    refused = await queue.load("anna", charge=few)
    assert 5_000_000 < refused.usage.wait_ms <= 5_998_000
    assert (await queue.load("anna", charge=many)).quota.refused == ""
    assert await redis.pttl(keys.owed("anna")) <= 102
    assert (await queue.load("anna", charge=few)).quota.refused == "", "it was within the rate of that time"
    assert (await queue.load("anna", charge=few)).quota.refused == "requests"


async def test_removal_takes_a_generation_out_of_its_owners_count_and_the_queue(
    redis: Redis, log: Log, queue: Queue
) -> None:
    record = record_of(id=new_generation_id())
    await submit(log, queue, record)
    state = await log.state(record.id)
    for _ in range(2):
        await queue.remove(record.id, "anna", state.job_id)
        assert (await queue.load("anna"))[:3] == (0, 0, None)
        assert not [name async for name in redis.scan_iter(f"*{state.job_id}*")]
