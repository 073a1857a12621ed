from collections.abc import Sequence

import pytest

from support.logs import REQUEST, LogBuilder, record, text_opened, texts
from support.named_logs import LOGS
from tailrace.events import Entry, Text
from tailrace.ids import START, EntryId
from tailrace.log import Position
from tailrace.log.codec import pack, to_row
from tailrace.wire import WIRE_FORMATS, Encode, Frame, WireFormat
from tailrace_frontend.streaming.live_tail import TAIL_BYTES, TAIL_ENTRIES, LiveTail

RECORD = record()
NATIVE = WIRE_FORMATS["native"]
ENTRIES = LOGS["text"](RECORD)


def message(*entries: Entry) -> bytes:
    return pack([to_row(entry) for entry in entries])


def encoded(entries: Sequence[Entry], wire: WireFormat = NATIVE) -> list[Frame]:
    return [wire.bind(RECORD, REQUEST)(entry) for entry in entries]


class Follower:
    """Takes all entries, or none."""

    def __init__(self, tail: LiveTail, wire: WireFormat = NATIVE, encode: Encode | None = None) -> None:
        self.takes = True
        self.wire = wire
        self.entries: list[Entry] = []
        self.frames: list[Frame] = []
        self.before: list[int] = []
        self.resyncs = 0
        self.positions: list[Position | None] = []
        tail.attach(self, wire, encode or wire.bind(RECORD, REQUEST))

    def on_entries(self, before_seq: int, frames: Sequence[Frame], entries: Sequence[Entry]) -> bool:
        if self.takes:
            self.before.append(before_seq)
            self.frames += frames
            self.entries += entries
        return self.takes

    def on_resync(self) -> None:
        self.resyncs += 1

    def on_position(self, position: Position | None) -> None:
        self.positions.append(position)


def tail_of(*entries: Entry) -> LiveTail:
    """A tail that keeps these entries, because its follower has taken none."""
    tail = LiveTail(RECORD)
    Follower(tail).takes = False
    tail.on_message(message(*entries))
    return tail


def long_log(count: int, size: int) -> list[Entry]:
    log = LogBuilder(RECORD).start().add(text_opened(), *(Text(0, f"{n:04}" + "x" * (size - 4)) for n in range(count)))
    return log.end("completed")


def entries_after(tail: LiveTail, position: EntryId, wire: WireFormat = NATIVE) -> list[Entry] | None:
    after = tail.after(position, wire)
    return after if after is None else after[1]


# what it keeps


def test_tail_has_the_entries_after_a_position() -> None:
    tail = tail_of(*ENTRIES)
    for index, entry in enumerate(ENTRIES):
        assert entries_after(tail, entry.id) == ENTRIES[index + 1 :]
    assert entries_after(tail, START) == ENTRIES


def test_tail_has_nothing_after_its_newest_entry() -> None:
    assert tail_of(*ENTRIES).after(ENTRIES[-1].id, NATIVE) == ([], [])
    assert LiveTail(RECORD).after(ENTRIES[2].id, NATIVE) == ([], [])


def test_tail_does_not_reach_back_beyond_its_first_entry() -> None:
    tail = tail_of(*ENTRIES[4:])
    assert entries_after(tail, ENTRIES[3].id) == ENTRIES[4:]
    assert entries_after(tail, ENTRIES[2].id) is None
    assert entries_after(tail, START) is None


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_tail_has_the_frames_of_each_format(name: str) -> None:
    wire = WIRE_FORMATS[name]
    tail = LiveTail(RECORD)
    follower = Follower(tail, wire)
    follower.takes = False
    tail.on_message(message(*ENTRIES))
    assert tail.after(ENTRIES[1].id, wire) == (encoded(ENTRIES[2:], wire), ENTRIES[2:])


def test_tail_keeps_a_message_that_comes_twice_once() -> None:
    tail = tail_of(*ENTRIES[:4])
    tail.on_message(message(*ENTRIES[1:4]))
    assert entries_after(tail, START) == ENTRIES[:4]
    tail.on_message(message(*ENTRIES[2:6]))
    assert entries_after(tail, START) == ENTRIES[:6]
    assert tail.resync_count == 0


def test_tail_starts_again_behind_a_gap() -> None:
    tail = tail_of(*ENTRIES[:3])
    tail.on_message(message(*ENTRIES[4:]))
    assert entries_after(tail, ENTRIES[2].id) is None
    assert tail.after(ENTRIES[3].id, NATIVE) == (encoded(ENTRIES[4:]), ENTRIES[4:])


def test_tail_starts_again_where_a_later_attempt_goes_on_at_a_lower_number() -> None:
    tail = tail_of(*ENTRIES[:5])
    epoch = ENTRIES[0].id.epoch + 60_000
    again = Entry(EntryId(epoch, ENTRIES[2].id.seq + 1), Text(0, "again"))
    tail.on_message(message(again))
    assert entries_after(tail, ENTRIES[4].id) is None  # its number does not continue this position
    assert entries_after(tail, ENTRIES[2].id) == [again]


