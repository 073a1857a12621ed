import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on, terminate
from support.logs import record as record_of
from support.queues import queue_on, submit
from tailrace import keys
from tailrace.ids import new_generation_id
from tailrace.lifecycle import finalization, sweeper
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.log import Log
from tailrace.log.state import GenerationState
from tailrace.queue import Queue


@pytest.fixture
def queue(redis: Redis, log: Log) -> Queue:
    return queue_on(redis)


@pytest.fixture
async def state(queue: Queue, log: Log) -> GenerationState:
    """Of a generation that waits for a worker."""
    record = record_of(id=new_generation_id())
    await submit(log, queue, record)
    return await log.state(record.id)


@pytest.fixture
def finalized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that a second step was given, before the step that removes them from the indexes."""
    seen: list[str] = []

    async def record_it(log: Log, _: Queue, state: GenerationState) -> None:
        assert state.record.id in await unfinished(log)
        seen.append(state.record.id)

    monkeypatch.setattr(finalization, "STEPS", (record_it, *finalization.STEPS))
    return seen


async def unfinished(log: Log) -> list[str]:
    return [each for shard in await log.unfinished.shards() for each in await shard.list()]


async def test_finalize_removes_a_generation_from_the_indexes_and_its_job(
    redis: Redis, log: Log, queue: Queue, state: GenerationState
) -> None:
    for _ in range(2):
        await finalize(log, queue, state)
        assert await unfinished(log) == []
        assert (await queue.load("anna"))[:2] == (0, 0)
        assert await redis.keys(f"*{state.job_id}*") == []


async def test_removal_from_the_index_is_the_last_step() -> None:
    """The sweeper finds a generation there whose finalization was cut short."""
    assert finalization.STEPS[-1] is finalization.remove_from_index


async def test_terminate_runs_every_step(log: Log, queue: Queue, state: GenerationState, finalized: list[str]) -> None:
    await terminate(log, queue, state.record.id, "cancelled")
    assert finalized == [state.record.id]
    assert await unfinished(log) == []


async def test_sweeper_runs_every_step_for_an_end_that_was_not_finalized(
    log: Log, queue: Queue, state: GenerationState, finalized: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -log.lease_ms / 1000)  # the test's server may have just started
    await log.server.client.hset(keys.state(state.record.id), "status", "completed")  # type: ignore[misc]
    await Sweeper(log, queue, confirmations_on(log, queue), max_attempts=5, connected_for=lambda: 0.0).sweep()
    assert finalized == [state.record.id]
    assert await unfinished(log) == []
