import asyncio
import gc

import pytest

from tailrace.errors import RedisUnavailable
from tailrace.process import recent as module
from tailrace.process.recent import Recent


class Check:
    """Counts its runs, which end once `ends` is set."""

    def __init__(self) -> None:
        self.runs = 0
        self.ends = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        await self.ends.wait()
        if self.error:
            raise self.error
        return self.runs


async def test_result_is_shared_by_all_who_ask_at_the_same_time_and_within_the_age() -> None:
    check = Check()
    recent = Recent(check)
    waiting = [asyncio.create_task(recent.get()) for _ in range(50)]
    await asyncio.sleep(0)
    check.ends.set()
    assert await asyncio.gather(*waiting) == [1] * 50
    assert [await recent.get() for _ in range(50)] == [1] * 50


async def test_check_runs_again_when_its_result_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check()
    check.ends.set()
    recent = Recent(check)
    assert await recent.get() == 1
    monkeypatch.setattr(module, "MAX_AGE_S", -1.0)
    assert await recent.get() == 2


async def test_error_is_kept_as_long_as_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis that is away must not be asked more often than Redis that answers."""
    check = Check()
    check.ends.set()
    check.error = RedisUnavailable()
    recent = Recent(check)
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await recent.get()
    assert check.runs == 1
    check.error = None
    monkeypatch.setattr(module, "MAX_AGE_S", -1.0)
    assert await recent.get() == 2


async def test_request_that_is_cancelled_leaves_the_check_to_the_others() -> None:
    check = Check()
    recent = Recent(check)
    first, second = (asyncio.create_task(recent.get()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    check.ends.set()
    assert await second == 1


async def test_error_that_no_request_waits_for_any_more_is_not_logged() -> None:
    check = Check()
    check.error = RedisUnavailable()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    recent = Recent(check)
    waiting = asyncio.create_task(recent.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert check.runs == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    check.ends.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert recent._run is not None
    assert recent._run.done()
    del waiting, recent, check
    gc.collect()
    assert problems == []
