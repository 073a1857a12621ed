import time
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.events import Bucket, FailedRequest, Gap, Stream, Upstream
from tailrace.ids import EntryId
from tailrace.log.measures import Measures
from tailrace.upstreams.prices import Price
from tailrace_worker.token_timings import SLOWEST, STALL_S, TokenTimings, histogram

UPSTREAM = Upstream("chatcmpl-1", "m-1", "gpu")


def test_timings_without_content_are_left_out() -> None:
    timings = TokenTimings().timings(10.0, 11.5, 13.0)
    assert (timings.queue, timings.first_token, timings.between_tokens_p50, timings.total) == (1.5, None, None, 3.0)


def test_first_token_counts_from_creation() -> None:
    recorded = TokenTimings(waited=1.0)
    recorded.record(time.monotonic() + 0.5, 1)
    timings = recorded.timings(10.0, 11.0, 13.0)
    assert timings.first_token == pytest.approx(1.5, abs=0.05)


def test_timings_divide_the_interval_of_a_chunk_among_its_events() -> None:
    recorded = TokenTimings()
    for at, events in ((1.0, 1), (1.4, 4), (1.8, 4), (2.2, 4)):
        recorded.record(at, events)
    assert recorded.count == 13
    assert recorded.timings(0.0, 0.0, 3.0).between_tokens_p50 == pytest.approx(0.1)


def test_timings_are_never_negative_though_the_clock_went_back() -> None:
    timings = TokenTimings().timings(10.0, 9.0, 8.0)
    assert (timings.queue, timings.total) == (0.0, 0.0)


