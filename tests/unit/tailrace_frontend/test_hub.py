import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.logs import LOGS, Book, head, text_opened, words
from support.web import Client, Web, until
from tailrace.codec import pack, to_row
from tailrace.events import Entry, Head, Options, Text
from tailrace.ids import START, EntryId
from tailrace.log import Log
from tailrace.wire import WIRES, Wire
from tailrace_frontend import hub as module
from tailrace_frontend.hub import TAIL_BYTES, TAIL_ENTRIES, Tail
from tailrace_frontend.reader import Reader

HEAD = head()
NATIVE = WIRES["native"]
ENTRIES = LOGS["text"](HEAD)


def message(*entries: Entry) -> bytes:
    return pack([to_row(entry) for entry in entries])


def tail_of(*entries: Entry) -> Tail:
    tail = Tail(HEAD)
    tail.hear(message(*entries))
    return tail


def long_log(count: int, size: int) -> list[Entry]:
    book = Book(HEAD).start().say(text_opened(), *(Text(0, f"{n:04}" + "x" * (size - 4)) for n in range(count)))
    return book.end("completed")


def told(tail: Tail, cursor: EntryId, wire: Wire = NATIVE) -> list[Entry] | None:
    after = tail.after(cursor, wire)
    return after if after is None else after[1]


def test_a_tail_tells_what_follows_a_cursor() -> None:
    tail = tail_of(*ENTRIES)
    for position, entry in enumerate(ENTRIES):
        assert told(tail, entry.id) == ENTRIES[position + 1 :]
    assert told(tail, START) == ENTRIES


def test_at_its_top_a_tail_has_nothing_to_tell() -> None:
    assert tail_of(*ENTRIES).after(ENTRIES[-1].id, NATIVE) == ([], [])
    assert Tail(HEAD).after(ENTRIES[2].id, NATIVE) == ([], [])


def test_who_is_behind_its_start_cannot_be_told_from_a_tail() -> None:
    tail = tail_of(*ENTRIES[4:])
    assert told(tail, ENTRIES[3].id) == ENTRIES[4:]
    assert told(tail, ENTRIES[2].id) is None
    assert told(tail, START) is None


def test_frames_are_what_the_wire_tells_of_the_entries() -> None:
    tail = tail_of(*ENTRIES)
    for wire in WIRES.values():
        assert tail.after(ENTRIES[1].id, wire) == ([wire.encode(HEAD, entry) for entry in ENTRIES[2:]], ENTRIES[2:])


def test_an_entry_is_encoded_once_a_wire_however_many_read_it() -> None:
    encoded: list[EntryId] = []

    def encode(_: Head, entry: Entry) -> bytes:
        encoded.append(entry.id)
        return b"."

    wire, another = Wire("a", encode), Wire("b", encode)
    tail = tail_of(*ENTRIES[:3])
    for _ in range(5):
        tail.after(START, wire)
        tail.after(ENTRIES[0].id, wire)
    assert encoded == [entry.id for entry in ENTRIES[:3]]
    tail.hear(message(ENTRIES[3]))
    tail.after(ENTRIES[2].id, wire)
    tail.after(ENTRIES[2].id, wire)
    assert encoded == [entry.id for entry in ENTRIES[:4]]
    tail.after(START, another)
    assert encoded[4:] == [entry.id for entry in ENTRIES[:4]]


def test_a_wire_that_nobody_reads_is_never_encoded() -> None:
    def encode(_: Head, entry: Entry) -> bytes:
        raise AssertionError(entry)

    tail = tail_of(*ENTRIES)
    assert tail.after(ENTRIES[-1].id, Wire("a", encode)) == ([], [])


def test_what_is_heard_twice_is_told_once() -> None:
    tail = tail_of(*ENTRIES[:4])
    tail.hear(message(*ENTRIES[:4]))
    tail.hear(message(*ENTRIES[2:6]))
    assert told(tail, START) == ENTRIES[:6]


def test_a_gap_makes_a_tail_begin_anew_behind_it_so_that_its_readers_look_into_the_log() -> None:
    tail = tail_of(*ENTRIES[:3])
    assert tail.after(START, NATIVE)
    tail.hear(message(*ENTRIES[4:]))
    assert told(tail, ENTRIES[2].id) is None
    assert tail.after(ENTRIES[3].id, NATIVE) == ([NATIVE.encode(HEAD, e) for e in ENTRIES[4:]], ENTRIES[4:])


def test_a_later_attempt_that_goes_on_at_a_lower_number_begins_the_tail_anew() -> None:
    tail = tail_of(*ENTRIES[:5])
    attempt = ENTRIES[0].id.attempt + 60_000
    again = Entry(EntryId(attempt, ENTRIES[2].id.n + 1), Text(0, "again"))
    tail.hear(message(again))
    assert told(tail, ENTRIES[4].id) is None  # its number does not continue what this reader has
    assert told(tail, ENTRIES[2].id) == [again]


