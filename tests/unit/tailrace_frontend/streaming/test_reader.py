import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.logs import LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from support.sse import said
from support.web import Client, Web, until
from tailrace import keys
from tailrace.errors import RedisUnavailable
from tailrace.events import NO_EXTRA, Delta, Entry, Reasoning, Text
from tailrace.ids import START, EntryId
from tailrace.log import Log, codec
from tailrace.log.codec import pack, to_row
from tailrace.log.output import Output
from tailrace.log.reading import PAGE_BYTES
from tailrace_frontend.streaming import hub as hub_module
from tailrace_frontend.streaming.event_stream import HEADERS, come_again
from tailrace_frontend.streaming.reader import is_ahead

RECORD = record()
ENTRIES = LOGS["text"](RECORD)
TEXT = "Hello, world\u2028."
RESTARTED = LOGS["restarted"](RECORD)
KEEPALIVE_S = 15.0


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web(lease_s=5, keepalive_s=KEEPALIVE_S, client_write_timeout_s=30)
    yield web
    await web.close()


def long_log(count: int) -> list[Entry]:
    log = LogBuilder(RECORD).start().add(text_opened(), *texts("|".join(map(_word, range(count)))))
    return log.end("completed")


def _word(n: int) -> str:
    return f"{n:_>99} "


# merging


def merged(entries: list[Entry]) -> list[Entry]:
    """As the log stores them, and then merged."""
    told, size = codec.coalesce_rows([as_stored(entry) for entry in entries])
    assert size == codec.stored_size([as_stored(entry) for entry in entries])
    return told


def as_stored(entry: Entry) -> tuple[bytes, list[bytes]]:
    row = to_row(entry)
    extra = [b"extra", row.extra.encode()] if row.extra else []
    return str(row.id).encode(), [row.field.encode(), row.value.encode(), *extra]


@pytest.mark.parametrize("name", LOGS)
def test_entry_as_redis_replies_is_the_entry(name: str) -> None:
    for entry in LOGS[name](RECORD):
        entry_id, fields = as_stored(entry)
        assert codec.from_row(codec.stored_row((entry_id, fields))) == entry


@pytest.mark.parametrize("name", LOGS)
def test_merged_a_log_folds_to_the_same_and_ends_at_the_same_id(name: str) -> None:
    entries = LOGS[name](RECORD)
    told = merged(entries)
    assert told[-1].id == entries[-1].id
    assert Output(told).items() == Output(entries).items()
    assert Output(told).done == Output(entries).done


@pytest.mark.parametrize("name", LOGS)
def test_merging_leaves_alone_what_is_no_bare_delta(name: str) -> None:
    entries = LOGS[name](RECORD)

    def structure(of: list[Entry]) -> list[Entry]:
        return [entry for entry in of if not isinstance(entry.event, Delta) or entry.extra is not NO_EXTRA]

    assert structure(merged(entries)) == structure(entries)


@pytest.mark.parametrize("name", LOGS)
@settings(max_examples=25)
@given(data=st.data())
def test_merged_from_any_cursor_and_in_any_pages_a_log_says_the_same(name: str, data: st.DataObject) -> None:
    entries = LOGS[name](RECORD)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=4)))
    pages = [entries[start:end] for start, end in zip([0, *cuts], [*cuts, len(entries)], strict=True)]
    told = [entry for page in pages for entry in merged(page)]
    assert Output(told).items() == Output(entries).items()
    assert {entry.id for entry in told} <= {entry.id for entry in entries}
    assert [entry.id for entry in told] == sorted(entry.id for entry in told)


def test_adjacent_deltas_of_one_place_become_one_under_the_last_id() -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("a|b|c|d")).end("completed")
    (only,) = [entry for entry in merged(entries) if isinstance(entry.event, Text)]
    assert only.event == Text(0, "abcd")
    assert only.id == [entry for entry in entries if isinstance(entry.event, Text)][-1].id


def test_deltas_of_other_items_choices_kinds_and_keys_stay_apart() -> None:
    deltas: list[Delta] = [
        Text(0, "a"), Text(1, "b"), Text(0, "c"), Text(0, "d"), Reasoning(2, "e"),
        Reasoning(2, "f", key="reasoning"), Reasoning(2, "g", key="reasoning"), Reasoning(2, "h"),
    ]  # fmt: skip
    entries = [Entry(EntryId(1, n), delta) for n, delta in enumerate(deltas)]
    assert [entry.event.text for entry in merged(entries) if isinstance(entry.event, Delta)] == [
        "a", "b", "cd", "e", "fg", "h",
    ]  # fmt: skip


