"""The cursor without a socket: `Collector` (support/hub_harness.py) takes the place of a connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.hub_harness import Collector, HubHarness, until
from support.logs import REQUEST, LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from support.sse import streamed_text
from support.subscriptions import connection_of
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import Entry, Restarted, Text
from tailrace.ids import START, EntryId
from tailrace.log import Log, Page
from tailrace.log.codec import pack, to_row
from tailrace.log.reading import FIRST_PAGE, PAGE_BYTES
from tailrace.wire import WIRE_FORMATS, WireFormat
from tailrace_frontend.streaming.cursor_state import State
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.live_tail import TAIL_ENTRIES
from tailrace_frontend.streaming.log_cursor import LogCursor, is_ahead

RESPONSES = WIRE_FORMATS["openai-responses"]
RECORD = record()
ENTRIES = LOGS["text"](RECORD)
TEXT = "Hello, world\u2028."
RESTARTED = LOGS["restarted"](RECORD)
LEASE_S = 5.0


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness(lease_s=LEASE_S)
    yield harness
    await harness.close()


def long_log(count: int) -> list[Entry]:
    log = LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(map(_word, range(count)))))
    return log.end("completed")


def _word(n: int) -> str:
    return f"{n:_>99} "


async def following(harness: HubHarness, entries: list[Entry], **options: object) -> Collector:
    """A cursor that has caught up with a live log of these entries, and waits."""
    await harness.create(RECORD, entries)
    collector = await harness.follow(RECORD, **options)  # type: ignore[arg-type]
    await until(lambda: collector.cursor.state is State.FOLLOWING and collector.is_idle)
    return collector


async def complete(collector: Collector) -> None:
    await until(lambda: collector.cursor.state is State.COMPLETE)


def pass_time(cursor: LogCursor, seconds: float) -> None:
    """Let a waiting cursor be woken so many seconds later."""
    if cursor._missing_since is not None:
        cursor._missing_since -= seconds
    if cursor._failing_since is not None:
        cursor._failing_since -= seconds
    cursor._sink.wake()


# the whole log, and the rest of it


async def test_cursor_sends_a_finished_log_whole(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD)
    await complete(collector)
    assert collector.kinds == ["created", "started", "item_opened", "text", "done"]
    assert streamed_text(collector.events) == TEXT
    assert collector.events[-1].id == str(ENTRIES[-1].id)


@pytest.mark.parametrize("entry", ENTRIES[:-1], ids=lambda entry: entry.event.kind)
async def test_cursor_sends_exactly_the_rest_after_a_position(harness: HubHarness, entry: Entry) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, after=entry.id)
    await complete(collector)
    before = ENTRIES[: ENTRIES.index(entry) + 1]
    assert "".join(e.event.text for e in before if isinstance(e.event, Text)) + streamed_text(collector.events) == TEXT
    assert all(event.seq > entry.id.seq for event in collector.events)


async def test_cursor_sends_nothing_after_the_end(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, after=ENTRIES[-1].id)
    await complete(collector)
    assert collector.body == b""


async def test_cursor_sends_a_live_log_as_it_grows(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:1])
    for entry in ENTRIES[1:]:
        await harness.append(RECORD, [entry])
        await until(lambda newest=str(entry.id): collector.events[-1].id == newest)  # type: ignore[misc]
    await complete(collector)
    assert [event.id for event in collector.events] == [str(entry.id) for entry in ENTRIES]


async def test_cursor_writes_live_entries_in_the_callback_that_received_them(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    for entry in ENTRIES[3:-1]:
        harness.publish(RECORD, pack([to_row(entry)]))
        assert collector.events[-1].id == str(entry.id)
        assert collector.is_idle
    harness.publish(RECORD, pack([to_row(ENTRIES[-1])]))
    assert collector.events[-1].kind == "done"
    assert collector.cursor.state is State.COMPLETE
    assert not collector.is_idle


async def test_cursor_ignores_entries_that_it_has_sent(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:5])
    harness.publish(RECORD, pack([to_row(entry) for entry in ENTRIES[2:5]]))
    assert collector.is_idle
    await harness.append(RECORD, ENTRIES[5:])
    await complete(collector)
    assert streamed_text(collector.events) == TEXT


async def test_cursor_reads_the_log_behind_a_gap(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.append(RECORD, [ENTRIES[3]], published=False)
    await harness.append(RECORD, [ENTRIES[4]])
    await until(lambda: collector.events[-1].id == str(ENTRIES[4].id))
    await harness.append(RECORD, ENTRIES[5:])
    await complete(collector)
    assert streamed_text(collector.events) == TEXT


async def test_cursor_fails_alone_where_its_sink_does(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    collectors = [await harness.follow(RECORD, wire=wire) for wire in ("native", "ndjson", "native")]
    await until(lambda: all(each.is_idle and each.cursor.state is State.FOLLOWING for each in collectors))

    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(collectors[1], "write", fail)
    await harness.append(RECORD, ENTRIES[3:])
    await until(lambda: collectors[0].cursor.is_final and collectors[2].cursor.is_final)
    await until(lambda: harness.running == 0)
    assert isinstance(harness.tasks.pop(1).exception(), ZeroDivisionError)


async def test_cursor_fails_with_the_encoder_of_its_format_and_the_cursors_of_other_formats_do_not(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(entry: Entry) -> bytes:
        return b"%d" % (1 // (ENTRIES[3].id.seq - entry.id.seq))

    monkeypatch.setitem(WIRE_FORMATS, "failing", WireFormat("text/plain", lambda *_: encode))
    await harness.create(RECORD, ENTRIES[:3])
    collectors = [await harness.follow(RECORD, wire=wire) for wire in ("native", "failing", "ndjson")]
    await until(lambda: all(each.is_idle and each.cursor.state is State.FOLLOWING for each in collectors))
    await harness.append(RECORD, ENTRIES[3:4])
    await until(harness.tasks[1].done)
    assert isinstance(harness.tasks.pop(1).exception(), ZeroDivisionError)
    await harness.append(RECORD, ENTRIES[4:])
    await until(lambda: harness.running == 0)
    assert streamed_text(collectors[0].events) == TEXT


# a sink without room


async def test_cursor_pages_through_a_long_log_in_writes_of_about_64_kib(harness: HubHarness) -> None:
    await harness.create(RECORD, long_log(3000))
    collector = await harness.follow(RECORD)
    await complete(collector)
    assert streamed_text(collector.events) == "".join(map(_word, range(3000)))
    assert max(map(len, collector.writes)) < 2 * PAGE_BYTES
    assert len(collector.writes) > 3


async def test_cursor_writes_of_a_heavy_page_only_what_its_sink_has_room_for(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    light, heavy = "|".join(200 * ["x"]), "|".join(600 * ["y" * 4000])
    await harness.create(
        RECORD, LogBuilder(RECORD).start().add(text_opened(), *texts(f"{light}|{heavy}")).end("completed")
    )
    collector = await harness.follow(RECORD)
    write = collector.write

    def fill(data: bytes) -> None:
        write(data)
        collector.has_room = False

    monkeypatch.setattr(collector, "write", fill)
    while not collector.cursor.is_final:
        count = len(collector.writes)
        await until(lambda: not collector.has_room or collector.cursor.is_final)
        assert len(collector.writes) <= count + 1
        collector.make_room()
    assert streamed_text(collector.events) == 200 * "x" + 600 * ("y" * 4000)
    assert max(map(len, collector.writes[:-1])) < 2 * PAGE_BYTES


async def test_cursor_of_a_slow_sink_reads_large_entries_about_once(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write fills the sink; a page that is read for it must not be much more than is written."""
    large, count = "y" * 500_000, 60
    await harness.create(
        RECORD, LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(count * [large]))).end("completed")
    )
    read, page = 0, harness.hub.log.page

    async def count_entries(*args: Any, **options: Any) -> Page:
        nonlocal read
        result = await page(*args, **options)
        read += sum(len(str(to_row(entry).value)) for entry in result.entries)
        return result

    monkeypatch.setattr(harness.hub.log, "page", count_entries)
    collector = await harness.follow(RECORD)
    write = collector.write

    def fill(data: bytes) -> None:
        write(data)
        collector.has_room = False

    monkeypatch.setattr(collector, "write", fill)
    while not collector.cursor.is_final:
        await until(lambda: not collector.has_room or collector.cursor.is_final)
        collector.make_room()
    assert streamed_text(collector.events) == count * large
    assert read < (2 * count + FIRST_PAGE) * len(large)  # `done` repeats all of them


