import asyncio
from collections.abc import AsyncIterator

import pytest

from tailrace.errors import RedisFull, RedisRefused, RedisUnavailable
from tailrace.lifecycle import queue_updates as module
from tailrace.lifecycle.queue_updates import QueueUpdates
from tailrace.process.tasks import cancel_and_wait


@pytest.fixture
async def updates(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueueUpdates]:
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    updates = QueueUpdates()
    running = asyncio.create_task(updates.run())
    yield updates
    await cancel_and_wait(running)


class Update:
    """Raises these errors in turn, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)


@pytest.mark.parametrize(
    ("error", "logged"), [(RedisUnavailable(), 0), (RedisFull(), 1), (RedisRefused(detail="no permission"), 1)]
)
async def test_update_is_repeated_until_it_succeeds_and_a_refusal_is_logged_once(
    updates: QueueUpdates, caplog: pytest.LogCaptureFixture, error: Exception, logged: int
) -> None:
    update = Update(error, error, error)
    updates.add("gen", update)
    assert "gen" in updates
    async with asyncio.timeout(10):
        await updates.wait_until_none()
    assert (update.calls, len(updates)) == (4, 0)
    assert len(caplog.messages) == logged


async def test_update_with_a_defect_is_dropped_and_the_others_are_made(
    updates: QueueUpdates, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Update(ValueError("a defect")), Update()
    updates.add("broken", broken)
    updates.add("sound", sound)
    async with asyncio.timeout(10):
        await updates.wait_until_none()
    assert (broken.calls, sound.calls) == (1, 1)
    assert caplog.messages == ["broken: the queue could not be updated after the end"]


async def test_later_update_of_a_generation_replaces_the_one_that_is_being_made(updates: QueueUpdates) -> None:
    began, goes_on, later = asyncio.Event(), asyncio.Event(), Update()

    async def slow() -> None:
        began.set()
        await goes_on.wait()

    updates.add("gen", slow)
    await began.wait()
    updates.add("gen", later)
    goes_on.set()
    async with asyncio.timeout(10):
        await updates.wait_until_none()
    assert later.calls == 1


async def test_oldest_updates_are_dropped_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_UPDATES", 2)
    updates = QueueUpdates()
    for name in "abc":
        updates.add(name, Update())
    assert [name in updates for name in "abc"] == [False, True, True]
    assert caplog.messages == ["a: too many ends wait for the queue's server: this one is not removed again"]