def test_an_earlier_attempt_than_the_newest_shows_that_the_log_came_back_older_so_everybody_looks() -> None:
    later = Entry(EntryId(ENTRIES[4].id.attempt + 60_000, ENTRIES[4].id.n + 1), Text(0, "later"))
    tail = tail_of(*ENTRIES[:5], later)
    doubts = tail.doubts
    tail.hear(message(ENTRIES[5]))
    assert tail.doubts == doubts + 1
    assert told(tail, later.id) == []
    assert told(tail, ENTRIES[4].id) == [ENTRIES[5]]
    assert told(tail, ENTRIES[3].id) is None


def test_a_tail_of_many_small_entries_keeps_few() -> None:
    entries = long_log(1000, 8)
    tail = Tail(HEAD)
    for entry in entries[:-1]:
        tail.hear(message(entry))
        assert len(tail._entries) <= TAIL_ENTRIES
    assert told(tail, entries[-2 - TAIL_ENTRIES // 4].id) == entries[-1 - TAIL_ENTRIES // 4 : -1]
    tail.hear(message(*entries[:-1]))
    assert len(tail._entries) <= TAIL_ENTRIES


def test_a_tail_stays_bounded_and_keeps_the_newest() -> None:
    entries = long_log(400, 4096)
    tail = Tail(HEAD)
    for entry in entries[:-1]:
        tail.hear(message(entry))
        assert sum(to_row(each).size for each in tail._entries) <= 1.1 * TAIL_BYTES
        assert told(tail, tail._entries[0].id) == tail._entries[1:]
    assert len(tail._entries) >= 30
    assert told(tail, entries[-3].id) == [entries[-2]]
    assert told(tail, entries[100].id) is None


def test_trimming_keeps_frames_and_entries_side_by_side() -> None:
    entries = long_log(300, 4096)
    tail = Tail(HEAD)
    for position, entry in enumerate(entries[:-1]):
        tail.hear(message(entry))
        if position % 7 == 0:
            tail.after(entries[position - 1].id, NATIVE)
        if position % 3 == 0:
            after = tail.after(tail._entries[0].id, NATIVE)
            assert after == ([NATIVE.encode(HEAD, each) for each in tail._entries[1:]], tail._entries[1:])


@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_newest_entry_is_told_from_the_tail_however_large_it_is(before: int) -> None:
    entries = long_log(100, 4096)
    done = entries[-1]
    assert to_row(done).size > TAIL_BYTES
    tail = Tail(HEAD)
    for entry in entries[-1 - before : -1]:
        tail.hear(message(entry))
    tail.hear(message(done))
    assert tail.after(entries[-2].id, NATIVE) == ([NATIVE.encode(HEAD, done)], [done])
    assert tail.has_ended


def test_an_entry_too_large_for_a_tail_leaves_with_the_next() -> None:
    large, *more = [Entry(EntryId(1, n), Text(0, "x" * size)) for n, size in enumerate((2 * TAIL_BYTES, 1, 1))]
    tail = tail_of(large)
    tail.hear(message(more[0]))
    assert told(tail, large.id) == [more[0]]
    assert told(tail, START) is None
    tail.hear(message(more[1]))
    assert told(tail, large.id) in ([*more], None)


@pytest.mark.parametrize("sent", [None, b"", b"\xc1", b"junk", b"\x91\x90"])
def test_whatever_is_no_entry_makes_readers_look_into_the_log(sent: bytes | None) -> None:
    tail = tail_of(*ENTRIES[:3])
    doubts = tail.doubts
    tail.hear(sent)
    assert tail.doubts == doubts + 1
    assert told(tail, START) == ENTRIES[:3]


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    yield web
    await web.close()


async def test_readers_of_one_log_share_a_tail_and_the_last_one_takes_it_away(web: Web) -> None:
    other = head(id="gen_bcdefghijklmnopqrstuvwxyza", owner="ben")
    for each in (HEAD, other):
        await web.create(each, ENTRIES[:3])
    clients = [await web.read(HEAD), await web.read(HEAD), await web.read(other)]
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
    await web.create(HEAD, ENTRIES[:3])
    early = await web.read(HEAD)
    await until(lambda: len(early.events) == 3)
    await web.add(HEAD, ENTRIES[3:5])
    late = await web.read(HEAD)
    await until(lambda: late.events and late.events[-1].id == str(ENTRIES[4].id))
    for entry in ENTRIES[5:]:
        await web.add(HEAD, [entry])
    await until(lambda: early.ended and late.ended)
    assert early.events[-1].kind == late.events[-1].kind == "done"
    assert "".join(e.value["text"] for e in late.events if e.kind == "text") == "Hello, world\u2028."
    assert [e.id for e in early.events] == [str(e.id) for e in ENTRIES]


async def test_a_finished_log_is_told_without_listening_to_it(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(web.hub.subscriber, "add", lambda channel, _: heard.append(channel))
    await web.create(HEAD, ENTRIES)
    client = await web.read(HEAD)
    await until(lambda: client.ended)
    assert heard == []
    assert web.hub.tails == 0


async def test_a_log_that_counted_as_finished_and_is_not_is_listened_to_after_all(web: Web) -> None:
    await web.create(HEAD, ENTRIES)
    state = await web.log.state(HEAD.id)
    await web.redis.flushall()
    await web.create(HEAD, ENTRIES[:4])
    client = Client()
    reader = Reader(web.hub, NATIVE, state, None, client.connection, client.send, web.callers.__contains__)
    web.tasks.append(asyncio.create_task(reader.run()))
    await until(lambda: reader._waiter)
    assert len(web.hub.subscriber._listeners) == 1
    await web.add(HEAD, ENTRIES[4:])
    await until(lambda: client.ended)
    assert client.events[-1].kind == "done"


async def test_a_message_lost_between_two_costs_nobody_anything(web: Web) -> None:
    await web.create(HEAD, ENTRIES[:3])
    client = await web.read(HEAD)
    await until(lambda: len(client.events) == 3)
    await web.add(HEAD, [ENTRIES[3]], heard=False)
    await web.add(HEAD, [ENTRIES[4]])
    await until(lambda: client.events[-1].id == str(ENTRIES[4].id))
    await web.add(HEAD, ENTRIES[5:])
    await until(lambda: client.ended)
    assert "".join(e.value["text"] for e in client.events if e.kind == "text") == "Hello, world\u2028."


async def test_a_subscription_confirmed_late_makes_its_readers_look_once_more(web: Web) -> None:
    await web.create(HEAD, ENTRIES[:3])
    client = await web.read(HEAD)
    await until(lambda: len(client.events) == 3)
    await web.add(HEAD, ENTRIES[3:], heard=False)
    web.confirm(HEAD)
    await until(lambda: client.ended)
    assert client.events[-1].kind == "done"


async def test_an_end_too_large_for_a_tail_is_told_at_once(web: Web) -> None:
    entries = long_log(100, 4096)
    await web.create(HEAD, entries[:-1])
    client = await web.read(HEAD, cursor=entries[-2].id)
    await until(lambda: client.reader._seen_doubts == 0)
    await web.add(HEAD, entries[-1:])
    await until(lambda: client.ended)
    assert [event.kind for event in client.events] == ["done"]


@pytest.fixture
async def ticking(web: Web, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    """The hub's clock runs, fast."""
    monkeypatch.setattr(module, "TICK_S", 0.002)
    web.hub.subscriber.connected = True
    task = asyncio.create_task(web.hub._tick())
    yield web
    task.cancel()


async def test_redis_counts_as_away_only_after_a_lease_and_a_second(ticking: Web) -> None:
    hub = ticking.hub
    hub.subscriber.connected = False
    await until(lambda: hub._away_since)
    assert (hub.is_away, hub._away_since is not None) == (False, True)
    hub._away_since = time.monotonic() - hub.settings.lease_s - 1.001
    await until(lambda: hub.is_away)
    hub.subscriber.connected = True
    await until(lambda: not hub.is_away)


async def test_the_log_learns_that_somebody_reads_what_runs_only_then(
    ticking: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[list[str]] = []

    async def seen(_: Log, generations: list[str]) -> None:
        noted.append(list(generations))

    monkeypatch.setattr(Log, "seen", seen)
    monkeypatch.setattr(module, "PRESENCE_S", 0.0)
    watched = head(id="gen_bcdefghijklmnopqrstuvwxyza", options=Options(60, 60, on_disconnect="cancel"))
    for each in (HEAD, watched):
        await ticking.create(each, ENTRIES[:3])
        await ticking.read(each)
    await until(lambda: noted)
    assert noted[0] == [watched.id]


async def test_a_drain_sends_everybody_elsewhere_and_returns_when_they_are_gone(web: Web) -> None:
    await web.create(HEAD, ENTRIES[:3])
    clients = [await web.read(HEAD) for _ in range(4)]
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
    await web.create(HEAD, ENTRIES[:3])
    client = await web.read(HEAD)
    await until(lambda: len(client.events) == 3)
    client.fills_up = True
    await web.add(HEAD, [ENTRIES[3]])
    await until(lambda: client.connection.is_full)
    draining = asyncio.create_task(web.hub.drain(0.1))
    await until(lambda: client.reader._leaving)
    assert not client.was_cut()
    async with asyncio.timeout(1):
        await draining
    assert (client.was_cut(), client.ended) == (True, False)
    await until(lambda: web.reading == 0)


async def test_who_comes_during_a_drain_is_sent_away_at_once(web: Web) -> None:
    await web.create(HEAD, ENTRIES[:3])
    await web.hub.drain(0.05)
    client = await web.read(HEAD)
    await until(lambda: client.ended)
    assert client.pieces[-1].startswith(b"retry: ")


def test_words_of_a_log_are_dense() -> None:
    entries = Book(HEAD).start().say(text_opened(), *words("a|b")).end("completed")
    tail = Tail(HEAD)
    tail.hear(message(*entries))
    every: list[Any] = [told(tail, entry.id) for entry in entries]
    assert all(each is not None for each in every)
