"""Nearest-rank quantiles of many samples, and the median of few runs with their spread."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of samples in ascending order."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Latency(NamedTuple):
    """In ms, of so many `samples`."""

    samples: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> "Latency":
        if not samples_ms:
            return cls(0, math.nan, math.nan, math.nan)
        ordered = sorted(samples_ms)
        return cls(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1])


class Spread(NamedTuple):
    """The median of some runs, and the least and greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, runs: Sequence[float]) -> "Spread":
        return cls(statistics.median(runs), min(runs), max(runs))
