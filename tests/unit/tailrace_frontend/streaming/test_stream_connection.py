"""The connection with a fake socket (`Client` of the hub's harness). The cursor's rules are in test_log_cursor.py."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest

from support.hub_harness import HEADERS, Client, HubHarness, until
from support.logs import LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from support.sse import streamed_text
from tailrace.errors import CorruptEntry, RedisUnavailable
from tailrace.log import Log
from tailrace.log.codec import pack, to_row
from tailrace.log.reading import PAGE_BYTES
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.log_cursor import LogCursor
from tailrace_frontend.streaming.stream_connection import retry_ms

RECORD = record()
ENTRIES = LOGS["text"](RECORD)
TEXT = "Hello, world\u2028."
KEEPALIVE_S = 15.0


@pytest.fixture
async def harness() -> AsyncIterator[HubHarness]:
    harness = HubHarness(lease_s=5, keepalive_s=KEEPALIVE_S, client_write_timeout_s=30)
    yield harness
    await harness.close()


async def idle_client(harness: HubHarness, wire: str = "native") -> Client:
    """A client that has received three entries of a live log."""
    await harness.create(RECORD, ENTRIES[:3])
    client = await harness.connect(RECORD, wire=wire)
    await until(lambda: client.stream.is_idle)
    return client


# the response


async def test_response_has_its_headers_and_ends_with_the_log(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    client = await harness.connect(RECORD)
    await until(lambda: client.completed)
    assert client.start == {"type": "http.response.start", "status": 200, "headers": HEADERS}
    assert client.kinds == ["created", "started", "item_opened", "text", "done"]
    assert streamed_text(client.events) == TEXT
    assert (harness.hub.count, harness.hub.tails) == (0, 0)


async def test_connection_writes_live_entries_without_waking_its_task(harness: HubHarness) -> None:
    client = await idle_client(harness)
    waiter = client.stream._waiter
    for entry in ENTRIES[3:-1]:
        harness.publish(RECORD, pack([to_row(entry)]))
        assert client.events[-1].id == str(entry.id)
        assert not waiter.done()
    harness.publish(RECORD, pack([to_row(ENTRIES[-1])]))
    assert client.events[-1].kind == "done"
    assert waiter.done()
    await until(lambda: client.completed)


async def test_connection_ends_where_its_client_disconnects(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.disconnect()
    await until(lambda: harness.running == 0)
    assert (harness.hub.count, harness.hub.tails) == (0, 0)
    assert client.connection.on_lost is None
    assert not client.completed


@pytest.mark.parametrize("event", ["disconnect", "drain"])
async def test_connection_ends_also_where_that_is_requested_while_its_cursor_reads(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    """The cursor finds nothing to send, and the next tick is far away."""
    client = await idle_client(harness)
    reading, found = asyncio.Event(), asyncio.Event()

    async def slow(*_: object, **__: object) -> object:
        reading.set()
        await found.wait()
        raise RedisUnavailable

    monkeypatch.setattr(harness.log, "page", slow)
    harness.confirm(RECORD)
    await reading.wait()
    if event == "drain":
        client.stream.drain()
    else:
        client.disconnect()
    found.set()
    await until(lambda: harness.running == 0)
    assert harness.hub.count == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_connection_that_is_cancelled_while_idle_may_still_be_woken_or_fail(
    harness: HubHarness, fails: bool
) -> None:
    client = await idle_client(harness)
    harness.tasks[0].cancel()
    client.stream._waiter.cancel()
    client.stream.fail(RuntimeError()) if fails else client.stream.wake()
    await until(lambda: harness.running == 0)
    client.stream.wake()
    client.stream.fail(RuntimeError())
    assert harness.tasks[0].cancelled()
    assert harness.hub.count == 0


async def test_connection_whose_socket_raises_ends_with_the_error_and_is_served_no_more(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = await idle_client(harness), await harness.connect(RECORD)
    await until(lambda: other.stream.is_idle)

    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client.transport, "write", fail)
    await harness.append(RECORD, ENTRIES[3:])
    await until(lambda: harness.running == 0)
    assert isinstance(harness.tasks.pop(0).exception(), ZeroDivisionError)
    assert harness.hub.count == 0
    assert streamed_text(other.events) == TEXT


# a socket that is full


async def test_full_socket_is_written_to_again_once_it_has_drained(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.fills_on_write = True
    await harness.append(RECORD, [ENTRIES[3]])
    count = len(client.writes)
    await harness.append(RECORD, [ENTRIES[4]])
    await harness.append(RECORD, ENTRIES[5:])
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(client.writes) == count
    client.fills_on_write = False
    client.flow.resume_writing()
    await until(lambda: client.completed)
    assert [event.id for event in client.events] == [str(entry.id) for entry in ENTRIES]


async def test_full_socket_has_nothing_read_ahead_of_it_and_slows_no_other(harness: HubHarness) -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(3000 * [99 * "x"]))).end("completed")
    await harness.create(RECORD, entries)
    other = await harness.connect(RECORD)
    await until(lambda: other.completed)
    client = await harness.connect(RECORD, client=Client(fills_on_write=True))
    for page in range(1, 4):
        await until(lambda page=page: len(client.writes) == page)  # type: ignore[misc]
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(client.writes) == page
        client.flow.resume_writing()
    client.disconnect()


async def test_full_socket_gets_of_a_heavy_page_no_more_than_it_takes(harness: HubHarness) -> None:
    light, heavy = "|".join(200 * ["x"]), "|".join(600 * ["y" * 4000])
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts(f"{light}|{heavy}")).end("completed")
    await harness.create(RECORD, entries)
    client = await harness.connect(RECORD, client=Client(fills_on_write=True))
    while not client.completed:
        await until(lambda: client.connection.is_full or client.completed)
        client.flow.resume_writing()
    assert streamed_text(client.events) == 200 * "x" + 600 * ("y" * 4000)
    assert max(map(len, client.writes[:-1])) < 2 * PAGE_BYTES


async def test_full_socket_is_aborted_after_the_write_timeout_and_not_before(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.fills_on_write = True
    await harness.append(RECORD, [ENTRIES[3]])
    await until(lambda: client.stream._blocked_since)
    harness.tick(29)
    assert not client.was_aborted()
    harness.tick(31)
    assert client.was_aborted()
    await until(lambda: harness.running == 0)
    assert not client.completed


async def test_full_socket_is_aborted_at_the_end_of_the_log_too(harness: HubHarness) -> None:
    await harness.create(RECORD, ENTRIES)
    client = await harness.connect(RECORD, client=Client(never_flushes=True))
    await until(lambda: client.transport.limit == 0)
    assert streamed_text(client.events) == TEXT
    assert not client.completed
    harness.tick(31)
    assert client.was_aborted()
    await until(lambda: harness.running == 0)


async def test_response_ends_once_the_socket_has_taken_everything_and_leaves_its_limits_as_they_were(
    harness: HubHarness,
) -> None:
    await harness.create(RECORD, ENTRIES)
    client = await harness.connect(RECORD, client=Client(never_flushes=True))
    await until(lambda: client.transport.limit == 0)
    client.flow.resume_writing()
    await until(lambda: client.completed)
    assert client.transport.limit is None
    assert not client.was_aborted()


# the tick


async def test_tick_aborts_a_connection_whose_key_was_withdrawn(harness: HubHarness) -> None:
    client = await idle_client(harness)
    harness.valid_owners.clear()
    harness.tick(KEEPALIVE_S / 4)
    assert not client.was_aborted()
    harness.tick(KEEPALIVE_S / 2)
    await until(lambda: harness.running == 0)
    assert client.was_aborted()
    assert not client.completed


async def test_tick_sends_a_comment_on_a_silent_stream(harness: HubHarness) -> None:
    client = await idle_client(harness)
    harness.tick(KEEPALIVE_S / 2)
    assert client.comments == []
    harness.tick(KEEPALIVE_S)
    assert client.comments == [""]
    harness.tick(KEEPALIVE_S / 2)
    assert client.comments == [""]


async def test_tick_sends_no_comment_on_a_stream_that_has_just_sent_an_event(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.stream._written_at -= KEEPALIVE_S
    await harness.append(RECORD, [ENTRIES[3]])
    harness.tick()
    assert client.comments == []


@pytest.mark.parametrize(("wire", "keep_alive"), [("ndjson", b"\n"), ("text", b"")])
async def test_tick_sends_what_the_format_has_as_keep_alive(harness: HubHarness, wire: str, keep_alive: bytes) -> None:
    client = await idle_client(harness, wire)
    sent = client.body
    harness.tick(KEEPALIVE_S)
    assert client.body == sent + keep_alive


async def test_tick_sends_no_comment_while_the_task_runs_nor_after_the_end(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.stream.wake()
    client.stream.tick(time.monotonic() + KEEPALIVE_S)
    assert client.comments == []
    await harness.append(RECORD, ENTRIES[3:])
    await until(lambda: client.completed)
    client.stream.tick(time.monotonic() + KEEPALIVE_S)
    assert client.comments == []


async def test_comment_that_fills_the_socket_begins_the_write_timeout(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.fills_on_write = True
    harness.tick(KEEPALIVE_S)
    await until(lambda: client.stream._blocked_since)
    harness.tick(31)
    assert client.was_aborted()


async def test_tick_has_a_read_that_failed_repeated(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await idle_client(harness)

    async def unreachable(*_: object, **__: object) -> object:
        raise RedisUnavailable

    with monkeypatch.context() as away:
        away.setattr(Log, "page", unreachable)
        harness.confirm(RECORD)
        await until(lambda: client.stream.cursor._failing_since and client.stream.is_idle)
    await harness.append(RECORD, ENTRIES[3:], published=False)
    harness.tick()
    await until(lambda: client.completed)
    assert streamed_text(client.events) == TEXT
    assert client.comments == []


# ends that are none


async def test_stream_ends_with_a_retry_hint_where_redis_stays_away(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await idle_client(harness)
    monkeypatch.setattr(Hub, "is_away", lambda *_: True)
    harness.tick()
    await until(lambda: client.completed)
    assert client.comments == ["Redis is unavailable"]
    assert client.writes[-1].startswith(b"retry: ")


async def test_drained_stream_ends_with_a_retry_hint(harness: HubHarness) -> None:
    client = await idle_client(harness)
    client.stream.drain()
    await until(lambda: client.completed)
    assert client.comments == ["this frontend is stopping"]
    assert client.writes[-1].startswith(b"retry: ")


@pytest.mark.parametrize("wire", ["ndjson", "text", "openai-chat", "openai-responses"])
async def test_drained_stream_is_aborted_where_its_format_has_no_retry_hint(harness: HubHarness, wire: str) -> None:
    client = await idle_client(harness, wire)
    sent = client.body
    client.stream.drain()
    await until(lambda: harness.running == 0)
    assert client.was_aborted()
    assert not client.completed
    assert client.body == sent


@pytest.mark.parametrize("name", ["cancelled", "failed", "truncated"])
async def test_stream_is_aborted_where_its_cursor_is(harness: HubHarness, name: str) -> None:
    await harness.create(RECORD, LOGS[name](RECORD))
    client = await harness.connect(RECORD, wire="text")
    await until(lambda: harness.running == 0)
    assert client.was_aborted()
    assert not client.completed
    assert (harness.hub.count, harness.hub.tails) == (0, 0)


def test_retry_delays_are_spread_over_one_to_three_seconds() -> None:
    delays = {retry_ms() for _ in range(200)}
    assert len(delays) > 50
    assert 1000 <= min(delays) <= max(delays) <= 3000


async def test_reader_that_leaves_is_freed_without_a_collection(harness: HubHarness) -> None:
    client = await idle_client(harness)
    gc.collect()
    gc.disable()
    try:
        client.disconnect()
        await until(lambda: harness.running == 0)
        del client.stream
        harness.tasks.clear()
        assert not [each for each in gc.get_objects() if isinstance(each, LogCursor)]
    finally:
        gc.enable()


async def test_error_before_the_first_page_breaks_a_response_off_that_has_begun(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise CorruptEntry

    await harness.create(RECORD, ENTRIES[:3])
    monkeypatch.setattr(Log, "page", fails)
    client = await harness.connect(RECORD)
    await until(lambda: harness.running == 0)
    assert [message["type"] for message in client.messages] == ["http.response.start"]
    assert isinstance(harness.tasks.pop().exception(), CorruptEntry)
