"""Leases that are held and given up: `renew.lua`, `touch_presence.lua`, `requeue.lua`."""

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from conftest import LEASE_MS
from support.log_writer import LogWriter
from support.stored_log import apply_fate, create_generation, expire_lease
from tailrace import keys
from tailrace.events import Options
from tailrace.log import Log, Outcome
from tailrace.log.measures import Measures
from tailrace.log.state import ABANDONED_MS

SLACK_MS = 30_000  # a slow machine may take this long between a call and the check of its result


async def test_renew_prolongs_the_lease(log: Log, redis: Redis, writer: LogWriter) -> None:
    await expire_lease(redis, writer.generation_id)
    before = await log.server.now()
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.OK]
    assert before + LEASE_MS <= (await log.state(writer.generation_id)).lease <= await log.server.now() + LEASE_MS


async def test_expire_ends_a_lease_and_a_worker_that_lives_renews_it(log: Log, writer: LogWriter) -> None:
    state = await log.state(writer.generation_id)
    assert await log.expire(state) is Outcome.OK
    assert (await log.state(writer.generation_id)).lease <= await log.server.now()
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.OK]
    assert (await log.state(writer.generation_id)).lease > await log.server.now()


async def test_expire_leaves_the_lease_of_a_later_epoch_alone(log: Log, writer: LogWriter) -> None:
    state = await log.state(writer.generation_id)
    await log.release(writer.generation_id, writer.epoch, "next job")
    await LogWriter.acquire(log, writer.generation_id, "next job")
    assert await log.expire(state) is Outcome.FENCED
    assert (await log.state(writer.generation_id)).lease > await log.server.now()


async def test_renew_keeps_the_measures_until_they_change(log: Log, writer: LogWriter) -> None:
    lease, measured = (writer.generation_id, writer.epoch, False), Measures(first_token=0.5)
    assert await log.measures(writer.generation_id) == Measures()
    await log.renew([lease], measures={writer.generation_id: msgspec.json.encode(measured)})
    await log.renew([lease])
    assert await log.measures(writer.generation_id) == measured


async def test_renew_keeps_the_response_of_an_upstream_for_the_next_attempt(log: Log, writer: LogWriter) -> None:
    generation_id = writer.generation_id
    lease = (generation_id, writer.epoch, False)
    await log.renew([lease], upstream_responses={generation_id: "gpu resp_1"})
    await log.renew([lease])
    await log.expire(await log.state(generation_id))
    assert (await log.state(generation_id)).upstream_response == "gpu resp_1"
    await log.release(generation_id, writer.epoch, "another job")
    later = await LogWriter.acquire(log, generation_id, "later")
    assert (await log.state(generation_id)).upstream_response == "gpu resp_1"
    await log.renew([lease], upstream_responses={generation_id: ""})
    assert (await log.state(generation_id)).upstream_response == "gpu resp_1", "the earlier attempt is fenced"
    await log.renew([(generation_id, later.epoch, False)], upstream_responses={generation_id: ""})
    assert (await log.state(generation_id)).upstream_response == ""


async def test_measures_end_with_their_generation(log: Log, writer: LogWriter) -> None:
    generation_id = writer.generation_id
    measured = Measures(first_token=0.5)
    measures = {generation_id: msgspec.json.encode(measured)}
    await log.renew([(generation_id, writer.epoch, False)], measures=measures)
    await log.release(generation_id, writer.epoch, "another job")
    await LogWriter.acquire(log, generation_id, "later")
    assert await log.measures(generation_id) == measured, "the next attempt begins with them"
    ender = await LogWriter.acquire(log, generation_id, "end", terminating="cancelled")
    assert await log.measures(generation_id) == measured, "a process that ends it needs them"
    await ender.finish("cancelled")
    assert await log.measures(generation_id) == Measures(), "`done` has them"


async def test_acquire_that_is_repeated_has_the_same_measures(log: Log, writer: LogWriter) -> None:
    generation_id = writer.generation_id
    measured, later = Measures(first_token=0.5), Measures(first_token=0.7)
    lease = (generation_id, writer.epoch, False)
    await log.renew([lease], measures={generation_id: msgspec.json.encode(measured)})
    await log.release(generation_id, writer.epoch, "another job")
    granted = await log.acquire(generation_id, "later", worker="second")
    await log.renew([lease], measures={generation_id: msgspec.json.encode(later)})
    again = await log.acquire(generation_id, "later", worker="second")
    assert (granted.measures, again.measures) == (measured, measured), "the earlier attempt is fenced"
    assert again.epoch == granted.epoch


