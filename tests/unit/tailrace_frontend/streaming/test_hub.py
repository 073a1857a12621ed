import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from support.hub_harness import Client, HubHarness, until
from support.logs import LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from support.sse import streamed_text
from support.subscriptions import connection_of
from tailrace.errors import RateLimited, RedisUnavailable
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis import subscriber as subscriber_module
from tailrace_frontend.streaming import hub as module
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.hub import DRAIN_SHARE, drain_delays
from tailrace_frontend.streaming.stream_connection import StreamConnection, retry_ms

RECORD = record()
OTHER = record(id="gen_bcdefghijklmnopqrstuvwxyza")
ENTRIES = LOGS["text"](RECORD)
TEXT = "Hello, world\u2028."


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness()
    yield harness
    await harness.close()


async def idle_client(harness: HubHarness) -> Client:
    client = await harness.connect(RECORD)
    await until(lambda: client.stream.is_idle)
    return client


# logs


async def test_readers_of_one_log_share_a_tail_until_the_last_one_leaves(harness: HubHarness) -> None:
    bens = record(id=OTHER.id, owner="ben")
    for each in (RECORD, bens):
        await harness.create(each, ENTRIES[:3])
    clients = [await harness.connect(RECORD), await harness.connect(RECORD), await harness.connect(bens)]
    await until(lambda: all(len(client.events) == 3 for client in clients))
    hub = harness.hub
    assert (hub.tails, hub.count, len(hub.connections)) == (2, 3, 3)
    assert (hub.count_of("anna"), hub.count_of("ben"), hub.count_of("eve")) == (2, 1, 0)
    clients[0].disconnect()
    await until(lambda: hub.count == 2)
    assert hub.tails == 2
    clients[1].disconnect()
    await until(lambda: hub.count == 1)
    assert (hub.tails, hub.count_of("anna"), len(connection_of(hub.subscriber)._listeners)) == (1, 0, 1)
    assert hub.counts == {"ben": 1}, "nothing is kept of owners without connections"


