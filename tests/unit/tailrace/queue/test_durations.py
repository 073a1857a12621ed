from tailrace.events import GAP_BOUNDS_S
from tailrace.queue.durations import FIRST_TOKEN, GAP, Histogram, bucket_counts, duration_counts, histogram_of


def test_each_duration_is_in_the_first_bucket_that_allows_it() -> None:
    durations = [0.0005, 0.001, 0.0011, 100.0, 101.0]
    assert bucket_counts(durations) == [2, 1, *[0] * 8, 1, 1]
    assert len(bucket_counts([])) == len(GAP_BOUNDS_S) + 1


def test_histogram_is_read_from_the_fields_of_its_upstream_and_kind() -> None:
    counts = duration_counts(GAP, "primary", [0.0005, 0.02, 0.02]) | duration_counts(GAP, "backup", [7.0])
    counts |= duration_counts(FIRST_TOKEN, "primary", [0.5])
    assert counts["gap/3:primary"] == 2
    assert histogram_of(GAP, "primary", counts) == Histogram((1, 0, 0, 2, *[0] * 8), 0.0405)
    assert histogram_of(FIRST_TOKEN, "primary", counts).seconds == 0.5
    assert histogram_of(FIRST_TOKEN, "backup", counts) == Histogram()


def test_nothing_is_added_for_no_durations() -> None:
    assert duration_counts(GAP, "primary", []) == {}
