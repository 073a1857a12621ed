import asyncio

from tailrace_frontend.late_event import LateEvent


async def test_event_that_is_set_is_not_waited_for() -> None:
    event = LateEvent(is_set=True)
    assert event.is_set()
    assert await asyncio.wait_for(event.wait(), 5)
    event.clear()
    assert not event.is_set()


async def test_all_who_wait_go_on_when_it_is_set_even_where_it_is_cleared_at_once() -> None:
    event = LateEvent()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    event.set()
    event.clear()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [True] * 3


async def test_one_who_waits_later_waits_for_the_next_set() -> None:
    event = LateEvent()
    event.set()
    event.clear()
    waiting = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    assert await asyncio.wait_for(waiting, 5)
