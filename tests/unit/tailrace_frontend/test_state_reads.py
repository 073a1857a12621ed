import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tailrace.errors import CorruptEntry, RedisUnavailable, TailraceError
from tailrace_frontend.state_reads import AT_ONCE, StateReads


class SlowLog:
    """A log that answers each read when the test completes its future; its states are strings. The generations whose
    ids begin with a capital are on a server of their own."""

    def __init__(self) -> None:
        self.server = self
        self.asked: list[list[str]] = []
        self.answers: list[asyncio.Future[list[Any]]] = []

    def primary_of(self, key: str) -> str:
        return "capital" if key.partition("{")[2][0].isupper() else "small"

    async def look_up(self, generation_ids: Sequence[str]) -> list[Any]:
        self.asked.append(list(generation_ids))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def answer(self, number: int) -> None:
        self.answers[number].set_result([f"state of {each}" for each in self.asked[number]])


@pytest.fixture
def log() -> Any:
    return SlowLog()


async def asked(reads: StateReads, *generation_ids: str) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(reads.read(each)) for each in generation_ids]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_states_that_are_asked_for_in_one_turn_are_read_in_one_round_trip(log: Any) -> None:
    tasks = await asked(StateReads(log), "a", "b", "a")
    assert log.asked == [["a", "b"]]
    log.answer(0)
    assert await asyncio.gather(*tasks) == ["state of a", "state of b", "state of a"]


async def test_states_that_are_asked_for_during_a_round_trip_share_the_next_one(log: Any) -> None:
    reads = StateReads(log)
    first = await asked(reads, "a")
    later = [*await asked(reads, "b"), *await asked(reads, "a"), *await asked(reads, "c")]
    assert log.asked == [["a"]]
    log.answer(0)
    assert await asyncio.gather(*first) == ["state of a"]
    await asked(reads)
    assert log.asked == [["a"], ["b", "a", "c"]]  # "a" again: it may have changed since its read was sent
    log.answer(1)
    assert await asyncio.gather(*later) == ["state of b", "state of a", "state of c"]
    (again,) = await asked(reads, "a")
    assert log.asked[2:] == [["a"]]
    log.answer(2)
    assert await again == "state of a"


async def test_a_round_trip_has_a_bounded_number_of_states(log: Any) -> None:
    tasks = await asked(StateReads(log), *map(str, range(AT_ONCE + 1)))
    assert len(log.asked[0]) == AT_ONCE
    log.answer(0)
    await asyncio.gather(*tasks[:AT_ONCE])
    await asyncio.sleep(0)
    assert log.asked[1:] == [[str(AT_ONCE)]]
    log.answer(1)
    await tasks[-1]


async def test_an_error_of_one_state_is_raised_to_those_who_asked_for_it(log: Any) -> None:
    tasks = await asked(StateReads(log), "a", "b", "c")
    log.answers[0].set_result(["state of a", CorruptEntry(), RedisUnavailable()])
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, CorruptEntry, RedisUnavailable]


@pytest.mark.parametrize("error", [RedisUnavailable(), RuntimeError()])
async def test_a_round_trip_that_fails_is_raised_to_all_and_the_next_ones_go_on(log: Any, error: Exception) -> None:
    reads = StateReads(log)
    tasks = await asked(reads, "a", "b")
    log.answers[0].set_exception(error)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [error, error]
    (again,) = await asked(reads, "a")
    log.answer(1)
    assert await again == "state of a"


async def test_those_who_wait_behind_a_server_that_is_away_do_not_wait_for_it_again(log: Any) -> None:
    reads = StateReads(log)
    tasks = [*await asked(reads, "a"), *await asked(reads, "b", "a")]
    log.answers[0].set_exception(RedisUnavailable())
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [RedisUnavailable] * 3
    assert log.asked == [["a"]]
    assert all(isinstance(result, TailraceError) for result in results)


async def test_a_caller_that_leaves_keeps_no_other_from_its_answer(log: Any) -> None:
    leaving, staying = await asked(StateReads(log), "a", "a")
    leaving.cancel()
    await asyncio.sleep(0)
    log.answer(0)
    assert await staying == "state of a"


async def test_a_server_that_hangs_keeps_no_state_of_another_waiting(log: Any) -> None:
    reads = StateReads(log)
    hanging, other = [*await asked(reads, "a"), *await asked(reads, "B")]
    assert log.asked == [["a"], ["B"]]
    log.answer(1)
    assert await other == "state of B"
    assert not hanging.done()
    log.answer(0)
    await hanging
