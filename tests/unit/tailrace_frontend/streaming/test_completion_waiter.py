import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace.errors import RateLimited, RedisUnavailable, Unavailable
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
    position = await harness.log.position(RECORD.id)
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


# the beginning of the output


async def output(harness: HubHarness, seconds: float = 60, **how: Any) -> "asyncio.Task[GenerationState]":
    """A task that waits for output."""

    async def wait() -> GenerationState:
        with CompletionWaiter(harness.hub, await harness.log.state(RECORD.id), **how) as waiter:
            return await waiter.wait_for_output(seconds)

    task = asyncio.create_task(wait())
    await until(lambda: harness.hub.count or task.done())
    return task


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def waiting_room(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubHarness]:
    """A log that has begun, with nothing in it."""
    monkeypatch.setattr(module, "MAX_AGE_S", 60.0)
    harness = HubHarness(max_readers=1)
    await harness.create(RECORD, ENTRIES[:1])
    yield harness
    await harness.close()


async def test_output_begins_with_an_item_and_not_with_an_attempt(waiting_room: HubHarness) -> None:
    task = await output(waiting_room)
    await waiting_room.append(RECORD, ENTRIES[1:2])
    await settle()
    assert not task.done()
    await waiting_room.append(RECORD, ENTRIES[2:3])
    assert (await task).status == "running"
    assert (waiting_room.hub.count, waiting_room.hub.tails) == (0, 0)


async def test_output_that_ends_at_once_comes_with_the_final_state(waiting_room: HubHarness) -> None:
    entries = LOGS["failed-at-once"](RECORD)
    task = await output(waiting_room)
    await waiting_room.append(RECORD, entries[1:])
    assert (await task).status == "failed"


@pytest.mark.parametrize("newer", [3, len(ENTRIES)])
async def test_output_that_was_missed_is_noticed_once_the_subscription_is_confirmed(
    waiting_room: HubHarness, newer: int
) -> None:
    task = await output(waiting_room)
    await waiting_room.append(RECORD, ENTRIES[1:newer], published=False)
    await settle()
    assert not task.done()
    waiting_room.confirm(RECORD)
    assert (await task).is_final == (newer == len(ENTRIES))


async def test_output_that_another_reader_has_seen_is_noticed_at_once(waiting_room: HubHarness) -> None:
    before = await waiting_room.log.state(RECORD.id)
    waiting_room.hub.subscribe(CompletionWaiter(waiting_room.hub, before), RECORD)
    waiting_room.confirm(RECORD)
    await waiting_room.append(RECORD, ENTRIES[1:4])
    with CompletionWaiter(waiting_room.hub, before) as waiter:
        async with asyncio.timeout(1):
            assert (await waiter.wait_for_output(60)).has_output


async def test_output_is_awaited_no_longer_than_that(waiting_room: HubHarness) -> None:
    assert not (await (await output(waiting_room, 0.01))).has_output


async def test_waiter_that_has_left_gives_its_place_to_another_and_follows_on(waiting_room: HubHarness) -> None:
    state = await waiting_room.log.state(RECORD.id)
    with CompletionWaiter(waiting_room.hub, state) as waiter:
        waiter.leave()
        with CompletionWaiter(waiting_room.hub, state):
            assert (waiting_room.hub.count, waiting_room.hub.count_of(RECORD.owner)) == (1, 1)
        assert waiting_room.hub.tails == 1
    assert (waiting_room.hub.count, waiting_room.hub.count_of(RECORD.owner)) == (0, 0)


@pytest.mark.parametrize("outage_s", [0.0, 60.0])
async def test_waiter_bears_an_absence_of_redis_for_so_long(
    waiting_room: HubHarness, monkeypatch: pytest.MonkeyPatch, outage_s: float
) -> None:
    monkeypatch.setattr(module, "MAX_AGE_S", 0.01)
    replies: list[Exception] = [RedisUnavailable(), Unavailable("Redis has just started.")]

    async def find() -> GenerationState:
        if replies:
            raise replies.pop()
        return await waiting_room.log.state(RECORD.id)

    task = await output(waiting_room, find=find, outage_s=outage_s)
    await waiting_room.append(RECORD, ENTRIES[1:], published=False)
    if outage_s:
        assert (await task).is_final
    else:
        with pytest.raises(Unavailable):
            await task