async def test_renew_of_a_fenced_attempt_keeps_no_measures(log: Log, writer: LogWriter) -> None:
    await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
    measures = {writer.generation_id: msgspec.json.encode(Measures(first_token=0.5))}
    await log.renew([(writer.generation_id, writer.epoch, False)], measures=measures)
    assert await log.measures(writer.generation_id) == Measures()


RENEWALS = [
    ("nothing", Outcome.OK),
    ("taken over", Outcome.FENCED),
    ("finished", Outcome.DONE),
    ("lost", Outcome.UNKNOWN),
    ("expired", Outcome.UNKNOWN),
    ("deleted", Outcome.GONE),
]


async def test_renew_returns_an_outcome_for_each_generation(log: Log, redis: Redis) -> None:
    writers = [await LogWriter.acquire(log, await create_generation(log), "one") for _ in RENEWALS]
    for writer, (fate, _) in zip(writers, RENEWALS, strict=True):
        await apply_fate(fate, log, redis, writer)
    outcomes = await log.renew([(writer.generation_id, writer.epoch, False) for writer in writers])
    assert outcomes == [outcome for _, outcome in RENEWALS]
    assert not await redis.exists(*(keys.state(writer.generation_id) for writer in writers[3:]))


async def test_renew_reports_a_generation_that_is_no_longer_read(log: Log, redis: Redis, writer: LogWriter) -> None:
    long_ago = await log.server.now() - ABANDONED_MS - 1
    lease = writer.generation_id, writer.epoch, True
    assert await log.renew([lease]) == [Outcome.OK]
    await redis.execute_command("HSET", keys.state(writer.generation_id), "created", long_ago)
    assert await log.renew([lease, (*lease[:2], False)]) == [Outcome.ABANDONED, Outcome.OK]
    await log.touch_presence([writer.generation_id])
    assert await log.renew([lease]) == [Outcome.OK]
    await redis.execute_command("HSET", keys.state(writer.generation_id), "seen", long_ago)
    await expire_lease(redis, writer.generation_id)
    assert await log.renew([lease]) == [Outcome.ABANDONED]
    assert (await log.state(writer.generation_id)).lease > await log.server.now()


@pytest.mark.parametrize("fate", ["expired", "lost", "deleted"])
async def test_touch_presence_restores_nothing(log: Log, redis: Redis, writer: LogWriter, fate: str) -> None:
    await apply_fate(fate, log, redis, writer)
    await log.touch_presence([writer.generation_id])
    assert not await redis.exists(keys.state(writer.generation_id))


@pytest.mark.parametrize(("policy", "abandoned"), [("cancel", True), ("continue", False)])
async def test_abandonment_needs_the_policy_cancel_on_disconnect(log: Log, policy: Any, abandoned: bool) -> None:
    generation_id = await create_generation(log, options=Options(60, 60, on_disconnect=policy))
    state = await log.state(generation_id)
    limit = state.record.created + ABANDONED_MS
    assert (state.is_abandoned(limit, ABANDONED_MS), state.is_abandoned(limit + 1, ABANDONED_MS)) == (False, abandoned)
    await log.touch_presence([generation_id])
    soon = await log.server.now() + ABANDONED_MS - SLACK_MS // 2
    assert not (await log.state(generation_id)).is_abandoned(soon, ABANDONED_MS)


async def test_release_lets_the_next_worker_acquire_at_once(log: Log, writer: LogWriter) -> None:
    assert await log.release(writer.generation_id, writer.epoch, "another job") is Outcome.OK
    state = await log.state(writer.generation_id)
    assert (state.status, state.job_id, state.lease, state.failed_attempts) == ("queued", "another job", 0, 0)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="second")
    assert (later.state.status, later.state.attempt, later.state.failed_attempts) == ("running", 2, 0)


