"""The sweeper on a real server. Time passes by writing the fields of the state."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from arq.constants import in_progress_key_prefix
from redis.asyncio import Redis

from support.api import eventually
from support.ends import confirmations_on
from support.queues import LEASE_MS, queue_on, submit
from support.stored_log import done_of_log
from tailrace import keys
from tailrace.errors import CorruptEntry, RedisRefused, RedisUnavailable
from tailrace.events import Done, Failure, FinalStatus, GenerationRecord, Options
from tailrace.failures import failure
from tailrace.ids import new_generation_id, new_token
from tailrace.lifecycle import sweeper
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.log import Log, Outcome
from tailrace.log.state import ABANDONED_MS, GenerationState
from tailrace.queue import QUARANTINE, Right
from tailrace.redis.server_run import ServerRun

MAX_ATTEMPTS = 2
LEASE_S = LEASE_MS / 1000


class Harness:
    """A log, its queue, and a sweeper that sweeps on demand."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.redis = redis
        self.log = log
        self.queue = queue_on(redis)
        self.connected_for = math.inf
        self.confirmations = confirmations_on(log, self.queue)
        self.sweeper = self.make_sweeper()

    def make_sweeper(self, max_attempts: int = MAX_ATTEMPTS) -> Sweeper:
        return Sweeper(
            self.log,
            self.queue,
            self.confirmations,
            max_attempts=max_attempts,
            connected_for=lambda: self.connected_for,
        )

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

    async def run(self, generation_id: str, neighbours: int = 0) -> None:
        """A worker takes its job and acquires it."""
        await self.queue.jobs.mark_started((await self.log.state(generation_id)).job_id)
        await self.log.acquire(generation_id, new_token(), worker="w", neighbours=neighbours)

    async def lose(self, generation_id: str) -> GenerationState:
        """Its worker dies, and a sweeper finds out."""
        await self.set(generation_id, lease=1)
        await self.sweep()
        return await self.log.state(generation_id)

    async def set(self, generation_id: str, **fields: int | str) -> None:
        for name, value in fields.items():
            await self.redis.execute_command("HSET", keys.state(generation_id), name, value)

    async def done(self, generation_id: str) -> Done:
        done = await done_of_log(self.log, generation_id)
        assert done is not None
        return done

    async def suspected_since(self, generation_id: str, seconds: float) -> None:
        """An earlier sweep, of any process, has found it stuck."""
        await self.sweep()
        (shard,) = [each.name for each in await self.log.unfinished.shards() if generation_id in await each.list()]
        since = await self.log.server.now() - int(1000 * seconds) - 1
        assert await self.redis.zadd(keys.suspected(shard), {generation_id: since}, xx=True, ch=True) == 1

    async def unfinished(self) -> list[str]:
        return [each for shard in await self.log.unfinished.shards() for each in await shard.list()]


def returning(value: Any) -> Callable[..., Awaitable[Any]]:
    async def call(*_: Any) -> Any:
        return value

    return call


def raising(*errors: BaseException) -> Callable[..., Awaitable[Any]]:
    """A call that raises one error a time."""
    left = iter(errors)

    async def call(*_: Any, **__: Any) -> Any:
        raise next(left)

    return call


@pytest.fixture
def harness(redis: Redis, log: Log, monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -log.lease_ms / 1000)  # the test's server may have just started
    return Harness(redis, log)


async def test_sweeper_leaves_running_and_waiting_generations_alone(harness: Harness) -> None:
    running, waiting = await harness.running(), await harness.submitted()
    before = await harness.log.states([running, waiting])
    await harness.sweep()
    assert await harness.log.states([running, waiting]) == before


