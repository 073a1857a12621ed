"""Values of owners that leave by themselves."""

import asyncio

import pytest

from tailrace_frontend.per_owner import PerOwner, Turns


def test_values_that_are_over_leave_while_others_are_set() -> None:
    over: set[int] = set()
    values = PerOwner[int](lambda value: value in over)
    for number in range(1000):
        values.set(f"caller {number}", number)
    assert (len(values), values.get("caller 7"), values.get("caller 1000")) == (1000, 7, None)
    over.update(range(1000))
    over.discard(7)
    for _ in range(1000):
        values.set("anna", -1)
    assert (len(values), values.get("caller 7"), values.get("anna")) == (2, 7, -1)


def test_values_do_not_pile_up_where_each_is_over_before_the_next_is_set() -> None:
    now = 0
    values = PerOwner[int](lambda value: value < now)
    for now in range(10_000):
        values.set(f"caller {now}", now)
        assert len(values) <= 2


def test_value_that_is_over_at_once_is_not_kept() -> None:
    values = PerOwner[int](lambda _: True)
    for number in range(3):
        values.set(f"caller {number}", number)
        assert len(values) == 0


async def test_turns_are_kept_while_a_task_has_or_awaits_one() -> None:
    turns, finish, began = Turns(1), asyncio.Event(), list[int]()

    async def work(number: int) -> None:
        async with turns.of("anna"):
            began.append(number)
            await finish.wait()
            if number == 1:
                raise ConnectionError

    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert (began, len(turns)) == ([0], 1)
    async with turns.of("ben"):
        assert len(turns) == 2
    tasks[2].cancel()
    tasks[0].cancel()
    finish.set()
    with pytest.raises(ConnectionError):
        await tasks[1]
    await asyncio.wait(tasks)
    assert (began, len(turns)) == ([0, 1, 3], 0)
