"""`acquire.lua`: which caller gets the lease, and under which epoch."""

import json

import pytest
from redis.asyncio import Redis

from conftest import LEASE_MS
from support.log_writer import LogWriter
from support.logs import REQUEST
from support.stored_log import ANSWER, HOUR_MS, STARTED, apply_fate, entries_of, expire_lease
from tailrace import keys
from tailrace.events import FinalStatus
from tailrace.failures import failure
from tailrace.ids import START, EntryId
from tailrace.log import LeaseGrant, Log, Outcome
from tailrace.log.codec import Row, from_row

DAY_MS = 24 * HOUR_MS


async def test_acquire_returns_state_rows_and_redis_time(log: Log, generation_id: str) -> None:
    before = await log.server.now()
    grant = await log.acquire(generation_id, "one", worker="first")
    assert before <= grant.now <= await log.server.now()
    state = await log.state(generation_id)
    assert grant == LeaseGrant(
        Outcome.OK, state.epoch, grant.now, state, grant.rows, REQUEST, grant.stored_request, grant.rows[-1].id
    )
    assert json.loads(grant.stored_request) == REQUEST
    assert [from_row(row) for row in grant.rows] == await entries_of(log, generation_id)
    assert (state.status, state.attempt, state.worker) == ("running", 1, "first")
    assert state.epoch == max(grant.now, state.record.created + 1)
    assert state.lease == grant.now + LEASE_MS


async def test_acquire_names_the_worker_that_ran_the_generation_before(log: Log, generation_id: str) -> None:
    first = await log.acquire(generation_id, "one", worker="first")
    assert first.state is not None
    assert first.state.taken_from == ""
    assert await log.release(generation_id, first.epoch, "another-job") is Outcome.OK
    for _ in range(2):  # the reply may be lost, and the call repeated
        second = await log.acquire(generation_id, "two", worker="second")
        assert second.state is not None
        assert (second.state.worker, second.state.taken_from) == ("second", "first")


async def test_acquire_reads_a_long_log_in_pages(log: Log, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    await writer.write_text(*(f" {n}" for n in range(5000)))
    later = await log.acquire(writer.generation_id, "two", worker="first")
    assert later.rows == writer.rows


async def test_acquire_of_a_log_that_loses_rows_meanwhile_is_repeated(
    log: Log, redis: Redis, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.write(*ANSWER)
    rows = log.rows

    async def lose_the_last_row(generation_id: str, until: EntryId) -> list[Row]:
        monkeypatch.undo()
        await redis.xdel(keys.log(generation_id), str(until))
        return await rows(generation_id, until)

    monkeypatch.setattr(log, "rows", lose_the_last_row)
    later = await log.acquire(writer.generation_id, "two", worker="first")
    assert [row.id for row in later.rows] == [entry.id for entry in writer.entries[:-1]]
    assert later.last_id == later.rows[-1].id


async def test_acquire_of_a_log_that_is_missing_has_no_rows(log: Log, redis: Redis, writer: LogWriter) -> None:
    await redis.delete(keys.log(writer.generation_id))
    later = await log.acquire(writer.generation_id, "two", worker="first")
    assert (later.outcome, later.rows, later.last_id) == (Outcome.OK, (), START)


async def test_acquire_counts_attempts(log: Log, redis: Redis, writer: LogWriter) -> None:
    await writer.write(*ANSWER)
    await expire_lease(redis, writer.generation_id)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="second")
    assert later.state.attempt == 2


async def test_acquire_by_the_same_token_returns_the_same_grant(log: Log, generation_id: str) -> None:
    first = await log.acquire(generation_id, "one", worker="first")
    again = await log.acquire(generation_id, "one", worker="first")
    assert again == first._replace(now=again.now)


async def test_acquire_is_refused_while_another_workers_lease_lives(log: Log, writer: LogWriter) -> None:
    assert await log.acquire(writer.generation_id, "two", worker="second") == LeaseGrant(Outcome.HELD)
    assert (await writer.finish()).outcome is Outcome.OK


async def test_acquire_by_the_worker_that_holds_the_lease_is_granted(log: Log, writer: LogWriter) -> None:
    assert (await LogWriter.acquire(log, writer.generation_id, "two", worker="first")).epoch > writer.epoch


async def test_acquire_is_granted_once_the_lease_has_expired(log: Log, redis: Redis, writer: LogWriter) -> None:
    await expire_lease(redis, writer.generation_id)
    assert (await LogWriter.acquire(log, writer.generation_id, "two", worker="second")).epoch > writer.epoch


async def test_acquire_to_end_is_never_refused(log: Log, writer: LogWriter) -> None:
    one = await LogWriter.acquire(log, writer.generation_id, "end one", terminating="cancelled")
    two = await LogWriter.acquire(log, writer.generation_id, "end two", terminating="failed")
    assert writer.epoch < one.epoch < two.epoch
    assert (two.state.terminating, two.state.worker, two.state.attempt) == ("failed", "first", 1)


async def test_acquire_to_end_stores_the_error_of_the_newest_end_alone(log: Log, writer: LogWriter) -> None:
    first = await log.acquire(writer.generation_id, "end one", terminating="failed", error=failure("worker_lost"))
    second = await log.acquire(writer.generation_id, "end two", terminating="cancelled")
    assert first.state is not None
    assert second.state is not None
    assert first.state.terminating_error == failure("worker_lost")
    assert second.state.terminating_error is None


async def test_acquire_to_run_is_refused_while_the_generation_is_terminating(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
    await expire_lease(redis, writer.generation_id)
    assert await log.acquire(writer.generation_id, "two", worker="second") == LeaseGrant(Outcome.TERMINATING)


@pytest.mark.parametrize("terminating", [None, "failed"])
@pytest.mark.parametrize(
    ("fate", "outcome"),
    [("finished", Outcome.DONE), ("deleted", Outcome.GONE), ("expired", Outcome.UNKNOWN), ("lost", Outcome.UNKNOWN)],
)
async def test_acquire_of_a_finished_deleted_or_missing_generation_is_refused(
    log: Log, redis: Redis, writer: LogWriter, fate: str, outcome: Outcome, terminating: FinalStatus | None
) -> None:
    await apply_fate(fate, log, redis, writer)
    assert await log.acquire(writer.generation_id, "two", terminating=terminating) == LeaseGrant(outcome)


async def test_acquire_increases_the_epoch_even_if_the_clock_went_back(
    log: Log, redis: Redis, writer: LogWriter
) -> None:
    future = writer.epoch + 10 * DAY_MS
    await redis.execute_command("HSET", keys.state(writer.generation_id), "epoch", future)
    later = await LogWriter.acquire(log, writer.generation_id, "two", worker="first")
    assert later.epoch == future + 1
    await later.write(STARTED)
    assert (await entries_of(log, writer.generation_id))[-1].id == EntryId(future + 1, 1)