async def test_sweeper_logs_an_unreadable_state_once_and_sweeps_the_others(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    later, lost = await harness.running(), await harness.running()
    record = (await harness.log.server.client.hget(keys.state(later), "record")).decode()  # type: ignore[misc]
    unknown = record.replace('"on_interrupt":"restart"', '"on_interrupt":"resume"')
    if unknown == record:
        unknown = record.replace('"deadline_s":60', '"deadline_s":60,"on_interrupt":"resume"')
    assert unknown != record
    await harness.set(later, record=unknown, lease=1)
    await harness.set(lost, lease=1)
    for _ in range(3):
        await harness.sweep()
    assert (await harness.log.state(lost)).status == "queued"
    assert later in await harness.unfinished()
    assert [record.message for record in caplog.records if later in record.message] == [
        f"{later}: sweep failed for this generation: unreadable state"
    ]
    await harness.set(later, record=record)
    assert (await harness.log.state(later)).status == "running"


async def test_sweeper_queues_a_generation_whose_worker_is_lost(harness: Harness) -> None:
    generation_id = await harness.running()
    job_id = (await harness.log.state(generation_id)).job_id
    await harness.set(generation_id, lease=1)
    await harness.sweep()
    state = await harness.log.state(generation_id)
    assert state.status == "queued"
    assert state.job_id != job_id
    assert await harness.queue.jobs.position(state.job_id) == 1


async def test_sweeper_fails_a_generation_whose_attempts_are_spent(harness: Harness) -> None:
    generation_id = await harness.submitted()
    for _ in range(MAX_ATTEMPTS):
        await harness.run(generation_id)
        await harness.lose(generation_id)
    done = await harness.done(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")
    assert await harness.unfinished() == []


async def test_sweeper_spares_a_generation_whose_worker_ran_others(harness: Harness) -> None:
    generation_id = await harness.submitted()
    await harness.run(generation_id, neighbours=1)
    state = await harness.lose(generation_id)
    assert (state.status, state.spared, state.failed_attempts) == ("queued", 1, 0)


async def test_sweeper_fails_a_generation_that_is_lost_beside_others_again_and_again(harness: Harness) -> None:
    harness.sweeper = harness.make_sweeper(max_attempts=5)
    generation_id, jobs = await harness.submitted(), []
    for _ in range(8):
        await harness.run(generation_id, neighbours=9)
        jobs.append((await harness.lose(generation_id)).job_id.startswith(QUARANTINE))
    assert jobs[:7] == [False, False, True, True, True, True, True]
    done = await harness.done(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "attempts_exhausted")


async def test_sweeper_does_not_charge_handovers(harness: Harness) -> None:
    generation_id = await harness.running()
    for _ in range(MAX_ATTEMPTS + 1):
        state = await harness.log.state(generation_id)
        await harness.log.release(generation_id, state.epoch, f"job {state.epoch}")
        await harness.run(generation_id)
    await harness.set(generation_id, lease=1)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "queued"


@pytest.mark.parametrize("taken", [False, True])
async def test_sweeper_enqueues_a_job_that_no_worker_would_find_after_a_lease(
    harness: Harness, redis: Redis, taken: bool
) -> None:
    generation_id = await harness.submitted()
    job_id = (await harness.log.state(generation_id)).job_id
    if taken:  # by a worker that died before it took over
        await redis.set(in_progress_key_prefix + job_id, b"1")
    else:
        await redis.zrem(keys.QUEUE, job_id)
    await harness.suspected_since(generation_id, LEASE_S - 1)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).job_id == job_id
    await harness.suspected_since(generation_id, LEASE_S)
    await harness.sweep()
    state = await harness.log.state(generation_id)
    assert state.job_id != job_id
    assert await harness.queue.jobs.position(state.job_id) == 1
    assert not [key async for key in redis.scan_iter(f"arq:*{job_id}")]


async def test_sweeper_gives_a_job_of_an_earlier_version_its_place_after_a_lease(
    harness: Harness, redis: Redis
) -> None:
    """That version scored it by its clock: behind all that this version enqueues."""
    old = await harness.submitted()
    await redis.zadd(keys.QUEUE, {(await harness.log.state(old)).job_id: await harness.log.server.now()})
    for _ in range(3):
        await harness.submitted()
    await harness.suspected_since(old, LEASE_S)
    await harness.sweep()
    scores = [score for _, score in await redis.zrange(keys.QUEUE, 0, -1, withscores=True)]
    assert len(scores) == 4
    assert max(scores) < 10
    assert (await harness.log.state(old)).status == "queued"


async def test_sweeper_queues_a_lost_run_before_its_callers_backlog(harness: Harness) -> None:
    lost = await harness.running()
    for _ in range(20):
        await harness.submitted()
    state = await harness.lose(lost)
    assert await harness.queue.jobs.position(state.job_id) in (1, 2)


async def test_sweeper_moves_back_what_was_parked_behind_a_dead_worker(harness: Harness, redis: Redis) -> None:
    harness.queue.jobs.right_of = lambda _: Right(1.0, 1)
    for _ in range(2):
        job_id = (await harness.log.state(await harness.submitted())).job_id
        await eventually(partial(harness.queue.jobs.take, job_id, "worker", 60_000), 30)  # the server may be young
        await harness.queue.jobs.mark_started(job_id)
    assert await harness.queue.jobs.position(job_id) == 1
    assert await redis.zcard(keys.QUEUE) == 0
    await redis.delete(keys.running("me"))  # its lease has expired
    await harness.sweep()
    assert await redis.zrange(keys.QUEUE, 0, -1) == [job_id.encode()]


@pytest.mark.parametrize("status", ["cancelled", "failed"])
@pytest.mark.parametrize("error", [None, failure("client_disconnected"), Failure("From the upstream.", "of_its_own")])
async def test_sweeper_writes_an_end_that_was_begun_with_its_error(
    harness: Harness, status: FinalStatus, error: Failure | None
) -> None:
    generation_id = await harness.running()
    await harness.log.acquire(generation_id, "a canceller that dies", terminating=status, error=error)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "running"  # the canceller may still be writing it
    await harness.set(generation_id, lease=1)
    await harness.sweep()
    done = await harness.done(generation_id)
    assert (done.status, done.error) == (status, error)


async def test_sweeper_fails_a_generation_past_its_deadline(harness: Harness) -> None:
    generation_id = await harness.submitted()
    await harness.set(generation_id, deadline=1)
    await harness.sweep()
    done = await harness.done(generation_id)
    assert (done.status, done.error and done.error.code) == ("failed", "deadline_exceeded")
    assert await harness.queue.jobs.depth() == 0


async def test_sweeper_cancels_an_abandoned_generation(harness: Harness) -> None:
    generation_id = await harness.submitted(on_disconnect="cancel")
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "queued"
    await harness.set(generation_id, seen=await harness.log.server.now() - ABANDONED_MS - 1)
    await harness.sweep()
    done = await harness.done(generation_id)
    assert (done.status, done.error and done.error.code) == ("cancelled", "client_disconnected")


async def test_sweeper_cancels_no_generation_while_redis_was_away_in_its_grace(harness: Harness) -> None:
    generation_id = await harness.running(on_disconnect="cancel")
    await harness.set(generation_id, lease=1, seen=await harness.log.server.now() - 10 * ABANDONED_MS)
    harness.connected_for = ABANDONED_MS / 1000 - 1
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "queued"
    harness.connected_for = ABANDONED_MS / 1000 + 1
    await harness.sweep()
    assert (await harness.done(generation_id)).status == "cancelled"


async def test_sweeper_removes_ended_and_never_created_generations_from_the_index(
    harness: Harness, redis: Redis
) -> None:
    generation_id, never = await harness.submitted(), new_generation_id()
    await harness.set(generation_id, status="completed")
    await redis.execute_command("SADD", keys.unfinished(never), never)
    await harness.suspected_since(never, sweeper.NEVER_CREATED_S - 5)
    await harness.sweep()
    assert await harness.unfinished() == [never]
    await harness.suspected_since(never, sweeper.NEVER_CREATED_S)
    await harness.sweep()
    assert await harness.unfinished() == []


async def test_sweeper_enqueues_after_a_lease_however_many_processes_take_turns(harness: Harness, redis: Redis) -> None:
    """Which process sweeps a shard is chance, so the suspicion is not kept by one of them."""
    generation_id = await harness.submitted()
    job_id = (await harness.log.state(generation_id)).job_id
    await redis.zrem(keys.QUEUE, job_id)
    await harness.suspected_since(generation_id, LEASE_S)
    harness.sweeper = Sweeper(
        harness.log, harness.queue, confirmations_on(harness.log, harness.queue),
        max_attempts=MAX_ATTEMPTS, connected_for=lambda: math.inf,
    )  # fmt: skip
    await harness.sweep()
    assert (await harness.log.state(generation_id)).job_id != job_id


async def test_sweeper_suspects_anew_what_a_worker_would_have_found_in_between(harness: Harness, redis: Redis) -> None:
    generation_id = await harness.submitted()
    job_id = (await harness.log.state(generation_id)).job_id
    score = await redis.zscore(keys.QUEUE, job_id)
    assert score is not None
    await redis.zrem(keys.QUEUE, job_id)
    await harness.suspected_since(generation_id, LEASE_S)
    await redis.zadd(keys.QUEUE, {job_id: score})
    await harness.sweep()
    await redis.zrem(keys.QUEUE, job_id)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).job_id == job_id


