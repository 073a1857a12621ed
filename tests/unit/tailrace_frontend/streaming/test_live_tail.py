from typing import Any

import pytest

from support.logs import REQUEST, LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from tailrace.events import Entry, Text
from tailrace.ids import START, EntryId
from tailrace.log import Position
from tailrace.log.codec import pack, to_row
from tailrace.wire import WIRES, Wire
from tailrace_frontend.streaming.live_tail import TAIL_BYTES, TAIL_ENTRIES, LiveTail

RECORD = record()
NATIVE = WIRES["native"]
ENTRIES = LOGS["text"](RECORD)


def message(*entries: Entry) -> bytes:
    return pack([to_row(entry) for entry in entries])


def tail_of(*entries: Entry) -> LiveTail:
    tail = LiveTail(RECORD)
    tail.hear(message(*entries))
    return tail


def long_log(count: int, size: int) -> list[Entry]:
    log = LogBuilder(RECORD).start().add(text_opened(), *(Text(0, f"{n:04}" + "x" * (size - 4)) for n in range(count)))
    return log.end("completed")


def told(tail: LiveTail, cursor: EntryId, wire: Wire = NATIVE) -> list[Entry] | None:
    after = tail.after(cursor, wire)
    return after if after is None else after[1]


def test_a_tail_tells_what_follows_a_cursor() -> None:
    tail = tail_of(*ENTRIES)
    for position, entry in enumerate(ENTRIES):
        assert told(tail, entry.id) == ENTRIES[position + 1 :]
    assert told(tail, START) == ENTRIES


def test_at_its_top_a_tail_has_nothing_to_tell() -> None:
    assert tail_of(*ENTRIES).after(ENTRIES[-1].id, NATIVE) == ([], [])
    assert LiveTail(RECORD).after(ENTRIES[2].id, NATIVE) == ([], [])


def test_who_is_behind_its_start_cannot_be_told_from_a_tail() -> None:
    tail = tail_of(*ENTRIES[4:])
    assert told(tail, ENTRIES[3].id) == ENTRIES[4:]
    assert told(tail, ENTRIES[2].id) is None
    assert told(tail, START) is None


def test_frames_are_what_the_wire_tells_of_the_entries() -> None:
    tail = tail_of(*ENTRIES)
    for wire in WIRES.values():
        assert tail.after(ENTRIES[1].id, wire) == (
            [wire.bind(RECORD, {})(entry) for entry in ENTRIES[2:]],
            ENTRIES[2:],
        )


def test_an_entry_is_encoded_once_a_wire_however_many_read_it() -> None:
    encoded: list[EntryId] = []

    def encode(entry: Entry) -> bytes:
        encoded.append(entry.id)
        return b"."

    wire, another = Wire("a", lambda *_: encode), Wire("b", lambda *_: encode)
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
    def encode(entry: Entry) -> bytes:
        raise AssertionError(entry)

    tail = tail_of(*ENTRIES)
    assert tail.after(ENTRIES[-1].id, Wire("a", lambda *_: encode)) == ([], [])


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
    assert tail.after(ENTRIES[3].id, NATIVE) == ([NATIVE.bind(RECORD, REQUEST)(e) for e in ENTRIES[4:]], ENTRIES[4:])


def test_a_later_attempt_that_goes_on_at_a_lower_number_begins_the_tail_anew() -> None:
    tail = tail_of(*ENTRIES[:5])
    epoch = ENTRIES[0].id.epoch + 60_000
    again = Entry(EntryId(epoch, ENTRIES[2].id.seq + 1), Text(0, "again"))
    tail.hear(message(again))
    assert told(tail, ENTRIES[4].id) is None  # its number does not continue what this reader has
    assert told(tail, ENTRIES[2].id) == [again]


def test_an_earlier_attempt_than_the_newest_shows_that_the_log_came_back_older_so_everybody_looks() -> None:
    later = Entry(EntryId(ENTRIES[4].id.epoch + 60_000, ENTRIES[4].id.seq + 1), Text(0, "later"))
    tail = tail_of(*ENTRIES[:5], later)
    resync_count = tail.resync_count
    tail.hear(message(ENTRIES[5]))
    assert tail.resync_count == resync_count + 1
    assert told(tail, later.id) == []
    assert told(tail, ENTRIES[4].id) == [ENTRIES[5]]
    assert told(tail, ENTRIES[3].id) is None


