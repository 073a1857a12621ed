import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace.errors import RateLimited
from tailrace.log.codec import pack, to_row
from tailrace.log.state import GenerationState
from tailrace_frontend.streaming import completion_waiter as module
from tailrace_frontend.streaming.completion_waiter import CompletionWaiter, wait_for_completion

RECORD = record()
ENTRIES = LOGS["text"](RECORD)


@pytest.fixture
async def harness(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubHarness]:
    monkeypatch.setattr(module, "MAX_AGE_S", 60.0)
    harness = HubHarness(max_readers=1)
    await harness.create(RECORD, ENTRIES[:3])
    yield harness
    await harness.close()


async def waiting(harness: HubHarness, seconds: float) -> "asyncio.Task[str]":
    async def wait() -> str:
        return (await wait_for_completion(harness.hub, await harness.log.state(RECORD.id), seconds)).status

    task = asyncio.create_task(wait())
    await until(lambda: harness.hub.count or task.done())
    return task


async def test_waiter_returns_the_state_when_the_end_is_published(harness: HubHarness) -> None:
    task = await waiting(harness, 60)
    await harness.append(RECORD, ENTRIES[3:-1])
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    await harness.append(RECORD, ENTRIES[-1:])
    assert await task == "completed"
    assert (harness.hub.count, harness.hub.tails) == (0, 0)


@pytest.mark.parametrize("is_lost", [False, True])
async def test_waiter_waits_on_where_a_silent_log_had_its_position_read(harness: HubHarness, is_lost: bool) -> None:
    task = await waiting(harness, 60)
    (position,) = await harness.log.positions([RECORD.id])
    harness.hub._tails[RECORD.id].on_position(None if is_lost else position)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    await harness.append(RECORD, ENTRIES[3:])
    assert await task == "completed"


async def test_waiter_reads_the_state_in_intervals_in_case_a_message_is_lost(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_AGE_S", 0.01)
    task = await waiting(harness, 60)
    await harness.append(RECORD, ENTRIES[3:], published=False)
    assert await task == "completed"


async def test_waiter_reads_the_state_once_where_the_server_has_lost_the_end_that_the_tail_has(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = harness.log.state

    async def counted(generation_id: str) -> GenerationState:
        reads.append(generation_id)
        return await read(generation_id)

    task = await waiting(harness, 0.3)
    monkeypatch.setattr(harness.log, "state", counted)
    harness.publish(RECORD, pack([to_row(entry) for entry in ENTRIES[3:]]))
    assert await task == "running"
    assert len(reads) == 2  # after the end was published, and when the time is up


async def test_waiter_returns_the_state_of_a_generation_that_ended_before_it_followed_the_log(
    harness: HubHarness,
) -> None:
    before = await harness.log.state(RECORD.id)
    harness.hub.subscribe(CompletionWaiter(harness.hub, before), RECORD)
    await harness.append(RECORD, ENTRIES[3:])
    async with asyncio.timeout(1):
        assert (await wait_for_completion(harness.hub, before, 60)).status == "completed"


async def test_waiter_returns_the_state_when_its_time_is_up(harness: HubHarness) -> None:
    assert await (await waiting(harness, 0.01)) == "running"


async def test_waiter_returns_the_state_when_the_process_stops(harness: HubHarness) -> None:
    task = await waiting(harness, 60)
    async with asyncio.timeout(1):
        await harness.hub.drain(0.1)
        assert await task == "running"


async def test_waiter_counts_as_a_stream(harness: HubHarness) -> None:
    first, second = await waiting(harness, 60), await waiting(harness, 60)
    with pytest.raises(RateLimited):
        await second
    first.cancel()
    await until(lambda: harness.hub.count == 0)


async def test_waiter_does_not_wait_for_a_generation_that_has_ended(harness: HubHarness) -> None:
    await harness.append(RECORD, ENTRIES[3:])
    state = await harness.log.state(RECORD.id)
    assert await wait_for_completion(harness.hub, state, 60) is state


class Client:
    """Stands for a `ClientConnection`."""

    def __init__(self) -> None:
        self.lost = False
        self.on_lost: Callable[[], None] | None = None

    def leave(self) -> None:
        self.lost = True
        if self.on_lost:
            self.on_lost()


async def test_waiter_gives_its_place_back_when_its_client_leaves(harness: HubHarness) -> None:
    client, state = Client(), await harness.log.state(RECORD.id)
    waiting = asyncio.create_task(wait_for_completion(harness.hub, state, 60, client))
    await until(lambda: client.on_lost)
    client.leave()
    async with asyncio.timeout(1):
        assert (await waiting).status == "running"
    assert (harness.hub.count, client.on_lost) == (0, None)


async def test_waiter_does_not_wait_for_a_client_that_has_left(harness: HubHarness) -> None:
    client = Client()
    client.leave()
    state = await harness.log.state(RECORD.id)
    async with asyncio.timeout(1):
        assert await wait_for_completion(harness.hub, state, 60, client) is state
    assert harness.hub.count == 0
