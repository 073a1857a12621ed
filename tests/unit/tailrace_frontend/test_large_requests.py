"""Work on large requests: its steps, and the turn among all of them."""

import asyncio

import pytest

from tailrace_frontend.large_requests import LARGE_BYTES, TURN_BYTES, Turn, step


@pytest.mark.parametrize(("size", "turns"), [(LARGE_BYTES, 0), (LARGE_BYTES + 1, 1)])
async def test_step_of_a_large_request_lets_other_work_run_before_it(size: int, turns: int) -> None:
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "other work")
    assert len(await step(size, ran.copy)) == turns
    await asyncio.sleep(0)
    assert ran == ["other work"]


async def test_turn_is_taken_once_the_request_is_known_to_be_large_and_released_at_its_end() -> None:
    lock = asyncio.Lock()
    async with Turn(lock, TURN_BYTES) as turn:
        assert not lock.locked()
        await turn.grow(TURN_BYTES + 1)
        assert lock.locked()
        await turn.grow(5)
        assert turn.size == TURN_BYTES + 1
        await turn.grow(2 * TURN_BYTES)
    assert not lock.locked()


async def test_turn_of_a_large_request_begins_with_its_block() -> None:
    lock = asyncio.Lock()
    async with Turn(lock, TURN_BYTES + 1):
        assert lock.locked()
    assert not lock.locked()


async def test_turn_within_another_one_waits_for_none_and_releases_none() -> None:
    lock = asyncio.Lock()
    async with Turn(lock, TURN_BYTES + 1):
        async with Turn(lock, TURN_BYTES + 1, is_held=True) as inner:
            await inner.grow(3 * TURN_BYTES)
        assert lock.locked()


async def test_request_that_is_cancelled_while_it_waits_leaves_the_turn_to_its_holder() -> None:
    lock = asyncio.Lock()

    async def wait() -> None:
        async with Turn(lock, TURN_BYTES + 1):
            raise AssertionError

    async with Turn(lock, TURN_BYTES + 1):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert lock.locked()
    assert not lock.locked()