async def test_late_reader_gets_the_beginning_from_the_log_and_the_rest_from_the_tail(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    early = await idle_client(harness)
    await harness.append(RECORD, ENTRIES[3:5])
    late = await idle_client(harness)
    assert late.events[-1].id == str(ENTRIES[4].id)
    for entry in ENTRIES[5:]:
        await harness.append(RECORD, [entry])
    await until(lambda: early.completed and late.completed)
    assert early.kinds[-1] == late.kinds[-1] == "done"
    assert streamed_text(late.events) == TEXT
    assert [event.id for event in early.events] == [str(entry.id) for entry in ENTRIES]


async def test_finished_log_is_sent_without_a_subscription(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels: list[str] = []
    monkeypatch.setattr(harness.hub.subscriber, "add", lambda channel, _: channels.append(channel))
    await harness.create(RECORD, ENTRIES)
    client = await harness.connect(RECORD)
    await until(lambda: client.completed)
    assert channels == []
    assert harness.hub.tails == 0


async def test_confirmed_subscription_makes_readers_read_the_log(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    client = await idle_client(harness)
    await harness.append(RECORD, ENTRIES[3:], published=False)
    harness.confirm(RECORD)
    await until(lambda: client.completed)
    assert client.kinds[-1] == "done"


async def test_end_too_large_for_a_tail_is_sent_at_once(harness: HubHarness) -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(100 * ["x" * 4096]))).end("completed")
    await harness.create(RECORD, entries[:-1])
    client = await harness.connect(RECORD, after=entries[-2].id)
    await until(lambda: client.stream.cursor.state is State.FOLLOWING)
    await harness.append(RECORD, entries[-1:])
    await until(lambda: client.completed)
    assert client.kinds == ["done"]


async def test_readers_that_share_a_page_keep_it_for_those_of_the_next_second(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    clients = [await harness.connect(RECORD) for _ in range(3)]
    await until(lambda: all(len(client.events) == 3 for client in clients))
    assert harness.hub.recent_pages.count == 1


async def test_page_that_readers_found_empty_is_read_again_by_the_next(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    clients = [await harness.connect(RECORD, after=ENTRIES[2].id) for _ in range(3)]
    await until(lambda: all(client.stream.is_idle for client in clients))
    await harness.append(RECORD, ENTRIES[3:], published=False)
    late = await harness.connect(RECORD, after=ENTRIES[2].id)
    await until(lambda: late.completed)
    assert late.kinds == ["text", "done"]


async def test_page_is_not_kept_for_readers_of_a_later_tail(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    clients = [await harness.connect(RECORD) for _ in range(3)]
    await until(lambda: all(client.stream.is_idle for client in clients))
    for client in clients:
        client.disconnect()
    await until(lambda: harness.hub.tails == 0)
    await harness.append(RECORD, ENTRIES[3:], published=False)
    late = await harness.connect(RECORD)
    await until(lambda: late.completed)
    assert streamed_text(late.events) == TEXT


# admission


async def test_join_admits_up_to_the_limit_of_the_process() -> None:
    harness = HubHarness(max_readers=2)
    await harness.create(RECORD, ENTRIES[:3])
    clients = [await idle_client(harness), await idle_client(harness)]
    with pytest.raises(RateLimited, match=r"limit of this frontend reached \(2\)"):
        await harness.connect(RECORD)
    assert (harness.hub.count, harness.hub.count_of("anna")) == (2, 2)
    clients[0].disconnect()
    await until(lambda: harness.hub.count == 1)
    await idle_client(harness)
    await harness.close()


async def test_join_admits_up_to_the_limit_of_a_caller() -> None:
    harness = HubHarness(max_readers_per_caller=1)
    bens = record(id=OTHER.id, owner="ben")
    for each in (RECORD, bens):
        await harness.create(each, ENTRIES[:3])
    await idle_client(harness)
    with pytest.raises(RateLimited, match=r"limit of the caller reached \(1\)"):
        await harness.connect(RECORD)
    assert (harness.hub.count, harness.hub.tails) == (1, 1)
    await harness.connect(bens)
    await harness.close()


async def test_join_counts_a_connection_before_its_response_starts() -> None:
    """A burst cannot exceed the limit: each connection has its place before the first of them sends anything."""
    harness = HubHarness(max_readers=5)
    await harness.create(RECORD, ENTRIES[:3])
    results = await asyncio.gather(*(harness.connect(RECORD) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Client) for result in results) == 5
    assert sum(isinstance(result, RateLimited) for result in results) == 15
    assert harness.hub.count == 5
    await harness.close()


# Redis away


class Clock:
    """Stands for the module `time` where only a test may let time pass."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(subscriber_module, "time", clock)
    return clock


async def test_redis_is_away_once_the_grace_period_of_an_outage_has_passed(harness: HubHarness, clock: Clock) -> None:
    grace_s = harness.hub.settings.restart_grace_s
    harness.disconnect()
    seen: list[bool] = []
    for passed_s in (0.0, 0.99 * grace_s, 0.02 * grace_s):
        clock.now += passed_s
        seen.append(harness.hub.is_cut_off)
    harness.reconnect()
    assert [*seen, harness.hub.is_cut_off] == [False, False, True, False]


async def test_short_outages_less_than_a_tick_apart_end_no_stream(harness: HubHarness, clock: Clock) -> None:
    harness.reconnect()
    await harness.create(RECORD, ENTRIES[:3])
    client = await idle_client(harness)
    for _ in range(3):
        harness.disconnect()
        harness.tick()
        clock.now += 0.9 * harness.hub.settings.restart_grace_s
        harness.tick()
        assert client.stream.is_idle
        harness.reconnect()
        clock.now += 0.1 * module.TICK_S
    assert not harness.hub.is_cut_off


# background loops


@pytest.fixture
async def ticking(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HubHarness]:
    """The hub's loops run, fast."""
    monkeypatch.setattr(module, "TICK_S", 0.002)
    harness.reconnect()
    loops = [harness.hub._tick(), harness.hub._check_silent()]
    tasks = [asyncio.create_task(loop) for loop in loops]
    yield harness
    await cancel_and_wait(*tasks)


async def test_tick_reaches_each_connection_once_and_some_at_a_time(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "TICK_S", 0.05)
    ticked: list[int] = []

    class Connection:
        def __init__(self, number: int) -> None:
            self.number = number

        def tick(self, _: float) -> None:
            ticked.append(self.number)

    monkeypatch.setattr(type(harness.hub), "connections", [Connection(number) for number in range(10)])
    task = asyncio.create_task(harness.hub._tick())
    counts: list[int] = []
    while len(ticked) < 10:
        if not counts or len(ticked) > counts[-1]:
            counts.append(len(ticked))
        await asyncio.sleep(0)
    assert counts == [0, 3, 6, 9]
    assert ticked == list(range(10))
    await cancel_and_wait(task)


async def test_tick_aborts_a_connection_that_fails_and_no_other(
    ticking: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ticking.create(RECORD, ENTRIES[:3])
    failing, other = await idle_client(ticking), await idle_client(ticking)
    ticked: list[float] = []

    def tick(stream: StreamConnection, now: float) -> None:
        if stream is failing.stream:
            raise RuntimeError("a mistake")
        ticked.append(now)

    monkeypatch.setattr(StreamConnection, "tick", tick)
    await until(lambda: failing.was_aborted() and len(ticked) > 2)
    assert not other.was_aborted()


async def test_background_loop_that_fails_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.0)
    started: list[int] = []

    async def loop() -> None:
        started.append(1)
        raise RuntimeError("a mistake")

    task = asyncio.create_task(module._forever(loop))
    await until(lambda: len(started) > 2)
    await cancel_and_wait(task)


async def test_silent_log_has_its_position_read_and_an_active_one_has_not(
    ticking: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    positions = ticking.log.positions

    async def counted(generation_ids: list[str]) -> object:
        asked.append(generation_ids)
        return await positions(generation_ids)

    monkeypatch.setattr(ticking.log, "positions", counted)
    for each in (RECORD, OTHER):
        await ticking.create(each, ENTRIES[:3])
    client = await idle_client(ticking)
    await ticking.connect(OTHER)
    await ticking.append(RECORD, ENTRIES[3:], published=False)
    ticking.hub._tails[RECORD.id].verified_at -= ticking.hub.settings.keepalive_s
    await until(lambda: client.completed)
    assert asked == [[RECORD.id]]
    assert client.kinds[-1] == "done"


async def test_position_that_redis_does_not_report_is_read_again(
    ticking: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ticking.create(RECORD, ENTRIES[:3])
    client = await idle_client(ticking)
    failed: list[bool] = []

    async def unreachable(_: object) -> None:
        failed.append(True)
        raise RedisUnavailable

    with monkeypatch.context() as away:
        away.setattr(ticking.log, "positions", unreachable)
        await ticking.append(RECORD, ENTRIES[3:], published=False)
        ticking.hub._tails[RECORD.id].verified_at -= ticking.hub.settings.keepalive_s
        await until(lambda: len(failed) > 1)
    assert not client.completed
    await until(lambda: client.completed)


# draining


async def test_drain_sends_every_client_elsewhere_and_returns_when_they_have_left(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    clients = [await idle_client(harness) for _ in range(4)]
    began = time.monotonic()
    await harness.hub.drain(0.2)
    assert time.monotonic() - began < 0.2
    assert harness.hub.count == 0
    for client in clients:
        assert client.completed
        assert client.comments == ["this frontend is stopping"]


@pytest.mark.parametrize("grace_s", [1.0, 10.0, 60.0])
async def test_drain_sends_no_more_readers_elsewhere_a_second_than_twice_the_average(grace_s: float) -> None:
    """Of several frontends that stop at the same moment, too; with the time that each client waits by its hint."""
    drained = [delay for _ in range(3) for delay in drain_delays(4000, grace_s)]
    assert 0 <= min(drained) <= max(drained) <= DRAIN_SHARE * grace_s
    for moments in (drained, [moment + retry_ms() / 1000 for moment in drained]):
        busiest = max(Counter(math.floor(moment / (grace_s / 10)) for moment in moments).values())
        assert busiest <= 2 * len(drained) / 10


async def test_drain_without_connections_takes_no_time(harness: HubHarness) -> None:
    async with asyncio.timeout(0.1):
        await harness.hub.drain(10)


async def test_drain_aborts_a_full_connection_at_the_end_of_the_grace_period(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    client = await idle_client(harness)
    client.fills_on_write = True
    await harness.append(RECORD, [ENTRIES[3]])
    await until(lambda: client.connection.is_full)
    draining = asyncio.create_task(harness.hub.drain(0.1))
    await until(lambda: client.stream._draining)
    assert not client.was_aborted()
    async with asyncio.timeout(1):
        await draining
    assert client.was_aborted()
    assert not client.completed
    await until(lambda: harness.running == 0)


async def test_drain_sends_a_client_that_comes_later_elsewhere_at_once(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    await harness.hub.drain(0.05)
    client = await harness.connect(RECORD)
    await until(lambda: client.completed)
    assert client.writes[-1].startswith(b"retry: ")
