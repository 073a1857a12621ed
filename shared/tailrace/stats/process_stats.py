"""The counts and durations of one process.

A hot path holds a `Count` or a `Durations` and changes plain numbers (`scripts/bench` is where that is measured).
Nothing is formatted, locked or sent then: `exposition` reads the numbers when they are asked for, `history` every few
seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence

from tailrace.stats.table import BY_NAME, Metric, Tier, metrics_of

Labels = tuple[str, ...]
Reading = float | Mapping[Labels, float]


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class Durations:
    """A histogram. `counts`: of each bucket (not cumulative), the last of what is beyond them. `total`: the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, count: int = 1) -> None:
        """Count a value, or so many of it. A bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += count
        self.total += value * count

    def observe_sorted(self, values: Sequence[float]) -> None:
        """Count many values, the smallest first: a search for each bound instead of one for each value."""
        begin = 0
        for bucket, bound in enumerate(self.bounds):
            end = bisect_right(values, bound, begin)
            self.counts[bucket] += end - begin
            begin = end
        self.counts[-1] += len(values) - begin
        self.total += sum(values)


class Stats:
    """The metrics of a process of this tier. A process has one; those of two processes in one interpreter are apart.

    `model_label`: the value of the label `model` for a name that a caller has chosen (`model_labels`).
    """

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.model_label: Callable[[str], str] = lambda _: "other"
        self._counts: dict[str, dict[Labels, Count]] = {}
        self._durations: dict[str, dict[Labels, Durations]] = {}
        self._gauges: dict[str, Callable[[], Reading]] = {}
        for metric in metrics_of(tier):
            for labels in metric.known:
                if metric.kind == "counter":
                    self.count(metric.name, *labels)
                else:
                    self.durations(metric.name, *labels)

    def count(self, name: str, *labels: str) -> Count:
        """The counter of this name and these values of its labels."""
        counts = self._counts.get(name)
        if counts is None:
            counts = self._counts[_checked(name, self.tier).name] = {}
        if (count := counts.get(labels)) is None:
            assert len(labels) == len(BY_NAME[name].labels), name
            count = counts[labels] = Count()
        return count

    def durations(self, name: str, *labels: str) -> Durations:
        """The histogram of this name and these values of its labels."""
        known = self._durations.get(name)
        if known is None:
            known = self._durations[_checked(name, self.tier).name] = {}
        if (durations := known.get(labels)) is None:
            assert len(labels) == len(BY_NAME[name].labels), name
            durations = known[labels] = Durations(BY_NAME[name].bounds)
        return durations

    def gauge(self, name: str, read: Callable[[], Reading]) -> None:
        """Read the gauge by this function: a number, or numbers by the values of its labels."""
        self._gauges[_checked(name, self.tier).name] = read

    def counts_of(self, metric: Metric) -> Mapping[Labels, Count]:
        return self._counts.get(metric.name, {})

    def durations_of(self, metric: Metric) -> Mapping[Labels, Durations]:
        return self._durations.get(metric.name, {})

    def readings_of(self, metric: Metric) -> Iterator[tuple[Labels, float]]:
        """The values of a gauge now."""
        if read := self._gauges.get(metric.name):
            reading = read()
            yield from reading.items() if isinstance(reading, Mapping) else [((), float(reading))]


def _checked(name: str, tier: Tier) -> Metric:
    metric = BY_NAME[name]
    assert tier in metric.tiers, f"{name} is no metric of a {tier}"
    return metric
