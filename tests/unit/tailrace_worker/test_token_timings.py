import time

import pytest

from tailrace_worker.token_timings import TokenTimings


def test_timings_without_content_are_left_out() -> None:
    timings = TokenTimings().timings(10.0, 11.5, 13.0)
    assert (timings.queue, timings.first_token, timings.between_tokens_p50, timings.total) == (1.5, None, None, 3.0)


def test_first_token_counts_from_creation() -> None:
    recorded = TokenTimings()
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
    timings = TokenTimings()
    timings.record(5.0005, 1)
    measured = timings.timings(1000.0, 1000.874, 1000.874)
    assert (measured.queue, measured.first_token, measured.total) == (0.874, 0.8745, 0.8745)
