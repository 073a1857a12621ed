import asyncio
from typing import Any

import pytest

from tailrace.ids import START, EntryId
from tailrace.log import Log, Page
from tailrace_frontend.streaming.recent_pages import EncodedPage, RecentPages
from tailrace_frontend.streaming.single_flight import SingleFlightPages

PAGE = Page([], 7, 128, is_last=True)


class SlowLog:
    """A log that answers each read when the test completes its future."""

    def __init__(self) -> None:
        self.reads: list[asyncio.Future[Page]] = []

    async def page(self, *_: Any, **__: Any) -> Page:
        self.reads.append(asyncio.get_running_loop().create_future())
        return await self.reads[-1]


@pytest.fixture
def slow() -> Any:
    return SlowLog()


async def started(*reads: Any) -> list[asyncio.Task[EncodedPage]]:
    tasks = [asyncio.create_task(read) for read in reads]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


def read(
    pages: SingleFlightPages, log: Log, after: EntryId = START, *, coalesce: bool = True, resync_count: int = 0
) -> Any:
    return pages.read(log, after, 128, coalesce=coalesce, resync_count=resync_count)


async def test_page_that_is_being_read_is_shared(slow: Any) -> None:
    pages = SingleFlightPages("gen", RecentPages())
    tasks = await started(*[read(pages, slow) for _ in range(3)])
    assert len(slow.reads) == 1
    slow.reads[0].set_result(PAGE)
    assert [(await task).page for task in tasks] == [PAGE] * 3
    (again,) = await started(read(pages, slow))
    assert len(slow.reads) == 2
    again.cancel()


async def test_page_of_another_place_or_a_later_resync_is_read_separately(slow: Any) -> None:
    pages = SingleFlightPages("gen", RecentPages())
    tasks = await started(
        read(pages, slow),
        read(pages, slow, EntryId(1, 2)),
        read(pages, slow, coalesce=False),
        read(pages, slow, resync_count=1),
    )
    assert len(slow.reads) == 4
    for task in tasks:
        task.cancel()


async def test_page_whose_first_reader_leaves_is_read_again_by_the_next(slow: Any) -> None:
    pages = SingleFlightPages("gen", RecentPages())
    first, *others = await started(*[read(pages, slow) for _ in range(3)])
    first.cancel()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
    await started()
    assert len(slow.reads) == 2
    slow.reads[1].set_result(PAGE)
    assert [(await task).page for task in others] == [PAGE] * 2


async def test_page_that_cannot_be_read_fails_every_waiting_reader_at_once(slow: Any) -> None:
    pages = SingleFlightPages("gen", RecentPages())
    tasks = await started(*[read(pages, slow) for _ in range(3)])
    slow.reads[0].set_exception(OSError("away"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in results] == ["away"] * 3
    assert len(slow.reads) == 1


async def test_page_is_delivered_where_another_reader_leaves(slow: Any) -> None:
    pages = SingleFlightPages("gen", RecentPages())
    first, second, third = await started(*[read(pages, slow) for _ in range(3)])
    second.cancel()
    await started()
    slow.reads[0].set_result(PAGE)
    assert (await first).page is (await third).page is PAGE
