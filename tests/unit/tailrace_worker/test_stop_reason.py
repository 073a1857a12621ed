"""Why an attempt stopped, on a real log."""

import asyncio

import pytest
from redis.asyncio import Redis

from support.stored_log import create_generation, lose
from tailrace.errors import RedisUnavailable
from tailrace.failures import failure
from tailrace.log import Log, Outcome
from tailrace.log.state import GenerationState
from tailrace_worker import stop_reason as module
from tailrace_worker.stop_reason import stop_reason

UNKNOWN = "another process ends it, or has taken it over"


@pytest.fixture
async def state(log: Log) -> GenerationState:
    """Under the lease of this worker."""
    generation_id = await create_generation(log)
    grant = await log.acquire(generation_id, "one", worker="this worker")
    assert grant.state is not None
    return grant.state


async def test_reason_of_a_cancel_is_its_status(log: Log, state: GenerationState) -> None:
    await log.acquire(state.record.id, "end", terminating="cancelled")
    assert await stop_reason(log, state, Outcome.FENCED) == "another process ends it as cancelled"


async def test_reason_of_another_end_has_the_code_of_its_error(log: Log, state: GenerationState) -> None:
    await log.acquire(state.record.id, "end", terminating="failed", error=failure("deadline_exceeded"))
    reason = "another process ends it as failed (deadline_exceeded)"
    assert await stop_reason(log, state, Outcome.FENCED) == reason


async def test_reason_of_a_take_over_names_the_other_worker(log: Log, state: GenerationState) -> None:
    await log.release(state.record.id, state.epoch, "next job")
    await log.acquire(state.record.id, "two", worker="pm6pabcdefghijkl")
    assert await stop_reason(log, state, Outcome.FENCED) == "worker pm6p has taken it over"


async def test_reason_that_the_state_does_not_show_is_left_open(log: Log, state: GenerationState) -> None:
    assert await stop_reason(log, state, Outcome.FENCED) == UNKNOWN


async def test_reason_of_a_generation_that_is_gone_meanwhile(log: Log, redis: Redis, state: GenerationState) -> None:
    await lose(redis, state.record.id)
    assert await stop_reason(log, state, Outcome.FENCED) == "it was deleted, or has expired"


@pytest.mark.parametrize("away", ["refuses", "is silent"])
async def test_reason_does_not_wait_for_a_server_that_is_away(
    log: Log, state: GenerationState, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    async def read(_: str) -> GenerationState:
        if away == "refuses":
            raise RedisUnavailable
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "READ_S", 0.05)
    monkeypatch.setattr(log, "state", read)
    assert await stop_reason(log, state, Outcome.FENCED) == UNKNOWN


async def test_reason_of_another_outcome_needs_no_server(
    log: Log, state: GenerationState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "state", None)
    assert await stop_reason(log, state, Outcome.DONE) == "it has ended"
    assert await stop_reason(log, state, "out_of_memory") == "out_of_memory"
