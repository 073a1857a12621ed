import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from support.logs import LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from support.web import Client, Web, until
from tailrace.errors import RedisUnavailable
from tailrace.events import Options
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis import subscriber as subscriber_module
from tailrace.wire import WIRES
from tailrace_frontend.streaming import hub as module
from tailrace_frontend.streaming.reader import Reader

RECORD = record()
NATIVE = WIRES["native"]
ENTRIES = LOGS["text"](RECORD)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    yield web
    await web.close()


async def test_readers_of_one_log_share_a_tail_and_the_last_one_takes_it_away(web: Web) -> None:
    other = record(id="gen_bcdefghijklmnopqrstuvwxyza", owner="ben")
    for each in (RECORD, other):
        await web.create(each, ENTRIES[:3])
    clients = [await web.read(RECORD), await web.read(RECORD), await web.read(other)]
    await until(lambda: all(len(client.events) == 3 for client in clients))
    assert (web.hub.tails, web.hub.count, len(web.hub.readers)) == (2, 3, 3)
    assert (web.hub.readers_of("anna"), web.hub.readers_of("ben"), web.hub.readers_of("eve")) == (2, 1, 0)
    clients[0].leave()
    await until(lambda: web.hub.count == 2)
    assert web.hub.tails == 2
    clients[1].leave()
    await until(lambda: web.hub.count == 1)
    assert web.hub.tails == 1
    assert web.hub.readers_of("anna") == 0
    assert len(web.hub.subscriber._listeners) == 1


async def test_who_joins_late_gets_the_beginning_from_the_log_and_the_rest_from_the_tail(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    early = await web.read(RECORD)
    await until(lambda: len(early.events) == 3)
    await web.add(RECORD, ENTRIES[3:5])
    late = await web.read(RECORD)
    await until(lambda: late.events and late.events[-1].id == str(ENTRIES[4].id))
    for entry in ENTRIES[5:]:
        await web.add(RECORD, [entry])
    await until(lambda: early.ended and late.ended)
    assert early.events[-1].kind == late.events[-1].kind == "done"
    assert "".join(e.value["text"] for e in late.events if e.kind == "text") == "Hello, world\u2028."
    assert [e.id for e in early.events] == [str(e.id) for e in ENTRIES]


async def test_a_finished_log_is_told_without_listening_to_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(web.hub.subscriber, "add", lambda channel, _: heard.append(channel))
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD)
    await until(lambda: client.ended)
    assert heard == []
    assert web.hub.tails == 0


