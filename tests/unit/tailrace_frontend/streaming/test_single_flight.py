import asyncio
from typing import Any

import pytest

from tailrace.ids import START, EntryId
from tailrace.log import Log, Page
from tailrace_frontend.streaming.single_flight import SingleFlightPages

PAGE = Page([], 7, 128, is_last=True)


class Slow:
    """A log that answers when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Page]] = []

    async def page(self, *_: Any, **__: Any) -> Page:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


@pytest.fixture
def slow() -> Any:
    return Slow()


async def begun(*reads: Any) -> list[asyncio.Task[Page]]:
    tasks = [asyncio.create_task(read) for read in reads]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def read(
    pages: SingleFlightPages, log: Log, after: EntryId = START, *, coalesce: bool = True, resync_count: int = 0
) -> Any:
    return pages.read(log, after, 128, coalesce=coalesce, resync_count=resync_count)


async def test_who_asks_for_a_page_that_is_on_its_way_is_given_the_same(slow: Any) -> None:
    pages = SingleFlightPages("gen")
    tasks = await begun(*[read(pages, slow) for _ in range(3)])
    assert len(slow.asked) == 1
    slow.asked[0].set_result(PAGE)
    assert [await task for task in tasks] == [PAGE] * 3
    (again,) = await begun(read(pages, slow))
    assert len(slow.asked) == 2
    again.cancel()


async def test_another_place_and_later_doubts_are_another_page(slow: Any) -> None:
    pages = SingleFlightPages("gen")
    tasks = await begun(
        read(pages, slow),
        read(pages, slow, EntryId(1, 2)),
        read(pages, slow, coalesce=False),
        read(pages, slow, resync_count=1),
    )
    assert len(slow.asked) == 4
    for task in tasks:
        task.cancel()


async def test_when_who_asked_first_leaves_the_next_asks_again(slow: Any) -> None:
    pages = SingleFlightPages("gen")
    first, *others = await begun(*[read(pages, slow) for _ in range(3)])
    first.cancel()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
    await begun()
    assert len(slow.asked) == 2
    slow.asked[1].set_result(PAGE)
    assert [await task for task in others] == [PAGE] * 2


async def test_a_page_that_cannot_be_read_fails_everybody_who_waits_for_it_at_once(slow: Any) -> None:
    pages = SingleFlightPages("gen")
    tasks = await begun(*[read(pages, slow) for _ in range(3)])
    slow.asked[0].set_exception(OSError("away"))
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in told] == ["away"] * 3
    assert len(slow.asked) == 1


async def test_who_leaves_takes_the_page_from_nobody(slow: Any) -> None:
    pages = SingleFlightPages("gen")
    first, second, third = await begun(*[read(pages, slow) for _ in range(3)])
    second.cancel()
    await begun()
    slow.asked[0].set_result(PAGE)
    assert await first == await third == PAGE