async def test_requeue_expired_is_refused_while_the_lease_is_held(log: Log, redis: Redis, writer: LogWriter) -> None:
    assert await log.requeue_expired(writer.generation_id, writer.epoch, "another job") is Outcome.HELD
    assert (await log.state(writer.generation_id)).status == "running"
    await expire_lease(redis, writer.generation_id)
    assert await log.requeue_expired(writer.generation_id, writer.epoch, "another job") is Outcome.OK
    state = await log.state(writer.generation_id)
    assert (state.status, state.job_id, state.failed_attempts) == ("queued", "another job", 1)


async def test_requeue_expired_spares_a_lost_run_once(log: Log, redis: Redis, writer: LogWriter) -> None:
    await expire_lease(redis, writer.generation_id)
    for job_id in ("retry", "retry", "another sweeper"):
        assert await log.requeue_expired(writer.generation_id, writer.epoch, job_id, spared=True) is Outcome.OK
    state = await log.state(writer.generation_id)
    assert (state.spared, state.lost_attempts, state.failed_attempts) == (1, 1, 0)


@pytest.mark.parametrize("spared", [True, False])
async def test_worker_that_stalled_runs_again_as_if_its_lease_had_not_expired(
    log: Log, redis: Redis, writer: LogWriter, spared: bool
) -> None:
    """So that its death after that is noticed when its lease expires, and not a lease later."""
    before = await log.state(writer.generation_id)
    await expire_lease(redis, writer.generation_id)
    for job_id in ("a job", "another sweeper's job"):
        assert await log.requeue_expired(writer.generation_id, writer.epoch, job_id, spared=spared) is Outcome.OK
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.OK]
    state = await log.state(writer.generation_id)
    assert (state.status, state.attempt, state.spared) == ("running", before.attempt, before.spared)
    assert state.lost_attempts == before.lost_attempts
    await expire_lease(redis, writer.generation_id)
    assert await log.requeue_expired(writer.generation_id, writer.epoch, "a third", spared=spared) is Outcome.OK
    state = await log.state(writer.generation_id)
    assert (state.spared, state.lost_attempts, state.failed_attempts) == (int(spared), 1, int(not spared))


async def test_worker_that_stalled_may_still_hand_over(log: Log, redis: Redis, writer: LogWriter) -> None:
    await expire_lease(redis, writer.generation_id)
    await log.requeue_expired(writer.generation_id, writer.epoch, "a job", spared=True)
    assert await log.release(writer.generation_id, writer.epoch, "another job") is Outcome.OK
    assert await log.renew([(writer.generation_id, writer.epoch, False)]) == [Outcome.OK]  # it was on its way
    state = await log.state(writer.generation_id)
    assert (state.status, state.job_id) == ("queued", "another job")
    assert (state.handovers, state.spared, state.lost_attempts, state.failed_attempts) == (1, 0, 0, 0)


async def test_acquire_and_renew_store_how_many_generations_the_worker_runs_beside_it(
    log: Log, generation_id: str
) -> None:
    grant = await log.acquire(generation_id, "one", worker="first", neighbours=3)
    assert (await log.state(generation_id)).neighbours == 3
    await log.renew([(generation_id, grant.epoch, False)], neighbours=1)
    assert (await log.state(generation_id)).neighbours == 1
    await log.acquire(generation_id, "end", neighbours=7, terminating="cancelled")
    assert (await log.state(generation_id)).neighbours == 1


@pytest.mark.parametrize(
    ("fate", "outcome"),
    [("finished", Outcome.DONE), ("deleted", Outcome.GONE), ("lost", Outcome.UNKNOWN)],
)
async def test_requeue_of_a_finished_deleted_or_missing_generation_is_refused(
    log: Log, redis: Redis, writer: LogWriter, fate: str, outcome: Outcome
) -> None:
    await apply_fate(fate, log, redis, writer)
    for release in (log.release, log.requeue_expired):
        assert await release(writer.generation_id, writer.epoch, "another job") is outcome


async def test_requeue_of_a_terminating_generation_is_refused(log: Log, redis: Redis, writer: LogWriter) -> None:
    finisher = await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
    await expire_lease(redis, writer.generation_id)
    for release in (log.release, log.requeue_expired):
        assert await release(writer.generation_id, finisher.epoch, "another job") is Outcome.TERMINATING