def test_nothing_merges_to_nothing() -> None:
    assert merged([]) == []


def test_merging_leaves_the_entries_themselves_as_they_were() -> None:
    entries = LOGS["text"](RECORD)
    merged(entries)
    assert entries == LOGS["text"](RECORD)


# the whole log, and its rest


def without_ids(client: Client) -> list[tuple[str, str]]:
    return [(event.kind, event.data) for event in client.events]


async def test_a_finished_log_is_told_whole_and_the_answer_ends(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD)
    await until(lambda: client.ended)
    assert client.record["status"] == 200
    assert client.record["headers"] == [(b"content-type", b"text/event-stream; charset=utf-8"), *HEADERS]
    assert [event.kind for event in client.events] == ["created", "started", "item_opened", "text", "done"]
    assert said(client.events) == TEXT
    assert client.events[-1].id == str(ENTRIES[-1].id)
    assert web.hub.count == 0


@pytest.mark.parametrize("entry", ENTRIES[:-1], ids=lambda entry: entry.event.kind)
async def test_after_a_cursor_exactly_the_rest_is_told(web: Web, entry: Entry) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, cursor=entry.id)
    await until(lambda: client.ended)
    position = ENTRIES.index(entry) + 1
    told_before = "".join(e.event.text for e in ENTRIES[:position] if isinstance(e.event, Text))
    assert told_before + said(client.events) == TEXT
    assert all(event.seq > entry.id.seq for event in client.events)


async def test_a_live_log_is_told_as_it_grows_an_event_an_entry(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:1])
    client = await web.read(RECORD)
    await until(lambda: client.events)
    for entry in ENTRIES[1:]:
        await web.add(RECORD, [entry])
        await until(lambda told=str(entry.id): client.events[-1].id == told)  # type: ignore[misc]
    await until(lambda: client.ended)
    assert [event.id for event in client.events] == [str(entry.id) for entry in ENTRIES]