def test_tail_of_many_small_entries_keeps_few() -> None:
    entries = long_log(1000, 8)
    tail = tail_of()
    for entry in entries[:-1]:
        tail.on_message(message(entry))
        assert len(tail._entries) <= TAIL_ENTRIES
    assert entries_after(tail, entries[-2 - TAIL_ENTRIES // 4].id) == entries[-1 - TAIL_ENTRIES // 4 : -1]
    tail.on_message(message(*entries[:-1]))
    assert len(tail._entries) <= TAIL_ENTRIES


def test_tail_stays_bounded_in_bytes_and_keeps_the_newest() -> None:
    entries = long_log(400, 4096)
    tail = tail_of()
    for entry in entries[:-1]:
        tail.on_message(message(entry))
        assert sum(to_row(each).size for each in tail._entries) <= 1.1 * TAIL_BYTES
        assert entries_after(tail, tail._entries[0].id) == tail._entries[1:]
    assert len(tail._entries) >= 30
    assert entries_after(tail, entries[-3].id) == [entries[-2]]
    assert entries_after(tail, entries[100].id) is None


def test_trimming_keeps_frames_and_entries_side_by_side() -> None:
    entries = long_log(300, 4096)
    tail = tail_of()
    for index, entry in enumerate(entries[:-1]):
        tail.on_message(message(entry))
        if index % 3 == 0:
            rest = tail._entries[1:]
            assert tail.after(tail._entries[0].id, NATIVE) == (encoded(rest), rest)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_tail_keeps_the_newest_entry_at_any_size(before: int) -> None:
    entries = long_log(100, 4096)
    done = entries[-1]
    assert to_row(done).size > TAIL_BYTES
    tail = tail_of()
    for entry in entries[-1 - before : -1]:
        tail.on_message(message(entry))
    tail.on_message(message(done))
    assert tail.after(entries[-2].id, NATIVE) == (encoded([done]), [done])
    assert tail.has_ended


def test_tail_drops_an_oversized_entry_with_the_next() -> None:
    large, *more = [Entry(EntryId(1, seq), Text(0, "x" * size)) for seq, size in enumerate((2 * TAIL_BYTES, 1, 1))]
    tail = tail_of(large)
    tail.on_message(message(more[0]))
    assert entries_after(tail, large.id) == [more[0]]
    assert entries_after(tail, START) is None
    tail.on_message(message(more[1]))
    assert entries_after(tail, large.id) in ([*more], None)


def test_entries_of_a_log_are_contiguous() -> None:
    entries = LogBuilder(RECORD).start().add(text_opened(), *texts("a|b")).end("completed")
    tail = tail_of(*entries)
    assert all(entries_after(tail, entry.id) is not None for entry in entries)


# what it hands over


def test_followers_get_each_entry_with_its_frame_and_the_number_before_it() -> None:
    tail = LiveTail(RECORD)
    follower = Follower(tail)
    for entry in ENTRIES[:3]:
        tail.on_message(message(entry))
    tail.on_message(message(*ENTRIES[3:]))
    assert follower.entries == ENTRIES
    assert follower.frames == encoded(ENTRIES)
    assert follower.before == [entry.id.seq - entry.seq_span for entry in ENTRIES[:4]]


def test_followers_get_only_the_new_entries_of_a_message() -> None:
    tail = LiveTail(RECORD)
    follower = Follower(tail)
    tail.on_message(message(*ENTRIES[:3]))
    tail.on_message(message(*ENTRIES[1:3]))
    tail.on_message(message(*ENTRIES[1:5]))
    assert follower.entries == ENTRIES[:5]


def test_followers_get_the_entries_behind_a_gap() -> None:
    tail = LiveTail(RECORD)
    follower, slow = Follower(tail), Follower(tail)
    slow.takes = False
    for entry in ENTRIES[:3]:
        tail.on_message(message(entry))
    tail.on_message(message(*ENTRIES[4:6]))
    assert follower.entries == ENTRIES[:3] + ENTRIES[4:6]
    assert follower.before[-1] == ENTRIES[3].id.seq


def test_entry_is_encoded_once_a_format_for_all_followers() -> None:
    calls: list[tuple[str, EntryId]] = []

    def encoder(name: str) -> Encode:
        def encode(entry: Entry) -> bytes:
            calls.append((name, entry.id))
            return name.encode()

        return encode

    tail = LiveTail(RECORD)
    a, b = WireFormat("a", lambda *_: encoder("a")), WireFormat("b", lambda *_: encoder("b"))
    followers = [Follower(tail, wire, wire.bind(RECORD, None)) for wire in (a, b, a, a, b)]
    followers[2].takes = False
    for entry in ENTRIES[:3]:
        tail.on_message(message(entry))
    tail.after(START, a)
    tail.after(ENTRIES[0].id, a)
    assert sorted(calls) == sorted((name, entry.id) for name in "ab" for entry in ENTRIES[:3])
    assert [follower.frames for follower in followers] == [3 * [b"a"], 3 * [b"b"], [], 3 * [b"a"], 3 * [b"b"]]


def test_entries_are_not_encoded_for_a_format_without_followers() -> None:
    def encode(entry: Entry) -> bytes:
        raise AssertionError(entry)

    tail = LiveTail(RECORD)
    unused = WireFormat("a", lambda *_: encode)
    former = Follower(tail, unused, encode)
    Follower(tail)
    tail.detach(former, unused)
    tail.on_message(message(*ENTRIES))
    assert former.entries == []


def test_encoder_that_fails_makes_the_followers_of_its_format_alone_read_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def encode(entry: Entry) -> bytes:
        raise ZeroDivisionError

    tail = LiveTail(RECORD)
    failing = WireFormat("a", lambda *_: encode)
    follower, affected, other, waiter = (Follower(tail), Follower(tail, failing), Follower(tail), Follower(tail))
    tail.detach(waiter, NATIVE)
    tail.attach(waiter, None, None)
    for entry in ENTRIES:
        tail.on_message(message(entry))
    assert follower.entries == other.entries == waiter.entries == ENTRIES
    assert follower.frames == encoded(ENTRIES)
    assert (affected.entries, affected.resyncs) == ([], len(ENTRIES))
    assert (follower.resyncs, waiter.resyncs) == (0, 0)
    assert RECORD.id in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_follower_without_a_format_gets_entries_without_frames() -> None:
    tail = LiveTail(RECORD)
    follower = Follower(tail)
    tail.detach(follower, NATIVE)
    tail.attach(follower, None, None)
    tail.on_message(message(*ENTRIES))
    assert (follower.entries, follower.frames) == (ENTRIES, [])


def test_tail_keeps_only_the_newest_entry_once_every_follower_has_taken_it() -> None:
    tail = LiveTail(RECORD)
    followers = [Follower(tail), Follower(tail)]
    for entry in ENTRIES:
        tail.on_message(message(entry))
        assert tail._entries == [entry]
    assert [follower.entries for follower in followers] == [ENTRIES, ENTRIES]
    assert tail.has_ended


def test_tail_keeps_entries_until_the_last_follower_has_taken_them() -> None:
    tail = LiveTail(RECORD)
    fast, slow = Follower(tail), Follower(tail)
    slow.takes = False
    for entry in ENTRIES[:4]:
        tail.on_message(message(entry))
    assert (fast.entries, tail._entries) == (ENTRIES[:4], ENTRIES[:4])
    slow.takes = True
    tail.on_message(message(ENTRIES[4]))
    assert (slow.entries, tail._entries) == ([ENTRIES[4]], [ENTRIES[4]])


def test_tail_is_followed_until_the_last_follower_is_detached() -> None:
    tail = LiveTail(RECORD)
    native, text = Follower(tail), Follower(tail, WIRE_FORMATS["text"])
    tail.detach(native, NATIVE)
    assert tail.is_followed
    tail.detach(text, WIRE_FORMATS["text"])
    assert not tail.is_followed


def test_follower_that_is_detached_twice_takes_no_other_with_it() -> None:
    tail = LiveTail(RECORD)
    native, text = Follower(tail), Follower(tail, WIRE_FORMATS["text"])
    for _ in range(2):
        tail.detach(native, NATIVE)
    tail.on_message(message(*ENTRIES))
    assert (native.entries, text.entries) == ([], ENTRIES)


# resynchronization


@pytest.mark.parametrize("received", [None, b"", b"\xc1", b"junk", b"\x91\x90"])
def test_message_without_entries_requests_a_resync(received: bytes | None) -> None:
    tail = tail_of(*ENTRIES[:3])
    follower = Follower(tail)
    resync_count = tail.resync_count
    tail.on_message(received)
    assert (tail.resync_count, follower.resyncs) == (resync_count + 1, 1)
    assert entries_after(tail, START) == ENTRIES[:3]


def test_entry_of_an_earlier_attempt_shows_that_the_log_came_back_older_and_requests_a_resync() -> None:
    later = Entry(EntryId(ENTRIES[4].id.epoch + 60_000, ENTRIES[4].id.seq + 1), Text(0, "later"))
    tail = tail_of(*ENTRIES[:5], later)
    follower = Follower(tail)
    resync_count = tail.resync_count
    tail.on_message(message(ENTRIES[5]))
    assert (tail.resync_count, follower.resyncs, follower.entries) == (resync_count + 1, 1, [])
    assert entries_after(tail, later.id) == []
    assert entries_after(tail, ENTRIES[4].id) == [ENTRIES[5]]
    assert entries_after(tail, ENTRIES[3].id) is None


def test_position_reaches_every_follower() -> None:
    tail = LiveTail(RECORD)
    followers = [Follower(tail), Follower(tail, WIRE_FORMATS["text"])]
    position = Position(ENTRIES[-1].id, ended=True)
    tail.on_position(position)
    assert [follower.positions for follower in followers] == [[position], [position]]
