from support.logs import LogBuilder, record, text_opened, texts
from tailrace.events import Entry
from tailrace.ids import START
from tailrace.log import Page
from tailrace.log.reading import PAGE_BYTES
from tailrace.wire import WIRE_FORMATS, Frame
from tailrace_frontend.streaming.recent_pages import ENTRY_BYTES, EncodedPage, Place, RecentPages

NATIVE, CHAT = WIRE_FORMATS["native"], WIRE_FORMATS["openai-chat"]
ENTRIES = LogBuilder(record()).start().add(text_opened(), *texts("a|b|c")).end("completed")


class CountingEncoder:
    """Frames of `size` bytes. `encoded`: the entries that it was given."""

    def __init__(self, size: int = 10) -> None:
        self._frame = b"x" * size
        self.encoded: list[Entry] = []

    def __call__(self, entry: Entry) -> Frame:
        self.encoded.append(entry)
        return self._frame


def page(size: int = 100) -> EncodedPage:
    return EncodedPage(Page(ENTRIES, -1, 128, is_last=True, size=size))


def place(tail: int) -> Place:
    return tail, START, 32, False, 1


def test_page_is_encoded_once_in_each_format() -> None:
    encode, other, shared = CountingEncoder(), CountingEncoder(), page()
    sent = [list(shared.frames(NATIVE, encode)) for _ in range(3)]
    assert sent == [[b"x" * 10] * len(ENTRIES)] * 3
    assert encode.encoded == ENTRIES
    list(shared.frames(CHAT, other))
    assert other.encoded == ENTRIES


def test_reader_without_room_has_only_encoded_what_it_sent() -> None:
    encode, shared = CountingEncoder(), page()
    frames = shared.frames(NATIVE, encode)
    assert [next(frames), next(frames)] == [b"x" * 10] * 2
    assert encode.encoded == ENTRIES[:2]
    list(shared.frames(NATIVE, encode))
    assert encode.encoded == ENTRIES


def test_frames_beyond_the_size_of_a_page_are_not_kept() -> None:
    encode, shared = CountingEncoder(PAGE_BYTES // 2), page()
    for _ in range(2):
        assert len(list(shared.frames(NATIVE, encode))) == len(ENTRIES)
    assert encode.encoded == ENTRIES + ENTRIES[2:]


def test_page_is_kept_over_one_tick_and_not_over_two() -> None:
    recent, kept = RecentPages(), page()
    recent.keep(place(1), kept)
    assert recent.find(place(1)) is kept
    assert recent.find(place(2)) is None
    recent.age()
    assert recent.find(place(1)) is kept
    recent.age()
    assert recent.find(place(1)) is None
    assert recent.count == 0


def test_what_is_kept_is_bounded_in_bytes() -> None:
    each = ENTRY_BYTES * len(ENTRIES) + 100
    recent = RecentPages(most_bytes=2 * 3 * each)
    for number in range(10):
        recent.keep(place(number), page())
    assert recent.count == 3
    recent.age()
    for number in range(10, 20):
        recent.keep(place(number), page())
    assert recent.count == 6
    recent.age()
    recent.keep(place(99), page(size=7 * each))
    assert recent.find(place(99)) is None


def test_page_without_entries_is_not_kept() -> None:
    recent = RecentPages()
    recent.keep(place(1), EncodedPage(Page([], 7, 128, is_last=True)))
    assert recent.count == 0