async def test_what_is_heard_is_written_in_the_same_callback_and_wakes_nobody(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    waiter = client.reader._waiter
    assert waiter is not None
    for entry in ENTRIES[3:-1]:
        web.publish(RECORD, pack([to_row(entry)]))
        assert client.events[-1].id == str(entry.id)
        assert client.reader._waiter is waiter
        assert not waiter.done()
    web.publish(RECORD, pack([to_row(ENTRIES[-1])]))
    assert client.events[-1].kind == "done"
    assert waiter.done()
    await until(lambda: client.ended)


async def test_who_cannot_be_told_an_event_fails_alone(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    await web.create(RECORD, ENTRIES[:3])
    clients = [await web.read(RECORD), await web.read(RECORD, wire="ndjson"), await web.read(RECORD)]
    await until(lambda: all(client.reader._waiter for client in clients))
    failing = clients[1].reader

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(failing, "_tell", fail)
        await web.add(RECORD, ENTRIES[3:])
        await until(lambda: clients[0].ended and clients[2].ended)
    await until(lambda: web.reading == 0)
    assert isinstance(web.tasks.pop(1).exception(), ZeroDivisionError)


async def test_to_a_full_socket_nothing_is_written_until_it_has_drained(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    client.fills_up = True
    await web.add(RECORD, [ENTRIES[3]])
    told = len(client.pieces)
    await web.add(RECORD, [ENTRIES[4]])
    await web.add(RECORD, ENTRIES[5:])
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(client.pieces) == told
    client.fills_up = False
    client.flow.resume_writing()
    await until(lambda: client.ended)
    assert [event.id for event in client.events] == [str(entry.id) for entry in ENTRIES]


async def test_a_long_log_is_told_in_pages_none_much_larger_than_64_kib(web: Web) -> None:
    entries = long_log(3000)
    await web.create(RECORD, entries)
    client = await web.read(RECORD)
    await until(lambda: client.ended)
    assert said(client.events) == "".join(map(_word, range(3000)))
    assert max(map(len, client.pieces)) < 128 * 1024
    assert len(client.pieces) > 3


async def test_nothing_is_read_ahead_of_a_full_socket(web: Web) -> None:
    await web.create(RECORD, long_log(3000))
    other = await web.read(RECORD)  # nobody else is slowed
    await until(lambda: other.ended)
    client = await web.read(RECORD, client=Client(fills_up=True))
    for page in range(1, 4):
        await until(lambda page=page: len(client.pieces) == page)  # type: ignore[misc]
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(client.pieces) == page
        client.flow.resume_writing()
    client.leave()


async def test_of_a_page_that_weighs_more_than_it_should_a_full_socket_is_told_no_more_than_it_takes(web: Web) -> None:
    light, heavy = "|".join(200 * ["x"]), "|".join(600 * ["y" * 4000])
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts(f"{light}|{heavy}")).end("completed")
    await web.create(RECORD, entries)
    client = await web.read(RECORD, client=Client(fills_up=True))
    while not client.ended:
        await until(lambda: client.connection.is_full or client.ended)
        client.flow.resume_writing()
    assert said(client.events) == 200 * "x" + 600 * ("y" * 4000)
    assert max(map(len, client.pieces[:-1])) < 2 * PAGE_BYTES


async def test_a_socket_that_stays_full_is_cut_after_the_write_timeout_and_not_before(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    client.fills_up = True
    await web.add(RECORD, [ENTRIES[3]])
    await until(lambda: client.reader._blocked_since)
    web.tick(29)
    assert not client.was_cut()
    web.tick(31)
    assert client.was_cut()
    await until(lambda: web.reading == 0)
    assert not client.ended


async def test_at_the_end_too_a_socket_that_stays_full_is_cut(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, client=Client(holds_back=True))
    await until(lambda: client.transport.limit == 0)
    assert said(client.events) == TEXT
    assert not client.ended
    web.tick(31)
    assert client.was_cut()
    await until(lambda: web.reading == 0)


async def test_the_answer_ends_once_the_socket_has_taken_everything_and_the_next_finds_it_as_it_was(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, client=Client(holds_back=True))
    await until(lambda: client.transport.limit == 0)
    client.flow.resume_writing()
    await until(lambda: client.ended)
    assert client.transport.limit is None
    assert not client.was_cut()


async def test_a_client_that_leaves_ends_its_reader(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    client.leave()
    await until(lambda: web.reading == 0)
    assert web.hub.count == 0
    assert not client.ended


# cursors that the log does not continue


async def test_a_cursor_inside_an_entry_begins_anew(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    opened = ENTRIES[2].id
    client = await web.read(RECORD, cursor=EntryId(opened.epoch, opened.seq - 1))
    await until(lambda: client.ended)
    first, *rest = client.events
    assert (first.id, first.kind, first.value) == (None, "restarted", {"reason": "log_changed"})
    assert rest[0].seq == 0
    assert said(rest) == TEXT


async def test_a_cursor_of_an_attempt_that_was_lost_begins_anew(web: Web) -> None:
    await web.create(RECORD, RESTARTED)
    last = RESTARTED[-1].id
    client = await web.read(RECORD, cursor=EntryId(RESTARTED[1].id.epoch, last.seq - 1))
    await until(lambda: client.ended)
    assert client.events[0].id is None
    assert said(client.events) == "Twice upon"


@pytest.mark.parametrize("cursor", [EntryId(ENTRIES[-1].id.epoch, 999), EntryId(10**14, 3), EntryId(10**14, 10**14)])
async def test_a_cursor_ahead_of_the_log_waits_a_lease_and_then_begins_anew(web: Web, cursor: EntryId) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, cursor=cursor)
    reader = client.reader
    await until(lambda: reader._missing_since and reader._waiter)
    assert client.events == []
    assert reader._missing_since is not None
    reader._missing_since -= 6
    web.tick()
    await until(lambda: client.ended)
    assert (client.events[0].id, client.events[0].kind) == (None, "restarted")
    assert client.events[1].seq == 0
    assert said(client.events) == TEXT


async def test_a_cursor_ahead_of_the_log_goes_on_when_the_log_catches_up_in_time(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:4])
    client = await web.read(RECORD, cursor=ENTRIES[4].id)
    reader = client.reader
    await until(lambda: reader._missing_since and reader._waiter)
    await web.add(RECORD, ENTRIES[4:])
    await until(lambda: client.ended)
    assert "restarted" not in [event.kind for event in client.events]
    assert client.events[0].id == str(ENTRIES[5].id) or said(client.events) == TEXT.removeprefix("Hello,")


async def test_a_reader_that_has_it_all_already_ends_at_once(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, cursor=ENTRIES[-1].id)
    await until(lambda: client.ended)
    assert client.events == []


# a log that goes away


async def test_of_a_deleted_log_the_reader_is_told_at_once(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    await web.delete(RECORD)
    await until(lambda: client.ended)
    assert client.events[-1] == (None, "gone", '{"reason":"deleted"}')


@pytest.mark.parametrize("reason", ["expired", "lost"])
async def test_a_log_that_vanishes_may_come_back_for_a_lease(web: Web, reason: str) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    reader = client.reader
    await web.redis.flushall()
    if reason == "expired":
        await web.redis.hset(keys.tombstone(RECORD.id), mapping={"owner": RECORD.owner})
    web.confirm(RECORD)
    await until(lambda: reader._missing_since and reader._waiter)
    assert len(client.events) == 3
    assert reader._missing_since is not None
    reader._missing_since -= 6
    web.tick()
    await until(lambda: client.ended)
    assert client.events[-1] == (None, "gone", f'{{"reason":"{reason}"}}')


async def test_a_log_that_is_restored_within_a_lease_goes_on_as_if_nothing_had_been(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    reader = client.reader
    await web.redis.flushall()
    web.confirm(RECORD)
    await until(lambda: reader._missing_since and reader._waiter)
    await web.create(RECORD, ENTRIES[:4], heard=True)
    await web.add(RECORD, ENTRIES[4:])
    await until(lambda: client.ended)
    assert said(client.events) == TEXT
    assert "restarted" not in [event.kind for event in client.events]


async def test_a_log_that_came_back_older_and_went_on_otherwise_begins_anew(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:6])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) >= 4)
    await web.redis.flushall()
    await web.create(RECORD, ENTRIES[:4])
    later = [
        Entry(EntryId(ENTRIES[0].id.epoch + 9999, entry.id.seq), entry.event, entry.extra) for entry in ENTRIES[4:]
    ]
    await web.add(RECORD, later)
    await until(lambda: client.ended)
    assert [event.id for event in client.events].count(None) == 1
    assert said(client.events) == TEXT


async def test_an_owner_whose_key_is_withdrawn_is_cut_at_the_next_beat(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    web.callers.clear()
    web.tick(KEEPALIVE_S / 2)
    assert not client.was_cut()
    web.tick(KEEPALIVE_S)
    await until(lambda: web.reading == 0)
    assert client.was_cut()
    assert not client.ended


# silence, and Redis away


async def test_a_silent_stream_is_told_a_comment_on_the_beat(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    await until(lambda: client.reader._waiter)
    web.tick(KEEPALIVE_S / 2)
    assert client.comments == []
    web.tick(KEEPALIVE_S)
    assert client.comments == [""]
    web.tick(KEEPALIVE_S / 2)
    assert client.comments == [""]


async def test_while_its_task_is_awake_and_after_its_end_a_stream_is_told_no_comment(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    reader = client.reader
    reader.wake()
    reader.tick(time.monotonic() + KEEPALIVE_S)
    assert client.comments == []
    await web.add(RECORD, ENTRIES[3:])
    await until(lambda: client.ended)
    reader.tick(time.monotonic() + KEEPALIVE_S)
    assert client.comments == []


async def test_a_comment_that_fills_the_socket_begins_the_write_timeout(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    client.fills_up = True
    web.tick(KEEPALIVE_S)
    await until(lambda: client.reader._blocked_since)
    web.tick(31)
    assert client.was_cut()


async def test_on_the_beat_a_stream_finds_what_no_message_told_of(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    await web.add(RECORD, ENTRIES[3:], heard=False)
    await until(lambda: client.reader._waiter)
    (position,) = await web.log.positions([RECORD.id])
    client.reader.look(position)
    await until(lambda: client.ended)
    assert said(client.events) == TEXT


async def test_a_reader_that_has_all_there_is_does_not_look_into_the_log(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    (position,) = await web.log.positions([RECORD.id])
    monkeypatch.setattr(Log, "page", _refused)
    client.reader.look(position)
    assert client.reader._waiter
    assert not client.reader._waiter.done()


async def test_while_redis_is_away_a_stream_waits_and_then_goes_on(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    reader = client.reader
    with monkeypatch.context() as away:
        away.setattr(Log, "page", _refused)
        web.confirm(RECORD)
        await until(lambda: reader._failing_since and reader._waiter)
        web.tick()
        await until(lambda: reader._waiter and not reader._waiter.done())
    await web.add(RECORD, ENTRIES[3:], heard=False)
    web.tick()
    await until(lambda: client.ended)
    assert said(client.events) == TEXT
    assert client.comments == []


async def _refused(*_: object, **__: object) -> list[Entry]:
    raise RedisUnavailable(detail="away")


async def test_when_redis_stays_away_a_stream_is_ended_with_a_hint_to_come_again(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3)
    reader = client.reader
    monkeypatch.setattr(Log, "page", _refused)
    web.confirm(RECORD)
    await until(lambda: reader._failing_since and reader._waiter)
    assert reader._failing_since is not None
    reader._failing_since -= web.hub.settings.lease_s + 1
    web.tick()
    await until(lambda: client.ended)
    assert client.comments == ["the log's server is away"]


async def test_a_silent_stream_too_is_ended_when_redis_stays_away(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    await web.create(RECORD, ENTRIES[:3])
    client = await web.read(RECORD)
    await until(lambda: len(client.events) == 3 and client.reader._waiter)
    monkeypatch.setattr(hub_module.Hub, "is_away", True)
    web.tick()
    await until(lambda: client.ended)
    assert client.comments == ["the log's server is away"]


# other wires


async def test_ndjson_is_a_line_an_event_with_its_id(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, wire="ndjson")
    await until(lambda: client.ended)
    lines = [json.loads(line) for line in client.body.decode().split("\n") if line]
    assert dict(client.record["headers"])[b"content-type"] == b"application/x-ndjson; charset=utf-8"
    assert [line["event"] for line in lines] == ["created", "started", "item_opened", "text", "done"]
    assert lines[3] == {"id": str(ENTRIES[-2].id), "event": "text", "data": {"text": TEXT}}


async def test_ndjson_that_must_begin_anew_says_so_without_an_id(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, wire="ndjson", cursor=EntryId(1, 1))
    await until(lambda: client.ended)
    assert client.body.startswith(b'{"event":"restarted","data":{"reason":"log_changed"}}\n{"id":')


async def test_text_is_the_spoken_text_and_nothing_else(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, wire="text")
    await until(lambda: client.ended)
    assert client.body.decode() == TEXT


async def test_text_of_a_log_that_began_anew_is_that_of_its_last_attempt(web: Web) -> None:
    await web.create(RECORD, RESTARTED)
    await web.redis.hset(keys.state(RECORD.id), mapping={"attempt": 2})
    client = await web.read(RECORD, wire="text")
    await until(lambda: client.ended)
    assert client.body.decode() == "Twice upon"


async def test_text_that_has_been_told_cannot_be_taken_back_so_the_connection_is_cut(web: Web) -> None:
    restart = next(n for n, entry in enumerate(RESTARTED) if entry.event.kind == "restarted")
    await web.create(RECORD, RESTARTED[:restart])
    client = await web.read(RECORD, wire="text")
    await until(lambda: client.body)
    assert client.body.decode() == "Once upon"
    await web.add(RECORD, RESTARTED[restart:])
    await until(lambda: web.reading == 0)
    assert client.was_cut()
    assert not client.ended
    assert client.body.decode() == "Once upon"


@pytest.mark.parametrize("name", ["cancelled", "failed", "truncated", "cancelled-while-queued"])
async def test_text_that_breaks_off_is_cut_and_never_ended_cleanly(web: Web, name: str) -> None:
    await web.create(RECORD, LOGS[name](RECORD))
    client = await web.read(RECORD, wire="text")
    await until(lambda: web.reading == 0)
    assert client.was_cut()
    assert not client.ended


async def test_text_is_cut_where_others_are_told_to_come_again(web: Web) -> None:
    await web.create(RECORD, ENTRIES[:4])
    client = await web.read(RECORD, wire="text")
    await until(lambda: client.body)
    client.reader.leave()
    await until(lambda: web.reading == 0)
    assert client.was_cut()
    assert not client.ended


async def test_a_cursor_that_text_cannot_go_on_from_is_cut(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    client = await web.read(RECORD, wire="text", cursor=EntryId(1, 1))
    await until(lambda: web.reading == 0)
    assert client.was_cut()
    assert client.body == b""


# the small ones


def test_come_again_names_a_time_between_one_and_three_seconds_and_the_reason() -> None:
    hints = {come_again("why") for _ in range(200)}
    assert len(hints) > 50
    for hint in hints:
        first, second, *rest = hint.decode().split("\n")
        assert 1000 <= int(first.removeprefix("retry: ")) <= 3000
        assert [second, *rest] == [": why", "", ""]


async def test_a_cursor_is_ahead_by_its_number_or_by_its_attempt(web: Web) -> None:
    await web.create(RECORD, ENTRIES)
    state = await web.log.state(RECORD.id)
    epoch, n = state.position
    assert not is_ahead(state.position, state)
    assert not is_ahead(START, state)
    assert not is_ahead(EntryId(epoch - 1, n), state)
    assert is_ahead(EntryId(epoch, n + 1), state)
    assert is_ahead(EntryId(epoch + 1, 0), state)
