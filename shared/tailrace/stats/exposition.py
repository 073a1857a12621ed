"""The metrics of a process in Prometheus' text format."""

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from tailrace.stats.process_stats import Durations, Stats
from tailrace.stats.table import PREFIX, Metric, metrics_of

__all__ = ["CONTENT_TYPE_LATEST", "Exposition"]


class StatsCollector(Collector):
    """Reads the numbers when they are asked for. Every metric is there from the start, also without a value."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterator[Family]:
        for metric in metrics_of(self._stats.tier):
            yield {"counter": self._counter, "gauge": self._gauge, "histogram": self._histogram}[metric.kind](metric)

    def _counter(self, metric: Metric) -> Family:
        family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        for labels, count in list(self._stats.counts_of(metric).items()):
            family.add_metric(labels, count.value)
        return family

    def _gauge(self, metric: Metric) -> Family:
        family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        for labels, value in self._stats.readings_of(metric):
            family.add_metric(labels, value)
        return family

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        for labels, durations in list(self._stats.durations_of(metric).items()):
            family.add_metric(labels, list(_cumulative(durations)), durations.total)
        return family


def _cumulative(durations: Durations) -> Iterator[tuple[str, float]]:
    bounds = [*(f"{bound:g}" for bound in durations.bounds), "+Inf"]
    return zip(bounds, accumulate(durations.counts), strict=True)


class Exposition:
    """The registry of one process: its own metrics, and those of its memory, CPU and open files."""

    def __init__(self, stats: Stats) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(StatsCollector(stats))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def text(self) -> bytes:
        """The current values."""
        return generate_latest(self.registry)