def test_a_tail_of_many_small_entries_keeps_few() -> None:
    entries = long_log(1000, 8)
    tail = LiveTail(RECORD)
    for entry in entries[:-1]:
        tail.hear(message(entry))
        assert len(tail._entries) <= TAIL_ENTRIES
    assert told(tail, entries[-2 - TAIL_ENTRIES // 4].id) == entries[-1 - TAIL_ENTRIES // 4 : -1]
    tail.hear(message(*entries[:-1]))
    assert len(tail._entries) <= TAIL_ENTRIES


def test_a_tail_stays_bounded_and_keeps_the_newest() -> None:
    entries = long_log(400, 4096)
    tail = LiveTail(RECORD)
    for entry in entries[:-1]:
        tail.hear(message(entry))
        assert sum(to_row(each).size for each in tail._entries) <= 1.1 * TAIL_BYTES
        assert told(tail, tail._entries[0].id) == tail._entries[1:]
    assert len(tail._entries) >= 30
    assert told(tail, entries[-3].id) == [entries[-2]]
    assert told(tail, entries[100].id) is None


def test_trimming_keeps_frames_and_entries_side_by_side() -> None:
    entries = long_log(300, 4096)
    tail = LiveTail(RECORD)
    for position, entry in enumerate(entries[:-1]):
        tail.hear(message(entry))
        if position % 7 == 0:
            tail.after(entries[position - 1].id, NATIVE)
        if position % 3 == 0:
            after = tail.after(tail._entries[0].id, NATIVE)
            assert after == ([NATIVE.bind(RECORD, REQUEST)(each) for each in tail._entries[1:]], tail._entries[1:])


@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_newest_entry_is_told_from_the_tail_however_large_it_is(before: int) -> None:
    entries = long_log(100, 4096)
    done = entries[-1]
    assert to_row(done).size > TAIL_BYTES
    tail = LiveTail(RECORD)
    for entry in entries[-1 - before : -1]:
        tail.hear(message(entry))
    tail.hear(message(done))
    assert tail.after(entries[-2].id, NATIVE) == ([NATIVE.bind(RECORD, REQUEST)(done)], [done])
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
    resync_count = tail.resync_count
    tail.hear(sent)
    assert tail.resync_count == resync_count + 1
    assert told(tail, START) == ENTRIES[:3]


def test_words_of_a_log_are_dense() -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("a|b")).end("completed")
    tail = LiveTail(RECORD)
    tail.hear(message(*entries))
    every: list[Any] = [told(tail, entry.id) for entry in entries]
    assert all(each is not None for each in every)


class Follower:
    """Reads all there is, or nothing yet."""

    record = RECORD

    def __init__(self, tail: LiveTail) -> None:
        self.tail = tail
        self.reads = True
        self.cursor = START
        self.told: list[Entry] = []
        tail.readers.add(self)

    def hear(self) -> bool:
        if not self.reads:
            return False
        after = self.tail.after(self.cursor, NATIVE)
        assert after is not None
        frames, entries = after
        assert frames == [NATIVE.bind(RECORD, REQUEST)(entry) for entry in entries]
        self.told += entries
        self.cursor = self.told[-1].id
        return True

    def look(self, position: Position | None) -> None: ...
    def leave(self) -> None: ...
    def cut(self) -> None: ...
    def tick(self, now: float) -> None: ...


def test_what_everybody_has_read_is_not_kept_but_for_the_newest() -> None:
    tail = LiveTail(RECORD)
    followers = [Follower(tail), Follower(tail)]
    for entry in ENTRIES:
        tail.hear(message(entry))
        assert tail._entries == [entry]
    assert [follower.told for follower in followers] == [ENTRIES, ENTRIES]
    assert tail.has_ended


def test_what_somebody_has_not_read_is_kept_until_he_has() -> None:
    tail = LiveTail(RECORD)
    fast, slow = Follower(tail), Follower(tail)
    slow.reads = False
    for entry in ENTRIES[:4]:
        tail.hear(message(entry))
    assert (fast.told, tail._entries) == (ENTRIES[:4], ENTRIES[:4])
    slow.reads = True
    tail.hear(message(ENTRIES[4]))
    assert (slow.told, tail._entries) == (ENTRIES[:5], ENTRIES[4:5])
