import asyncio
from collections.abc import Callable

import pytest

from support.hub_harness import until
from tailrace.errors import RedisRefused, RedisUnavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.slots import Slots


class Calls:
    """Calls that run until they are ended by name. `running`: the names, in the order in which the calls began."""

    def __init__(self, slots: Slots) -> None:
        self.running: list[str] = []
        self._slots = slots
        self._ends: dict[str, asyncio.Future[str]] = {}

    def start(self, name: str) -> "asyncio.Task[str]":
        return asyncio.create_task(self._call(name))

    async def _call(self, name: str) -> str:
        await self._slots.acquire()
        self._ends[name] = asyncio.get_running_loop().create_future()
        self.running.append(name)
        try:
            return await self._ends[name]
        except RedisUnavailable as error:
            self._slots.fail_waiting(error)
            raise
        finally:
            self.running.remove(name)
            self._slots.release()

    def end(self, name: str) -> None:
        self._ends[name].set_result(name)

    def fail(self, name: str, error: Exception) -> None:
        self._ends[name].set_exception(error)


@pytest.fixture
def calls() -> Calls:
    return Calls(Slots(2))


def are_running(calls: Calls, *names: str) -> Callable[[], bool]:
    return lambda: calls.running == list(names)


async def test_slots_run_so_many_calls_at_a_time_and_the_others_in_order(calls: Calls) -> None:
    tasks = [calls.start(name) for name in "abcd"]
    await until(are_running(calls, "a", "b"))
    calls.end("b")
    await until(are_running(calls, "a", "c"))
    calls.end("a")
    await until(are_running(calls, "c", "d"))
    calls.end("c")
    calls.end("d")
    assert await asyncio.gather(*tasks) == list("abcd")


async def test_slot_of_a_failed_or_cancelled_call_is_free_again(calls: Calls) -> None:
    tasks = [calls.start(name) for name in "abcd"]
    await until(are_running(calls, "a", "b"))
    calls.fail("a", RedisRefused())
    await until(are_running(calls, "b", "c"))
    await cancel_and_wait(tasks[1])
    await until(are_running(calls, "c", "d"))
    calls.end("c")
    calls.end("d")
    first, *rest = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(first, RedisRefused)
    assert rest[1:] == ["c", "d"]


async def test_call_that_is_cancelled_while_it_waits_takes_no_slot(calls: Calls) -> None:
    tasks = [calls.start(name) for name in "abcd"]
    await until(are_running(calls, "a", "b"))
    await cancel_and_wait(tasks[2])
    calls.end("a")
    await until(are_running(calls, "b", "d"))
    calls.end("b")
    calls.end("d")
    assert [await tasks[number] for number in (0, 1, 3)] == ["a", "b", "d"]


async def test_slot_given_to_a_call_that_is_cancelled_in_the_same_turn_is_passed_on(calls: Calls) -> None:
    tasks = [calls.start(name) for name in "abcd"]
    await until(are_running(calls, "a", "b"))
    calls.end("a")
    await asyncio.sleep(0)  # a's task gives the slot to c, whose task will run in the next turn
    assert tasks[0].done()
    assert calls.running == ["b"]
    await cancel_and_wait(tasks[2])
    await until(are_running(calls, "b", "d"))
    calls.end("b")
    calls.end("d")
    assert [await tasks[number] for number in (1, 3)] == ["b", "d"]


async def test_calls_that_wait_fail_with_the_one_that_finds_redis_unavailable(calls: Calls) -> None:
    tasks = [calls.start(name) for name in "abcd"]
    await until(are_running(calls, "a", "b"))
    calls.fail("a", RedisUnavailable(detail="refused"))
    for task in (tasks[0], tasks[2], tasks[3]):
        with pytest.raises(RedisUnavailable, match="refused"):
            await task
    assert calls.running == ["b"]
    tasks += [calls.start(name) for name in "ef"]
    await until(are_running(calls, "b", "e"))
    for name in "be":
        calls.end(name)
    await until(are_running(calls, "f"))
    calls.end("f")
    assert await asyncio.gather(tasks[1], *tasks[4:]) == ["b", "e", "f"]
