"""What the sweeper finds, and does, on the real server. Time is moved by writing the head's own fields."""

from typing import Any

import pytest
from arq.constants import in_progress_key_prefix
from redis.asyncio import Redis

from support.queues import queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.events import Done, GenerationRecord, Options
from tailrace.ids import new_generation_id, new_token
from tailrace.lifecycle import sweeper
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.log import Log
from tailrace.log.state import ABANDONED_MS

MAX_ATTEMPTS = 2


class House:
    """A log, its queue, and a sweeper that looks whenever it is asked."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.redis = redis
        self.log = log
        self.queue = queue_on(redis)
        self.sweeper = Sweeper(log, self.queue, max_attempts=MAX_ATTEMPTS)

    async def sweep(self) -> None:
        """As any process of the fleet would in the next period."""
        await self.redis.delete(*(keys.swept(shard) for shard in range(keys.UNFINISHED_SETS)))
        await self.sweeper.sweep()

    async def submitted(self, **options: Any) -> str:
        record = GenerationRecord(new_generation_id(), "me", "m", Options(60, 60, **options))
        await submit(self.log, self.queue, record)
        return record.id

    async def running(self, **options: Any) -> str:
        generation_id = await self.submitted(**options)
        await self.run(generation_id)
        return generation_id

    async def run(self, generation_id: str) -> None:
        """A worker takes it from the queue, and over."""
        await self.queue.jobs.mark_started((await self.log.state(generation_id)).job_id)
        await self.log.acquire(generation_id, new_token(), worker="w")

    async def set(self, generation_id: str, **fields: int | str) -> None:
        for name, value in fields.items():
            await self.redis.execute_command("HSET", keys.state(generation_id), name, value)

    async def end(self, generation_id: str) -> Done:
        done = await done_of_log(self.log, generation_id)
        assert done is not None
        return done

    async def unfinished(self) -> list[str]:
        return [each for shard in range(keys.UNFINISHED_SETS) for each in await self.queue.index.list_unfinished(shard)]


@pytest.fixture
def house(redis: Redis, log: Log, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -log.lease_ms / 1000)  # the test's server may have just started
    return House(redis, log)


async def test_what_runs_and_what_waits_is_left_alone(house: House) -> None:
    running, waiting = await house.running(), await house.submitted()
    before = await house.log.states([running, waiting])
    await house.sweep()
    assert await house.log.states([running, waiting]) == before


async def test_what_cannot_be_read_is_left_alone_said_once_and_keeps_nobody_else(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    later, lost = await house.running(), await house.running()
    record = (await house.log.server.client.hget(keys.state(later), "record")).decode()  # type: ignore[misc]
    unknown = record.replace('"on_interrupt":"restart"', '"on_interrupt":"continue"')
    if unknown == record:
        unknown = record.replace('"deadline_s":60', '"deadline_s":60,"on_interrupt":"continue"')
    assert unknown != record
    await house.set(later, record=unknown)
    await house.set(lost, lease=1)
    for _ in range(3):
        await house.sweep()
    assert (await house.log.state(lost)).status == "queued"
    assert later in await house.unfinished()
    assert [record.message for record in caplog.records if later in record.message] == [
        f"{later}: cannot be looked after: unreadable state"
    ]
    await house.set(later, record=record)
    assert (await house.log.state(later)).status == "running"


async def test_a_lost_worker_s_generation_waits_for_another(house: House) -> None:
    generation_id = await house.running()
    job_id = (await house.log.state(generation_id)).job_id
    await house.set(generation_id, lease=1)
    await house.sweep()
    state = await house.log.state(generation_id)
    assert state.status == "queued"
    assert state.job_id != job_id
    assert await house.queue.jobs.position(state.job_id) == 1


async def test_one_whose_attempts_are_spent_ends_as_failed(house: House) -> None:
    generation_id = await house.running()
    for _ in range(MAX_ATTEMPTS - 1):
        await house.set(generation_id, lease=1)
        await house.run(generation_id)
    await house.set(generation_id, lease=1)
    await house.sweep()
    done = await house.end(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")
    assert await house.unfinished() == []


async def test_one_that_was_handed_over_has_not_spent_an_attempt(house: House) -> None:
    generation_id = await house.running()
    for _ in range(MAX_ATTEMPTS + 1):
        state = await house.log.state(generation_id)
        await house.log.release(generation_id, state.epoch, f"dispatch {state.epoch}")
        await house.run(generation_id)
    await house.set(generation_id, lease=1)
    await house.sweep()
    assert (await house.log.state(generation_id)).status == "queued"


@pytest.mark.parametrize("taken", [False, True])
async def test_one_that_no_worker_would_find_is_dispatched_anew_after_a_lease(
    house: House, redis: Redis, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    generation_id = await house.submitted()
    job_id = (await house.log.state(generation_id)).job_id
    if taken:  # by a worker that died before it took over
        await redis.set(in_progress_key_prefix + job_id, b"1")
    else:
        await redis.zrem(keys.QUEUE, job_id)
    await house.sweep()
    assert (await house.log.state(generation_id)).job_id == job_id
    monkeypatch.setattr(house.sweeper, "_for_longer_than", lambda *_: True)
    await house.sweep()
    state = await house.log.state(generation_id)
    assert state.job_id != job_id
    assert await house.queue.jobs.position(state.job_id) == 1
    assert not [key async for key in redis.scan_iter(f"arq:*{job_id}")]


async def test_an_end_that_was_begun_is_written(house: House) -> None:
    generation_id = await house.running()
    await house.log.acquire(generation_id, "a canceller that died", terminating="cancelled")
    await house.sweep()
    assert (await house.log.state(generation_id)).status == "running"  # it may still be at it
    await house.set(generation_id, lease=1)
    await house.sweep()
    assert (await house.end(generation_id)).status == "cancelled"


async def test_one_past_its_deadline_ends_as_failed(house: House) -> None:
    generation_id = await house.submitted()
    await house.set(generation_id, deadline=1)
    await house.sweep()
    done = await house.end(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")
    assert await house.queue.jobs.depth() == 0


async def test_one_that_nobody_reads_is_cancelled_if_it_was_asked_to_be(house: House) -> None:
    generation_id = await house.submitted(on_disconnect="cancel")
    await house.sweep()
    assert (await house.log.state(generation_id)).status == "queued"
    await house.set(generation_id, seen=await house.log.server.now() - ABANDONED_MS - 1)
    await house.sweep()
    done = await house.end(generation_id)
    assert (done.status, done.error and done.error.code) == ("cancelled", "client_disconnected")


async def test_what_has_ended_and_what_never_was_leave_the_set(
    house: House, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id, never = await house.submitted(), new_generation_id()
    await house.set(generation_id, status="completed")
    await redis.execute_command("SADD", keys.unfinished(never), never)
    await house.sweep()
    assert await house.unfinished() == [never]
    monkeypatch.setattr(sweeper, "NEVER_CREATED_S", 0.0)
    await house.sweep()
    assert await house.unfinished() == []


async def test_of_the_whole_fleet_one_looks_in_each_period(house: House, redis: Redis) -> None:
    generation_id = await house.running()
    await house.sweep()
    await house.set(generation_id, lease=1)
    await Sweeper(house.log, house.queue, max_attempts=MAX_ATTEMPTS).sweep()
    assert (await house.log.state(generation_id)).status == "running"


async def test_nothing_is_swept_while_a_server_is_young(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", 3600.0)
    generation_id = await house.running()
    await house.set(generation_id, lease=1)
    await house.sweep()
    assert (await house.log.state(generation_id)).status == "running"
