import time

import pytest

from tailrace_worker.pace import Pace


def test_nothing_heard_is_nothing_told() -> None:
    timings = Pace().timings(10.0, 11.5, 13.0)
    assert (timings.queue, timings.first_token, timings.between_tokens_p50, timings.total) == (1.5, None, None, 3.0)


def test_the_first_token_counts_from_creation() -> None:
    pace = Pace()
    pace.heard(time.monotonic() + 0.5, 1)
    timings = pace.timings(10.0, 11.0, 13.0)
    assert timings.first_token == pytest.approx(1.5, abs=0.05)


def test_pieces_of_one_read_share_its_gap() -> None:
    pace = Pace()
    for at, pieces in ((1.0, 1), (1.4, 4), (1.8, 4), (2.2, 4)):
        pace.heard(at, pieces)
    assert pace.count == 13
    assert pace.timings(0.0, 0.0, 3.0).between_tokens_p50 == pytest.approx(0.1)


def test_a_clock_that_went_back_gives_no_negative_times() -> None:
    timings = Pace().timings(10.0, 9.0, 8.0)
    assert (timings.queue, timings.total) == (0.0, 0.0)
