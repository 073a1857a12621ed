"""Readers of one log that come back from the same cursor: how often the server is asked, and each entry encoded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from support.hub_harness import Collector, until
from support.log_writer import LogWriter
from support.logs import text_opened
from support.stored_log import STARTED, create_generation
from tailrace.events import Entry, Text
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS, Frame
from tailrace_frontend.state_reads import StateReads
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.log_cursor import LogCursor
from tailrace_frontend.turnstile import BEGIN, OPEN, STAGES, Turnstile

READERS = 100
WORDS = 20


@pytest.fixture
async def hub(log: Log) -> AsyncIterator[Hub]:
    """A hub whose clock stands still: what it keeps for a second is kept for the test."""
    hub = Hub(Settings(), log)
    hub.subscriber.start()
    await until(lambda: hub.subscriber.connected)
    yield hub
    await hub.close()


class Joins:
    """Readers that arrive as the stream endpoint has them arrive."""

    def __init__(self, hub: Hub, log: Log) -> None:
        self._hub = hub
        self._states = StateReads(log)
        self.encoded = 0
        self.tasks: list[asyncio.Task[None]] = []

    def encode(self, entry: Entry) -> Frame:
        self.encoded += 1
        return b"%d " % entry.id.seq

    async def join(self, generation_id: str, after: EntryId) -> Collector:
        await self._hub.arrivals.enter(BEGIN)
        state = await self._states.read(generation_id)
        assert state is not None
        await self._hub.arrivals.enter(OPEN)
        collector = Collector()
        collector.cursor = LogCursor(self._hub, WIRE_FORMATS["openai-chat"], self.encode, state, after, collector)
        self.tasks.append(asyncio.create_task(collector.run()))
        await until(lambda: collector.cursor.state is State.FOLLOWING and collector.is_idle)
        return collector


async def calls(redis: Redis, *names: str) -> Sequence[int]:
    counted: dict[str, Any] = await redis.info("commandstats")
    return [counted.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names]


async def test_readers_of_one_log_share_its_page_and_its_frames(redis: Redis, log: Log, hub: Hub) -> None:
    writer = await LogWriter.acquire(log, await create_generation(log), "one", worker="first")
    await writer.write(STARTED, text_opened())
    state = await log.state(writer.generation_id)
    for number in range(WORDS):
        await writer.write(Text(0, str(number)))
    joins = Joins(hub, log)
    before = await calls(redis, "xrange", "hmget", "ssubscribe")
    readers = await asyncio.gather(*(joins.join(writer.generation_id, state.position) for _ in range(READERS)))
    pages, states, subscriptions = (
        now - then for now, then in zip(await calls(redis, "xrange", "hmget", "ssubscribe"), before, strict=True)
    )
    assert subscriptions == 1
    assert (
        pages <= 3
    )  # one; where the first reader came before there were others, one before the confirmation, one after
    assert states < READERS / 4  # one for those that begin in the same turns
    assert joins.encoded <= pages * WORDS
    assert {reader.body for reader in readers} == {
        b"".join(b"%d " % number for number in range(state.seq + 1, state.seq + 1 + WORDS))
    }
    await writer.write(Text(0, "live"))
    await until(lambda: all(reader.cursor.position.seq == state.seq + WORDS + 1 for reader in readers))
    assert len({reader.body for reader in readers}) == 1
    for task in joins.tasks:
        task.cancel()


async def test_readers_of_many_logs_read_each_once_and_leave_no_page(redis: Redis, log: Log, hub: Hub) -> None:
    """Where many arrive, a log is read once its subscription is confirmed, and not before and after."""
    positions: dict[str, EntryId] = {}
    for _ in range(60):
        writer = await LogWriter.acquire(log, await create_generation(log), "one", worker="first")
        await writer.write(STARTED, text_opened())
        positions[writer.generation_id] = (await log.state(writer.generation_id)).position
        await writer.write(Text(0, "missed"))
    hub.arrivals = Turnstile(1, STAGES)
    joins = Joins(hub, log)
    (before,) = await calls(redis, "xrange")
    await asyncio.gather(*(joins.join(generation_id, after) for generation_id, after in positions.items()))
    (after,) = await calls(redis, "xrange")
    assert len(positions) <= after - before < 1.5 * len(positions)  # the last ones find nobody waiting
    assert hub.recent_pages.count == 0
    for task in joins.tasks:
        task.cancel()