async def test_cursor_takes_nothing_from_the_tail_while_its_sink_has_no_room(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    collector.is_idle = collector.has_room = False
    for entry in ENTRIES[3:-1]:
        await harness.append(RECORD, [entry])
    assert len(collector.events) == 3
    collector.make_room()
    await until(lambda: collector.is_idle)
    assert [event.id for event in collector.events] == [str(entry.id) for entry in ENTRIES[:-1]]


async def test_cursor_reads_the_log_where_the_tail_has_dropped_what_its_sink_could_not_take(
    harness: HubHarness,
) -> None:
    entries = long_log(3 * TAIL_ENTRIES)
    collector = await following(harness, entries[:3])
    collector.is_idle = collector.has_room = False
    for entry in entries[3:-1]:
        await harness.append(RECORD, [entry])
    assert collector.cursor.state is State.FOLLOWING
    collector.make_room()
    await until(lambda: collector.is_idle)
    assert streamed_text(collector.events) == "".join(map(_word, range(3 * TAIL_ENTRIES)))
    assert collector.events[-1].id == str(entries[-2].id)


# positions that the log does not continue


async def test_cursor_starts_over_from_a_position_inside_an_entry(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    opened = ENTRIES[2].id
    collector = await harness.follow(RECORD, after=EntryId(opened.epoch, opened.seq - 1))
    await complete(collector)
    first, *rest = collector.events
    assert (first.id, first.kind, first.value) == (None, "restarted", {"reason": "log_changed"})
    assert rest[0].seq == 0
    assert streamed_text(rest) == TEXT


async def test_cursor_starts_over_from_a_position_of_a_lost_attempt(harness: HubHarness) -> None:
    await harness.create(RECORD, RESTARTED)
    lost = EntryId(RESTARTED[1].id.epoch, RESTARTED[-1].id.seq - 1)
    collector = await harness.follow(RECORD, after=lost)
    await complete(collector)
    assert collector.events[0].id is None
    assert streamed_text(collector.events) == "Twice upon"


@pytest.mark.parametrize("after", [EntryId(ENTRIES[-1].id.epoch, 999), EntryId(10**14, 3), EntryId(10**14, 10**14)])
async def test_cursor_ahead_of_the_log_waits_a_lease_and_starts_over(harness: HubHarness, after: EntryId) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, after=after)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    assert collector.cursor.needs_tick
    pass_time(collector.cursor, LEASE_S - 1)
    await until(lambda: collector.is_idle)
    assert collector.events == []
    pass_time(collector.cursor, 1.1)
    await complete(collector)
    assert (collector.events[0].id, collector.events[0].kind) == (None, "restarted")
    assert collector.events[1].seq == 0
    assert streamed_text(collector.events) == TEXT


async def test_cursor_ahead_of_the_log_goes_on_where_the_log_catches_up_in_time(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[:4])
    collector = await harness.follow(RECORD, after=ENTRIES[4].id)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    await harness.append(RECORD, ENTRIES[4:])
    await complete(collector)
    assert "restarted" not in collector.kinds
    assert streamed_text(collector.events) == TEXT.removeprefix("Hello,")


async def test_cursor_reads_the_log_where_an_earlier_attempt_continues_its_sequence(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number fits, the epoch does not: an earlier attempt goes on after the server came back with older data."""
    collector = await following(harness, ENTRIES[:4])
    pages: list[object] = []

    async def counted(*arguments: object, **options: object) -> object:
        pages.append(arguments)
        return await page(*arguments, **options)  # type: ignore[arg-type]

    page = harness.log.page
    monkeypatch.setattr(harness.log, "page", counted)
    newest = ENTRIES[3].id
    harness.publish(RECORD, pack([to_row(Entry(EntryId(newest.epoch - 1, newest.seq + 1), Text(0, "stale")))]))
    await until(lambda: pages and collector.is_idle)
    assert "stale" not in streamed_text(collector.events)


async def test_cursor_reads_a_page_that_does_not_continue_its_position_once_more(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.create(RECORD, ENTRIES)
    page, reads = harness.log.page, list[Page]()

    async def misread(*arguments: object, **options: object) -> Page:
        reads.append(await page(*arguments, **options))  # type: ignore[arg-type]
        return reads[-1]._replace(before=reads[-1].before - (len(reads) == 1))

    monkeypatch.setattr(harness.log, "page", misread)
    collector = await harness.follow(RECORD, after=ENTRIES[3].id)
    await complete(collector)
    assert "restarted" not in collector.kinds
    assert len(reads) == 2


async def test_cursor_aborts_where_a_damaged_log_lacks_its_beginning(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES[2:])
    collector = await harness.follow(RECORD, after=EntryId(1, 0))
    await until(lambda: collector.cursor.state is State.ABORTED)
    assert collector.kinds == ["restarted"]


# a log that goes away


async def test_cursor_reports_a_deleted_log_at_once(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.delete(RECORD)
    await complete(collector)
    assert collector.events[-1] == (None, "gone", '{"reason":"deleted"}')


@pytest.mark.parametrize("reason", ["expired", "lost"])
async def test_cursor_reports_a_vanished_log_after_a_lease(harness: HubHarness, reason: str) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.redis.flushall()
    if reason == "expired":
        await harness.redis.hset(keys.tombstone(RECORD.id), mapping={"owner": RECORD.owner})
    harness.confirm(RECORD)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    assert len(collector.events) == 3
    pass_time(collector.cursor, LEASE_S + 1)
    await complete(collector)
    assert collector.events[-1] == (None, "gone", f'{{"reason":"{reason}"}}')


async def test_cursor_reports_no_lost_log_while_workers_restore_others(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.redis.flushall()
    await harness.redis.set(keys.restoring(""), b"")
    harness.confirm(RECORD)
    for _ in range(3):
        await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
        pass_time(collector.cursor, LEASE_S + 1)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    assert len(collector.events) == 3
    await harness.redis.delete(keys.restoring(""))
    pass_time(collector.cursor, 0)
    await complete(collector)
    assert collector.kinds[-1] == "gone"


async def test_cursor_starts_over_only_when_workers_have_restored_what_they_have(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:6])
    await harness.redis.flushall()
    await harness.create(RECORD, ENTRIES[:4])
    await harness.redis.set(keys.restoring(""), b"")
    harness.confirm(RECORD)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    pass_time(collector.cursor, LEASE_S + 1)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    await harness.append(RECORD, ENTRIES[4:])
    await complete(collector)
    assert "restarted" not in collector.kinds


async def test_cursor_goes_on_where_a_log_is_restored_within_a_lease(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.redis.flushall()
    harness.confirm(RECORD)
    await until(lambda: collector.cursor.state is State.MISSING and collector.is_idle)
    await harness.create(RECORD, ENTRIES[:3], published=True)
    await until(lambda: collector.cursor.state is State.FOLLOWING and collector.is_idle)
    assert not collector.cursor.needs_tick
    await harness.append(RECORD, ENTRIES[3:])
    await complete(collector)
    assert streamed_text(collector.events) == TEXT
    assert "restarted" not in collector.kinds


async def test_cursor_starts_over_where_a_log_came_back_older_and_went_on_otherwise(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:6])
    await harness.redis.flushall()
    await harness.create(RECORD, ENTRIES[:4])
    later = ENTRIES[0].id.epoch + 9999
    await harness.append(RECORD, [Entry(EntryId(later, each.id.seq), each.event, each.extra) for each in ENTRIES[4:]])
    await complete(collector)
    assert [event.id for event in collector.events].count(None) == 1
    assert streamed_text(collector.events) == TEXT


async def test_cursor_finds_by_position_what_no_message_announced(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    await harness.append(RECORD, ENTRIES[3:], published=False)
    position = await harness.log.position(RECORD.id)
    collector.cursor.on_position(position)
    await complete(collector)
    assert streamed_text(collector.events) == TEXT


async def test_cursor_at_the_position_of_the_log_reads_nothing(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    position = await harness.log.position(RECORD.id)
    collector.cursor.on_position(position)
    assert collector.is_idle
    assert collector.cursor.state is State.FOLLOWING


# Redis away


async def _unreachable(*_: object, **__: object) -> object:
    raise RedisUnavailable


async def test_cursor_waits_for_redis_and_goes_on(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = await following(harness, ENTRIES[:3])
    with monkeypatch.context() as away:
        away.setattr(Log, "page", _unreachable)
        harness.confirm(RECORD)
        await until(lambda: collector.cursor._failing_since and collector.is_idle)
        needs_tick = [collector.cursor.needs_tick]
        collector.wake()
        await until(lambda: collector.is_idle)
    await harness.append(RECORD, ENTRIES[3:4], published=False)
    collector.wake()
    await until(lambda: collector.cursor.state is State.FOLLOWING and collector.is_idle)
    needs_tick.append(collector.cursor.needs_tick)
    assert needs_tick == [True, False]
    await harness.append(RECORD, ENTRIES[4:])
    await complete(collector)
    assert streamed_text(collector.events) == TEXT


async def test_cursor_ends_at_the_first_failure_where_redis_has_been_away_for_long(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.create(RECORD, ENTRIES[:3])
    monkeypatch.setattr(Log, "page", _unreachable)
    monkeypatch.setattr(Hub, "is_away", lambda *_: True)
    collector = await harness.follow(RECORD)
    await until(lambda: collector.cursor.is_final or collector.is_idle)
    assert collector.cursor.state is State.UNAVAILABLE


async def test_cursor_ends_where_redis_fails_for_longer_than_the_grace_period(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = await following(harness, ENTRIES[:3])
    monkeypatch.setattr(Log, "page", _unreachable)
    harness.confirm(RECORD)
    connection_of(harness.hub.subscriber)._connected_at -= 60  # a reconnection would begin another grace period
    await until(lambda: collector.cursor._failing_since and collector.is_idle)
    pass_time(collector.cursor, harness.hub.settings.restart_grace_s - 1)
    await until(lambda: collector.is_idle)
    pass_time(collector.cursor, 1.1)
    await until(lambda: collector.cursor.state is State.UNAVAILABLE)


async def test_cursor_restarts_the_grace_period_where_redis_was_back_in_between(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two outages, each shorter than the grace period, with no successful read between them."""
    collector = await following(harness, ENTRIES[:3])
    monkeypatch.setattr(Log, "page", _unreachable)
    harness.confirm(RECORD)
    await until(lambda: collector.cursor._failing_since and collector.is_idle)
    harness.disconnect()
    harness.reconnect()
    pass_time(collector.cursor, harness.hub.settings.restart_grace_s + 1)
    await until(lambda: collector.is_idle or collector.cursor.is_final)
    assert not collector.cursor.is_final


async def test_silent_cursor_ends_where_redis_stays_away(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = await following(harness, ENTRIES[:3])
    needs_tick = [collector.cursor.needs_tick]
    monkeypatch.setattr(Hub, "is_away", lambda *_: True)
    needs_tick.append(collector.cursor.needs_tick)
    assert needs_tick == [False, True]
    collector.wake()
    await until(lambda: collector.cursor.state is State.UNAVAILABLE)


# joining the tail


async def test_cursor_reads_again_where_messages_may_have_been_missed_while_it_read(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = await following(harness, ENTRIES[:3])
    page, asked = harness.log.page, asyncio.Semaphore(0)

    async def slow(*arguments: object, **options: object) -> object:
        result = await page(*arguments, **options)  # type: ignore[arg-type]
        await asked.acquire()
        return result

    monkeypatch.setattr(harness.log, "page", slow)
    harness.confirm(RECORD)
    for _ in range(20):
        await asyncio.sleep(0)
    await harness.append(RECORD, ENTRIES[3:], published=False)
    harness.confirm(RECORD)
    asked.release()
    asked.release()
    await complete(collector)
    assert streamed_text(collector.events) == TEXT


async def test_cursor_of_a_log_that_counted_as_finished_and_is_not_follows_it(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    finished = await harness.log.state(RECORD.id)
    await harness.redis.flushall()
    await harness.create(RECORD, ENTRIES[:4])
    collector = Collector()
    wire = WIRE_FORMATS["native"]
    collector.cursor = LogCursor(harness.hub, wire, wire.bind(RECORD, None), finished, None, collector)
    assert connection_of(harness.hub.subscriber)._listeners == {}
    harness.tasks.append(asyncio.create_task(collector.run()))
    await until(lambda: collector.is_idle)
    assert len(connection_of(harness.hub.subscriber)._listeners) == 1
    await harness.append(RECORD, ENTRIES[4:])
    await complete(collector)
    assert collector.events[-1].kind == "done"


async def test_closed_cursor_follows_nothing(harness: HubHarness) -> None:
    collector = await following(harness, ENTRIES[:3])
    collector.cursor.close()
    assert harness.hub.tails == 0
    assert connection_of(harness.hub.subscriber)._listeners == {}
    await harness.append(RECORD, ENTRIES[3:])
    assert len(collector.events) == 3


# other formats


async def test_ndjson_is_a_line_an_event(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, wire="ndjson")
    await complete(collector)
    lines = [json.loads(line) for line in collector.body.decode().split("\n") if line]
    assert [line["event"] for line in lines] == ["created", "started", "item_opened", "text", "done"]
    assert lines[3] == {"id": str(ENTRIES[-2].id), "event": "text", "data": {"text": TEXT}}


async def test_ndjson_starts_over_with_a_line_without_an_id(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, wire="ndjson", after=EntryId(1, 1))
    await complete(collector)
    assert collector.body.startswith(b'{"event":"restarted","data":{"reason":"log_changed"}}\n{"id":')


async def test_text_is_the_text_alone(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, wire="text")
    await complete(collector)
    assert collector.body.decode() == TEXT


@pytest.mark.parametrize("wire", ["text", "openai-chat"])
async def test_format_without_restarts_begins_behind_the_last_one(harness: HubHarness, wire: str) -> None:
    await harness.create(RECORD, RESTARTED)
    await harness.redis.hset(keys.state(RECORD.id), mapping={"attempt": 2})
    collector = await harness.follow(RECORD, wire=wire)
    assert collector.cursor.state is State.SEEKING
    await complete(collector)
    assert b"upon" in collector.body
    assert b"Once" not in collector.body


async def test_format_without_restarts_does_not_read_what_the_last_one_revoked(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.create(RECORD, RESTARTED)
    await harness.redis.hset(keys.state(RECORD.id), mapping={"attempt": 2})
    read, page = [], harness.hub.log.page

    async def record_page(*args: Any, **options: Any) -> Page:
        result = await page(*args, **options)
        read.extend(result.entries)
        return result

    monkeypatch.setattr(harness.hub.log, "page", record_page)
    await complete(await harness.follow(RECORD, wire="text"))
    restart = next(entry.id for entry in RESTARTED if isinstance(entry.event, Restarted))
    assert read
    assert all(entry.id > restart for entry in read)


async def test_format_without_restarts_reports_a_log_that_vanishes_before_it_is_read(harness: HubHarness) -> None:
    await harness.create(RECORD, RESTARTED)
    await harness.redis.hset(keys.state(RECORD.id), mapping={"attempt": 2})
    collector = await harness.follow(RECORD, wire="text")
    await harness.redis.delete(keys.state(RECORD.id), keys.log(RECORD.id))
    await until(lambda: collector.cursor.state is State.MISSING)


@pytest.mark.parametrize("wire", ["text", "openai-chat"])
@pytest.mark.parametrize("is_last", [False, True])
async def test_format_without_restarts_skips_one_that_revokes_nothing(
    harness: HubHarness, wire: str, is_last: bool
) -> None:
    """Nothing has been sent when the restart arrives, in one batch with what it revokes."""
    restart = next(index for index, entry in enumerate(RESTARTED) if isinstance(entry.event, Restarted))
    batch_end = restart + 1 if is_last else len(RESTARTED)
    await harness.create(RECORD, RESTARTED[:2])
    collector = await harness.follow(RECORD, wire=wire)
    await until(lambda: collector.is_idle)
    await harness.append(RECORD, RESTARTED[2:batch_end])
    assert collector.body == b"" or not is_last
    await harness.append(RECORD, RESTARTED[batch_end:])
    await complete(collector)
    assert b"upon" in collector.body
    assert b"Once" not in collector.body


@pytest.mark.parametrize(("wire", "state"), [("text", State.ABORTED), ("openai-chat", State.COMPLETE)])
async def test_format_without_restarts_ends_at_one_that_revokes_something(
    harness: HubHarness, wire: str, state: State
) -> None:
    restart = next(index for index, entry in enumerate(RESTARTED) if isinstance(entry.event, Restarted))
    collector = await following(harness, RESTARTED[:restart], wire=wire)
    sent = collector.body
    await harness.append(RECORD, RESTARTED[restart:])
    await until(lambda: collector.cursor.is_final)
    assert collector.cursor.state is state
    rest = collector.body.removeprefix(sent)
    assert rest == b"" if wire == "text" else b'"code":"restarted"' in rest
    assert b"Twice" not in rest


async def test_responses_goes_on_at_a_restart(harness: HubHarness) -> None:
    await harness.create(RECORD, RESTARTED)
    collector = await harness.follow(RECORD, wire="openai-responses")
    await complete(collector)
    assert collector.kinds.count("response.in_progress") == 2
    assert collector.kinds[-1] == "response.completed" or collector.kinds[-2] == "response.completed"


# frames that the client has, of an entry that it has in part


def position_before(entries: list[Entry], number: int) -> EntryId:
    """The last entry that ends before this sequence number."""
    return max((entry.id for entry in entries if entry.id.seq < number), default=START)


def frames_of(body: bytes) -> list[bytes]:
    return body.split(b"\n\n")[:-1]


@pytest.mark.parametrize("name", LOGS)
async def test_responses_after_every_number_is_exactly_the_rest(harness: HubHarness, name: str) -> None:
    entries = LOGS[name](RECORD)
    encode = RESPONSES.bind(RECORD, REQUEST)
    whole = frames_of(b"".join(encode(entry) or b"" for entry in entries))
    await harness.create(RECORD, entries)
    for number in range(len(whole)):
        after = position_before(entries, number)
        collector = await harness.follow(RECORD, wire="openai-responses", after=after, seen_to=number)
        await complete(collector)
        assert frames_of(collector.body) == whole[number + 1 :]


async def test_responses_after_a_number_beyond_the_end_is_the_end_alone(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    after = position_before(ENTRIES, ENTRIES[-1].id.seq)
    collector = await harness.follow(RECORD, wire="openai-responses", after=after, seen_to=1000)
    await complete(collector)
    assert collector.body == b"data: [DONE]\n\n"


async def test_responses_waits_for_what_follows_a_number_beyond_a_live_log(harness: HubHarness) -> None:
    encode = RESPONSES.bind(RECORD, REQUEST)
    number = ENTRIES[2].id.seq - 1  # inside of an entry that has two frames
    collector = await following(harness, ENTRIES[:2], wire="openai-responses", after=ENTRIES[1].id, seen_to=number)
    for entry in ENTRIES[2:]:
        await harness.append(RECORD, [entry])
    await complete(collector)
    rest = b"".join(encode(entry) or b"" for entry in ENTRIES[2:])
    assert frames_of(collector.body) == frames_of(rest)[1:]


@pytest.mark.parametrize("name", ["cancelled", "failed", "truncated", "cancelled-while-queued"])
async def test_text_aborts_where_the_answer_is_not_whole(harness: HubHarness, name: str) -> None:
    await harness.create(RECORD, LOGS[name](RECORD))
    collector = await harness.follow(RECORD, wire="text")
    await until(lambda: collector.cursor.state is State.ABORTED)


@pytest.mark.parametrize("wire", ["text", "openai-chat", "openai-responses"])
async def test_format_that_cannot_start_over_aborts(harness: HubHarness, wire: str) -> None:
    await harness.create(RECORD, ENTRIES)
    collector = await harness.follow(RECORD, wire=wire, after=EntryId(1, 1))
    await until(lambda: collector.cursor.state is State.ABORTED)
    assert collector.body == b""


@pytest.mark.parametrize("wire", ["text", "openai-chat", "openai-responses"])
async def test_format_that_cannot_report_a_missing_log_aborts(harness: HubHarness, wire: str) -> None:
    collector = await following(harness, ENTRIES[:3], wire=wire)
    await harness.delete(RECORD)
    await until(lambda: collector.cursor.state is State.ABORTED)


# positions


async def test_position_is_ahead_by_its_number_or_by_its_epoch(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    state = await harness.log.state(RECORD.id)
    epoch, seq = state.position.epoch, state.position.seq
    assert not is_ahead(state.position, state)
    assert not is_ahead(START, state)
    assert not is_ahead(EntryId(epoch - 1, seq), state)
    assert is_ahead(EntryId(epoch, seq + 1), state)
    assert is_ahead(EntryId(epoch + 1, 0), state)