async def test_sweeper_of_one_process_claims_a_shard_for_the_period(harness: Harness, redis: Redis) -> None:
    generation_id = await harness.running()
    await harness.sweep()
    await harness.set(generation_id, lease=1)
    await harness.make_sweeper().sweep()
    assert (await harness.log.state(generation_id)).status == "running"


async def test_sweeper_holds_off_while_the_server_is_young(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", 3600.0)
    generation_id = await harness.running()
    await harness.set(generation_id, lease=1)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "running"


async def test_sweeper_reads_no_state_of_what_runs_or_waits(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    running, waiting, lost, not_queued = (
        await harness.running(), await harness.submitted(), await harness.running(), await harness.submitted(),
    )  # fmt: skip
    await harness.set(lost, lease=1)
    await harness.queue.jobs.remove((await harness.log.state(not_queued)).job_id)
    read: list[str] = []
    states = harness.log.states

    async def noted(ids: Sequence[str]) -> list[GenerationState | CorruptEntry | None]:
        read.extend(ids)
        return await states(ids)

    monkeypatch.setattr(harness.log, "states", noted)
    await harness.sweep()
    assert sorted(read) == sorted([lost, not_queued])
    assert {running, waiting}.isdisjoint(read)


async def test_sweeper_that_finds_another_server_while_it_sweeps_judges_nothing(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states may be older data, which live workers are about to replace."""
    generation_id = await harness.running()
    await harness.sweep()
    await harness.set(generation_id, lease=1)
    states = harness.log.states

    async def restart_after_reading(ids: Sequence[str]) -> list[GenerationState | CorruptEntry | None]:
        read = await states(ids)
        monkeypatch.setattr(harness.log.server, "run", returning(ServerRun("another", 0.0)))
        return read

    monkeypatch.setattr(sweeper, "HOLD_OFF_S", 3600.0)
    monkeypatch.setattr(harness.log, "states", restart_after_reading)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "running"


@pytest.mark.parametrize("fate", ["deleted", "lost"])
async def test_sweeper_removes_a_generation_that_vanishes_while_it_is_judged(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    generation_id = await harness.submitted()
    await harness.set(generation_id, deadline=1)
    read = await harness.log.states([generation_id])
    monkeypatch.setattr(harness.log, "states", returning(read))
    if fate == "deleted":
        await harness.log.delete(generation_id)
    else:
        await harness.redis.delete(*keys.of_generation(generation_id))
    assert await harness.unfinished() == [generation_id]
    await harness.sweep()
    assert await harness.unfinished() == []


async def test_sweeper_ends_what_has_to_end_on_a_full_server(
    harness: Harness, fill_memory: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    lost, late = await harness.running(), await harness.running()
    await harness.set(lost, lease=1)
    await harness.set(late, lease=1, deadline=1)
    await fill_memory()
    await harness.sweep()
    assert (await harness.done(late)).status == "failed"
    assert (await harness.log.state(lost)).status != "failed"
    assert [record.levelname for record in caplog.records if lost in record.message and "sweep" in record.message] == [
        "WARNING"
    ]


async def test_sweep_stops_where_redis_becomes_unavailable(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generation_id = await harness.running()
    await harness.set(generation_id, lease=1)
    monkeypatch.setattr(harness.log, "requeue_expired", raising(RedisUnavailable()))
    with pytest.raises(RedisUnavailable):
        await harness.sweep()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_sweeper_enqueues_no_run_of_a_generation_whose_lease_was_renewed_meanwhile(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = await harness.running()
    state = await harness.log.state(generation_id)
    await harness.set(generation_id, lease=1)
    requeue = harness.log.requeue_expired

    async def renew_first(*arguments: Any, **options: Any) -> Outcome:
        await harness.log.renew([(generation_id, state.epoch, False)])
        return await requeue(*arguments, **options)

    monkeypatch.setattr(harness.log, "requeue_expired", renew_first)
    await harness.sweep()
    assert (await harness.log.state(generation_id)).status == "running"
    assert await harness.queue.jobs.depth() == 0


async def test_sweeper_goes_on_after_every_kind_of_error(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [RedisUnavailable(), RedisRefused(detail="no permission"), ZeroDivisionError(), asyncio.CancelledError()]
    monkeypatch.setattr(harness.sweeper, "_period_s", 0.0)
    monkeypatch.setattr(harness.sweeper, "sweep", raising(*errors))
    with pytest.raises(asyncio.CancelledError):
        await harness.sweeper.run()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]  # an outage is logged elsewhere


async def test_server_that_does_not_reply_keeps_the_sweep_from_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [SimpleNamespace(server=name) for name in ("slow", "quick")]
    swept, may_go_on = list[str](), asyncio.Event()

    async def listed() -> list[SimpleNamespace]:
        return shards

    async def sweep_server(server: str, _: object) -> None:
        if server == "slow":
            await may_go_on.wait()
        swept.append(server)

    async def webhooks(*_: object) -> None:
        swept.append("webhooks")

    monkeypatch.setattr(harness.log.unfinished, "shards", listed)
    monkeypatch.setattr(harness.sweeper, "_sweep_server", sweep_server)
    monkeypatch.setattr(harness.sweeper, "_period_s", 0.02)
    monkeypatch.setattr(sweeper, "enqueue_due_webhooks", webhooks)
    for _ in range(2):
        await harness.sweeper.sweep()
    assert sorted(swept) == ["quick", "quick", "webhooks", "webhooks"]
    may_go_on.set()
    for _ in range(2):
        await harness.sweeper.sweep()
    assert swept.count("slow") == 2
    assert not harness.sweeper._sweeping


async def test_error_of_one_server_is_raised_once_all_others_were_swept(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = list[str]()

    async def listed() -> list[SimpleNamespace]:
        return [SimpleNamespace(server=name) for name in ("away", "there")]

    async def sweep_server(server: str, _: object) -> None:
        if server == "away":
            raise RedisUnavailable(detail=server)
        await asyncio.sleep(0.01)
        swept.append(server)

    monkeypatch.setattr(harness.log.unfinished, "shards", listed)
    monkeypatch.setattr(harness.sweeper, "_sweep_server", sweep_server)
    for count in (1, 2):
        with pytest.raises(RedisUnavailable):
            await harness.sweeper.sweep()
        assert len(swept) == count


async def test_further_errors_of_a_sweep_are_logged(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of one server does not hide a defect that concerns another one."""

    async def listed() -> list[SimpleNamespace]:
        return [SimpleNamespace(server=name) for name in ("away", "defect")]

    async def sweep_server(server: str, _: object) -> None:
        if server == "away":
            raise RedisUnavailable(detail=server)
        raise ZeroDivisionError(server)

    monkeypatch.setattr(harness.log.unfinished, "shards", listed)
    monkeypatch.setattr(harness.sweeper, "_sweep_server", sweep_server)
    with pytest.raises(RedisUnavailable):
        await harness.sweeper.sweep()
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert logged.exc_info
    assert logged.exc_info[0] is ZeroDivisionError