async def test_a_log_that_counted_as_finished_and_is_not_is_listened_to_after_all(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    state = await web.log.state(RECORD.id)
    await web.redis.flushall()
    await web.create(RECORD, ENTRIES[:4])
    client = Client()
    reader = Reader(web.hub, NATIVE, state, None, client.connection, client.send, web.callers.__contains__)
    web.tasks.append(asyncio.create_task(reader.run()))
    await until(lambda: reader._waiter)
    assert len(web.hub.subscriber._listeners) == 1
    await web.add(RECORD, ENTRIES[4:])
    await until(lambda: client.ended)
    assert client.events[-1].kind == "done"


async def test_a_message_lost_between_two_costs_nobody_anything(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    await web.add(RECORD, [ENTRIES[3]], heard=False)
    await web.add(RECORD, [ENTRIES[4]])
    await until(lambda: client.events[-1].id == str(ENTRIES[4].id))
    await web.add(RECORD, ENTRIES[5:])
    await until(lambda: client.ended)
    assert "".join(e.value["text"] for e in client.events if e.kind == "text") == "Hello, world\u2028."


async def test_a_subscription_confirmed_late_makes_its_readers_look_once_more(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    await web.add(RECORD, ENTRIES[3:], heard=False)
    web.confirm(RECORD)
    await until(lambda: client.ended)
    assert client.events[-1].kind == "done"


async def test_an_end_too_large_for_a_tail_is_told_at_once(web: Web) -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(100 * ["x" * 4096]))).end("completed")
    await web.create(RECORD, entries[:-1])
    client = await web.read(RECORD, cursor=entries[-2].id)
    await until(lambda: client.reader._seen_resync_count == 0)
    await web.add(RECORD, entries[-1:])
    await until(lambda: client.ended)
    assert [event.kind for event in client.events] == ["done"]


@pytest.fixture
async def ticking(web: Web, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    """The hub's clock runs, fast."""
    monkeypatch.setattr(module, "TICK_S", 0.002)
    monkeypatch.setattr(module, "PRESENCE_S", 0.002)
    web.reconnect()
    duties = [web.hub._tick(), web.hub._look_at_silent(), web.hub._note_presence()]
    tasks = [asyncio.create_task(duty) for duty in duties]
    yield web
    await cancel_and_wait(*tasks)


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


async def test_redis_is_away_once_the_grace_period_of_an_outage_has_passed(web: Web, clock: Clock) -> None:
    grace_s = web.hub.settings.restart_grace_s
    web.disconnect()
    seen: list[bool] = []
    for passed_s in (0.0, 0.99 * grace_s, 0.02 * grace_s):
        clock.now += passed_s
        seen.append(web.hub.is_away)
    web.reconnect()
    assert [*seen, web.hub.is_away] == [False, False, True, False]


async def test_short_outages_less_than_a_tick_apart_do_not_count_as_a_long_one(web: Web, clock: Clock) -> None:
    seen: list[bool] = []
    for _ in range(3):
        web.disconnect()
        clock.now += 0.9 * web.hub.settings.restart_grace_s
        seen.append(web.hub.is_away)
        web.reconnect()
        clock.now += 0.1 * module.TICK_S
    assert seen == 3 * [False]


async def test_the_log_learns_that_somebody_reads_what_runs_only_then(
    ticking: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[list[str]] = []

    async def seen(_: Log, generation_ids: list[str]) -> None:
        noted.append(list(generation_ids))

    monkeypatch.setattr(Log, "touch_presence", seen)
    watched = record(id="gen_bcdefghijklmnopqrstuvwxyza", options=Options(60, 60, on_disconnect="cancel"))
    for each in (RECORD, watched):
        await ticking.create(each, ENTRIES[:3])
        await ticking.read(each)
    await until(lambda: noted)
    assert noted[0] == [watched.id]


async def test_thousands_are_ticked_some_at_a_time_and_each_once_a_tick(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "TICK_S", 0.05)
    ticked: list[int] = []

    class Reader:
        def __init__(self, number: int) -> None:
            self.number = number

        def tick(self, _: float) -> None:
            ticked.append(self.number)

    monkeypatch.setattr(type(web.hub), "readers", [Reader(number) for number in range(10)])
    task = asyncio.create_task(web.hub._tick())
    seen: list[int] = []
    while len(ticked) < 10:
        if not seen or len(ticked) > seen[-1]:
            seen.append(len(ticked))
        await asyncio.sleep(0)
    assert seen == [0, 3, 6, 9]
    assert ticked == list(range(10))
    await cancel_and_wait(task)


async def test_a_reader_that_fails_at_a_tick_is_cut_and_keeps_nobody_else(
    ticking: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = record(id="gen_bcdefghijklmnopqrstuvwxyza")
    for each in (RECORD, other):
        await ticking.create(each, ENTRIES[:3])
    broken, fine = [await ticking.read(each) for each in (RECORD, other)]
    await until(lambda: len(fine.events) == 3 and fine.reader._waiter)
    ticked: list[float] = []

    def tick(reader: Reader, now: float) -> None:
        if reader is broken.reader:
            raise RuntimeError("a mistake")
        ticked.append(now)

    monkeypatch.setattr(Reader, "tick", tick)
    await until(lambda: broken.was_cut() and len(ticked) > 2)
    assert not fine.was_cut()


async def test_a_duty_that_breaks_off_begins_anew(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.0)
    begun: list[int] = []

    async def duty() -> None:
        begun.append(1)
        raise RuntimeError("a mistake")

    task = asyncio.create_task(web.hub._keep_up(duty))
    await until(lambda: len(begun) > 2)
    await cancel_and_wait(task)


async def test_a_log_that_is_silent_for_a_beat_is_looked_at_and_one_that_speaks_is_not(
    ticking: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    positions = ticking.log.positions

    async def counted(generation_ids: list[str]) -> object:
        asked.append(generation_ids)
        return await positions(generation_ids)

    monkeypatch.setattr(ticking.log, "positions", counted)
    other = record(id="gen_bcdefghijklmnopqrstuvwxyza")
    for each in (RECORD, other):
        await ticking.create(each, ENTRIES[:3])
    client, _ = [await ticking.read(each) for each in (RECORD, other)]
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    await ticking.add(RECORD, ENTRIES[3:], heard=False)
    ticking.hub._tails[RECORD.id].verified_at -= ticking.hub.settings.keepalive_s
    await until(lambda: client.ended)
    assert asked == [[RECORD.id]]
    assert client.events[-1].kind == "done"


async def test_a_look_that_redis_does_not_answer_is_made_again(ticking: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    await ticking.create(RECORD, ENTRIES[:3])
    client = await ticking.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    failed: list[bool] = []

    async def refused(_: object) -> None:
        failed.append(True)
        raise RedisUnavailable(detail="away")

    with monkeypatch.context() as away:
        away.setattr(ticking.log, "positions", refused)
        await ticking.add(RECORD, ENTRIES[3:], heard=False)
        ticking.hub._tails[RECORD.id].verified_at -= ticking.hub.settings.keepalive_s
        await until(lambda: len(failed) > 1)
    assert not client.ended
    await until(lambda: client.ended)


async def test_a_drain_sends_everybody_elsewhere_and_returns_when_they_are_gone(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    clients = [await web.read(RECORD) for _ in range(4)]
    await until(lambda: all(len(client.events) == 3 for client in clients))
    began = time.monotonic()
    await web.hub.drain(0.2)
    assert time.monotonic() - began < 0.2
    assert web.hub.count == 0
    for client in clients:
        assert client.ended
        assert client.comments == ["this server is stopping"]
        assert client.pieces[-1].startswith(b"retry: ")


async def test_a_drain_without_readers_takes_no_time(web: Web) -> None:
    async with asyncio.timeout(0.1):
        await web.hub.drain(10)


async def test_who_takes_no_word_is_cut_at_the_end_of_the_grace_period(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    client.fills_up = True
    await web.add(RECORD, [ENTRIES[3]])
    await until(lambda: client.connection.is_full)
    draining = asyncio.create_task(web.hub.drain(0.1))
    await until(lambda: client.reader._leaving)
    assert not client.was_cut()
    async with asyncio.timeout(1):
        await draining
    assert (client.was_cut(), client.ended) == (True, False)
    await until(lambda: web.reading == 0)


async def test_who_comes_during_a_drain_is_sent_away_at_once(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    await web.hub.drain(0.05)
    client = await web.read(RECORD)
    await until(lambda: client.ended)
    assert client.pieces[-1].startswith(b"retry: ")
