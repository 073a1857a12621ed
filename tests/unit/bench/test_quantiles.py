import math

from bench.quantiles import Latency, Spread, quantile


def test_quantile_is_one_of_the_samples() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [quantile(ordered, share) for share in (0, 0.5, 0.99, 1)] == [1, 50, 99, 100]
    assert quantile([7.0], 0.99) == 7


def test_latency_sorts_its_samples() -> None:
    assert Latency.of([3.0, 1.0, 2.0]) == (3, 2, 3, 3)


def test_latency_of_no_samples_is_nan() -> None:
    assert Latency.of([]).samples == 0
    assert math.isnan(Latency.of([]).p99)


def test_runs_have_a_median_and_a_spread() -> None:
    assert Spread.of([0.3, 0.1, 0.2]) == (0.2, 0.1, 0.3)
