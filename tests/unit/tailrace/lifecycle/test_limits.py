"""Which lost attempts are charged, without a server: each test plays the life of one generation."""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.logs import record
from tailrace.failures import RestartReason
from tailrace.lifecycle.limits import QUARANTINE_AFTER, is_spared, limit_failure, new_job_id
from tailrace.log.state import GenerationState
from tailrace.queue import QUARANTINE

QUEUED = GenerationState(record(), "queued", epoch=1, attempt=0, seq=0, lease=0, deadline=100, job_id="job")


def run(state: GenerationState, neighbours: int = 0) -> GenerationState:
    """As `acquire` leaves it."""
    return msgspec.structs.replace(state, status="running", attempt=state.attempt + 1, neighbours=neighbours)


def lose(state: GenerationState, max_attempts: int) -> GenerationState:
    """As `requeue_expired` leaves it."""
    spared = state.spared + is_spared(state, max_attempts)
    job_id = new_job_id(state, is_lost=True)
    return msgspec.structs.replace(state, status="queued", job_id=job_id, spared=spared)


def lives(max_attempts: int, neighbours: Iterable[int]) -> Iterator[GenerationState]:
    """Each run of a generation that always loses its worker, beside so many neighbours."""
    state = QUEUED
    for count in neighbours:
        state = run(state, count)
        assert limit_failure(state, 50, max_attempts) is None  # the worker agrees with the sweeper
        yield state
        if limit_failure(state, 50, max_attempts, ended="worker_lost"):
            return
        state = lose(state, max_attempts)


@pytest.mark.parametrize("max_attempts", [1, 2, 3, 5, 20])
def test_generation_that_kills_its_worker_alone_runs_max_attempts_times(max_attempts: int) -> None:
    assert len(list(lives(max_attempts, repeat(0)))) == max_attempts


@pytest.mark.parametrize(("max_attempts", "runs"), [(1, 1), (2, 3), (3, 5), (4, 7), (5, 8), (20, 23)])
def test_generation_beside_others_is_spared_three_times_at_most(max_attempts: int, runs: int) -> None:
    assert len(list(lives(max_attempts, repeat(9)))) == runs


@given(st.integers(1, 12), st.lists(st.integers(0, 2)))
def test_every_generation_ends_within_the_bound(max_attempts: int, neighbours: list[int]) -> None:
    runs = len(list(lives(max_attempts, chain(neighbours, repeat(1)))))
    assert max_attempts <= runs <= max_attempts + min(QUARANTINE_AFTER, max_attempts - 1)


@pytest.mark.parametrize("neighbours", [0, 9])
def test_generation_is_quarantined_after_three_lost_attempts(neighbours: int) -> None:
    job_ids = [state.job_id for state in lives(5, repeat(neighbours))]
    assert [job_id.startswith(QUARANTINE) for job_id in job_ids[:5]] == [False, False, False, True, True]


def test_quarantined_generation_that_is_handed_over_stays_quarantined() -> None:
    *_, fourth = list(lives(5, repeat(9)))[:4]
    assert new_job_id(fourth).startswith(QUARANTINE)
    assert not new_job_id(run(QUEUED)).startswith(QUARANTINE)


def test_handed_over_attempt_is_neither_lost_nor_charged() -> None:
    state = QUEUED
    for _ in range(9):
        state = run(state)
        state = msgspec.structs.replace(state, status="queued", handovers=state.handovers + 1)
    state = run(state)
    assert (state.attempt, state.lost_attempts, state.failed_attempts) == (10, 0, 0)
    assert limit_failure(state, 50, max_attempts=1) is None


def test_attempt_that_the_upstream_interrupted_is_charged() -> None:
    """The worker lives and acquires the generation again: no sweeper spares that attempt."""
    state = run(run(QUEUED, neighbours=9), neighbours=9)
    assert (state.lost_attempts, state.failed_attempts) == (1, 1)
    failure = limit_failure(state, 50, max_attempts=1)
    assert failure is not None
    assert failure.code == "attempts_exhausted"


@pytest.mark.parametrize(
    ("ended", "cause"),
    [
        ("worker_lost", "its worker was lost"),
        ("upstream_lost", "the upstream broke off the answer"),
        ("upstream_silent", "the upstream sent no more content"),
    ],
)
def test_failure_of_spent_attempts_names_how_the_last_one_ended(ended: RestartReason, cause: str) -> None:
    reached = limit_failure(run(QUEUED), 50, 1, ended=ended)
    assert reached is not None
    assert reached.message == f"Too many attempts failed; the last one: {cause}."


def test_interruption_by_the_upstream_is_charged_also_beside_others() -> None:
    state = run(run(QUEUED, neighbours=9), neighbours=9)
    assert limit_failure(state, 50, 2, ended="worker_lost") is not None
    assert limit_failure(state, 50, 3, ended="worker_lost") is None
    assert limit_failure(state, 50, 2, ended="upstream_lost") is not None
    assert limit_failure(run(QUEUED, neighbours=9), 50, 2, ended="upstream_lost") is None


@pytest.mark.parametrize(("now_ms", "code"), [(100, None), (100.5, "deadline_exceeded")])
def test_deadline_is_the_last_moment_at_which_an_attempt_may_begin(now_ms: float, code: str | None) -> None:
    failure = limit_failure(QUEUED, now_ms, max_attempts=5)
    assert (failure.code if failure else None) == code