def test_total_is_never_below_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first token is timed by the worker's clock, the whole by Redis', in ms."""
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    timings = TokenTimings(waited=0.874)
    timings.record(5.0005, 1)
    measured = timings.timings(1000.0, 1000.874, 1000.874)
    assert (measured.queue, measured.first_token, measured.total) == (0.874, 0.8745, 0.8745)


def recorded(*times: float, **options: Any) -> TokenTimings:
    """Timings of one content event at each of these times."""
    timings = TokenTimings(**options)
    for at in times:
        timings.record(at, 1)
    return timings


def request_often(timings: TokenTimings, count: int) -> None:
    for _ in range(count):
        timings.requests.begin()


def test_stream_without_content_has_counters_only() -> None:
    assert TokenTimings().stream(1, None, 5.0) == Stream(
        attempts=1, retries=0, chunks=0, bytes=0, malformed=0, stalls=0
    )


def test_stream_has_what_was_counted_while_the_upstream_was_asked() -> None:
    timings = recorded(1.0, 1.1)
    timings.received_bytes, timings.malformed = 345, 1
    request_often(timings, 3)
    stream = timings.stream(3, 10, 5.0)
    assert (stream.attempts, stream.retries, stream.chunks, stream.bytes, stream.malformed) == (3, 2, 2, 345, 1)


def test_longest_gap_is_not_divided_among_the_events_that_end_it() -> None:
    timings = TokenTimings()
    for at, events in ((1.0, 1), (3.0, 4), (3.5, 1)):
        timings.record(at, events)
    assert timings.timings(0.0, 0.0, 4.0).between_tokens_max == 2.0
    assert timings.timings(0.0, 0.0, 4.0).between_tokens_p50 == 0.5
    assert [gap.seconds for gap in timings.stream(1, None, 4.0).slowest] == [2.0, 0.5]


@pytest.mark.parametrize(("gap", "stalls"), [(STALL_S, 0), (STALL_S + 0.01, 1)])
def test_stall_is_a_gap_above_the_limit(gap: float, stalls: int) -> None:
    assert recorded(1.0, 1.0 + gap, 2.0 + gap).stream(1, None, 9.0).stalls == stalls


def test_histogram_counts_each_gap_once_and_has_no_empty_buckets() -> None:
    gaps = [0.0005, 0.001, 0.002, 0.5, 1.0, 100.0, 100.5, 4000.0]
    assert histogram(gaps) == [
        Bucket(2, 0.001), Bucket(1, 0.003), Bucket(2, 1), Bucket(1, 100), Bucket(2)
    ]  # fmt: skip
    assert histogram([]) == []


@given(st.lists(st.floats(0, 1e6)))
def test_histogram_adds_up_to_the_gaps(gaps: list[float]) -> None:
    assert sum(bucket.count for bucket in histogram(sorted(gaps))) == len(gaps)


@given(st.lists(st.integers(0, 50), max_size=60))
def test_slowest_gaps_are_the_ten_longest_of_all(hundredths: list[int]) -> None:
    times = list(accumulate(hundredths, lambda at, gap: at + gap / 100, initial=1.0))
    gaps = sorted((round(after - before, 4) for before, after in pairwise(times)), reverse=True)
    assert [gap.seconds for gap in recorded(*times).stream(1, None, 9.0).slowest] == [
        gap for gap in gaps[:SLOWEST] if gap
    ]


def test_slow_gap_names_its_beginning_and_the_entry_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    last_id = EntryId(7, 3)
    timings = TokenTimings(lambda: last_id)
    timings.record(100.0, 1)
    last_id = EntryId(7, 4)
    timings.record(104.5, 1)
    last_id = EntryId(7, 9)
    monkeypatch.setattr(time, "monotonic", lambda: 110.0)
    assert timings.stream(1, None, 1000.0).slowest == [Gap(at=990.0, seconds=4.5, after="7-4")]


def test_time_in_which_the_upstream_was_not_read_is_no_gap() -> None:
    timings = recorded(1.0, 1.5)
    timings.skip(61.5)
    timings.skip(62.0)
    timings.record(62.25, 1)
    assert [gap.seconds for gap in timings.stream(1, None, 99.0).slowest] == [0.5, 0.25]
    assert timings.timings(0.0, 0.0, 99.0).between_tokens_max == 0.5
    timings.skip(99.0)
    assert timings.timings(0.0, 0.0, 99.0).between_tokens_max == 0.5


def test_silence_before_an_answer_broke_off_is_a_gap_and_no_content() -> None:
    timings = recorded(1.0, 1.5)
    timings.break_off(61.5)
    stream = timings.stream(1, 4, 61.5)
    assert (stream.chunks, stream.stalls, stream.slowest[0].seconds, stream.tokens_per_second) == (2, 1, 60.0, 8.0)
    assert timings.count == 2


def test_answer_that_broke_off_before_any_content_has_no_gap() -> None:
    timings = TokenTimings()
    timings.break_off(60.0)
    assert timings.stream(1, None, 60.0).gaps == []


def test_rate_is_of_the_time_from_the_first_content_to_the_last() -> None:
    assert recorded(1.0, 2.0, 3.0).stream(1, 50, 9.0).tokens_per_second == 25
    assert recorded(1.0, 3.0).stream(1, None, 9.0).tokens_per_second is None
    assert recorded(1.0).stream(1, 50, 9.0).tokens_per_second is None
    assert recorded(1.0, 1.0001).stream(1, 50, 9.0).tokens_per_second is None, "the answer was not streamed"


def test_measures_so_far_have_the_silence_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    timings = TokenTimings(lambda: EntryId(7, 3), waited=0.25)
    for at in (1.5, 2.0, 7.0):
        timings.record(at, 1)
    timings.received_bytes, timings.malformed = 345, 1
    request_often(timings, 3)
    monkeypatch.setattr(time, "monotonic", lambda: 11.0)
    price = Price(input=1, output=2)
    assert timings.measures(1000.0, price, UPSTREAM) == Measures(
        first_token=0.75,
        longest_gap=5.0,
        seconds=5.5,
        stream=Stream(
            retries=2, chunks=3, bytes=345, malformed=1, stalls=2,
            gaps=[Bucket(1, 1), Bucket(2, 10)],
            slowest=[Gap(991.0, 5.0, "7-3"), Gap(996.0, 4.0, "7-3"), Gap(990.5, 0.5, "7-3")],
        ),
        prices=(1, 2, None),
        upstream=UPSTREAM,
    )  # fmt: skip
    assert timings.stream(1, None, 1000.0).stalls == 1, "the silence may still end"


def test_measures_before_any_content_have_counters_only() -> None:
    assert TokenTimings(waited=0.25).measures(1000.0, None, UPSTREAM) == Measures(
        stream=Stream(retries=0, chunks=0, bytes=0, malformed=0, stalls=0), upstream=UPSTREAM
    )


def test_measures_so_far_have_ten_gaps_at_most() -> None:
    timings = recorded(*range(1, 40))
    assert len(timings.measures(99.0, None, UPSTREAM).stream.slowest) == SLOWEST


def test_stalls_are_all_counted_though_only_the_slowest_gaps_are_kept() -> None:
    assert recorded(*range(1, 200, 4)).stream(1, None, 9.0).stalls == 49


def test_each_gap_is_counted_once_however_often_the_measures_are_asked_for() -> None:
    timings = TokenTimings()
    for at in (1.0, 1.02, 1.04):
        timings.record(at, 1)
    timings.measures(9.0, None, UPSTREAM)
    timings.skip(5.0)
    timings.record(5.02, 1)
    timings.measures(9.0, None, UPSTREAM)
    assert timings.stream(1, None, 9.0).gaps == [Bucket(3, 0.03)]


def test_first_content_is_reported_once() -> None:
    reported: list[int] = []
    timings = TokenTimings()
    timings.on_first = lambda: reported.append(timings.count)
    for at in (1.0, 5.0, 9.0):
        timings.record(at, 1)
    assert reported == [0]


EARLIER = Measures(
    first_token=0.4,
    longest_gap=6.0,
    seconds=2.0,
    stream=Stream(
        retries=2, chunks=30, bytes=900, malformed=1, stalls=1, gaps=[Bucket(28, 0.03), Bucket(1, 10)],
        slowest=[Gap(990.0, 6.0, "6-9")], failed=[FailedRequest(0.2, "upstream_error", "gpu", 0.1)],
    ),
    prices=(1.0, 2.0, None),
    upstream=UPSTREAM,
)  # fmt: skip


def test_measures_of_a_later_attempt_include_those_of_the_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    timings = TokenTimings(lambda: EntryId(7, 3), waited=8.0, earlier=EARLIER)
    request_often(timings, 2)
    timings.received_bytes, timings.malformed = 100, 1
    for at in (11.0, 11.02, 11.04):
        timings.record(at, 1)
    stream = timings.stream(2, 10, 1000.0)
    assert (stream.attempts, stream.retries, stream.chunks, stream.bytes) == (2, 3, 33, 1000)
    assert (stream.malformed, stream.stalls, stream.tokens_per_second) == (2, 1, 250)
    assert stream.gaps == [Bucket(30, 0.03), Bucket(1, 10)]
    assert [gap.seconds for gap in stream.slowest] == [6.0, 0.02, 0.02]
    measured = timings.timings(900.0, 900.5, 1000.0)
    assert (measured.first_token, measured.between_tokens_max, measured.between_tokens_p50) == (0.4, 6.0, 0.02)
    another = Upstream("chatcmpl-2")
    stored = timings.measures(1000.0, None, another)
    assert (stored.first_token, stored.longest_gap, stored.seconds) == (0.4, 6.0, 0.04)
    assert (stored.prices, stored.upstream, stored.stream.chunks) == (None, another, 33)


def test_measures_before_the_content_of_a_later_attempt_name_the_upstream_that_has_answered() -> None:
    timings = TokenTimings(waited=8.0, earlier=EARLIER)
    assert timings.measures(1000.0, None, Upstream(name="other")) == Measures(
        first_token=0.4, longest_gap=6.0, stream=EARLIER.stream, prices=EARLIER.prices, upstream=UPSTREAM
    )


def test_first_content_of_a_later_attempt_counts_from_creation_where_there_was_none_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    timings = TokenTimings(waited=8.0, earlier=Measures(stream=Stream(retries=1)))
    timings.record(10.5, 1)
    assert timings.timings(900.0, 900.5, 1000.0).first_token == 8.5


def test_silence_of_an_answer_that_broke_off_is_one_gap_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    timings = recorded(1.0, 1.02)
    timings.break_off(7.02)
    timings.break_off(7.03)
    monkeypatch.setattr(time, "monotonic", lambda: 9.0)
    stored = timings.measures(1000.0, None, UPSTREAM)
    assert (stored.stream.stalls, stored.longest_gap, stored.stream.chunks) == (1, 6.0, 2)
    assert stored.stream.gaps == [Bucket(1, 0.03), Bucket(1, 10)]
    assert [gap.seconds for gap in stored.stream.slowest] == [6.0, 0.02]


@pytest.mark.parametrize(("silence", "gaps"), [(0.09, []), (0.2, [Bucket(1, 0.3)])])
def test_short_silence_that_lasts_is_no_gap_yet(
    monkeypatch: pytest.MonkeyPatch, silence: float, gaps: list[Bucket]
) -> None:
    timings = recorded(1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0 + silence)
    stored = timings.measures(1000.0, None, UPSTREAM)
    assert stored.stream.gaps == gaps
    assert len(stored.stream.slowest) == len(gaps)
