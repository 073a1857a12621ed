import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.stats import Durations, Stats
from tailrace.stats.bounds import FINE_SECONDS, SECONDS
from tailrace.stats.table import METRICS, metrics_of


def test_bound_belongs_to_the_bucket_below_it() -> None:
    durations = Durations((0.01, 0.02))
    for value in (0.0, 0.01, 0.010001, 0.02, 0.021):
        durations.observe(value)
    assert durations.counts == [2, 2, 1]
    assert durations.total == pytest.approx(0.061001)


@given(st.lists(st.one_of(st.sampled_from(FINE_SECONDS), st.floats(0, 200))))
def test_sorted_values_are_counted_as_one_by_one(values: list[float]) -> None:
    together, one_by_one = Durations(FINE_SECONDS), Durations(FINE_SECONDS)
    together.observe_sorted(sorted(values))
    for value in values:
        one_by_one.observe(value)
    assert together.counts == one_by_one.counts
    assert together.total == pytest.approx(one_by_one.total)


def test_count_of_the_same_labels_is_the_same() -> None:
    stats = Stats("worker")
    stats.count("upstream_retries_total", "primary").inc()
    stats.count("upstream_retries_total", "primary").inc(2)
    assert stats.count("upstream_retries_total", "primary").value == 3
    assert stats.count("upstream_retries_total", "backup").value == 0


def test_metric_of_the_other_tier_or_of_no_table_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="no metric of a worker"):
        Stats("worker").count("generations_created_total")
    with pytest.raises(KeyError):
        Stats("worker").count("nothing_total")
    with pytest.raises(AssertionError):
        Stats("worker").count("upstream_retries_total")


def test_stats_of_two_processes_are_apart() -> None:
    one, other = Stats("worker"), Stats("worker")
    one.count("appended_entries_total").inc()
    assert other.count("appended_entries_total").value == 0


def test_known_labels_are_there_from_the_start() -> None:
    for tier in ("frontend", "worker"):
        stats = Stats(tier)
        for metric in metrics_of(tier):
            found = stats.counts_of(metric) or stats.durations_of(metric)
            assert set(metric.known) == set(found)


def test_bounds_are_those_of_opentelemetry() -> None:
    assert tuple(round(0.01 * 2**n, 2) for n in range(14)) == SECONDS
    assert FINE_SECONDS[-len(SECONDS) :] == SECONDS


def test_names_follow_the_conventions() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_rows"))
        assert not {"owner", "caller", "generation", "tenant"} & set(metric.labels)
        assert all(len(values) == len(metric.labels) for values in metric.known)


def test_hot_path_allocates_nothing_that_grows() -> None:
    stats, rng = Stats("frontend"), random.Random(1)
    lag = stats.durations("delivery_lag_seconds")
    for _ in range(10_000):
        lag.observe(rng.random())
    assert len(lag.counts) == len(FINE_SECONDS) + 1
    assert sum(lag.counts) == 10_000
