"""The frontend's Prometheus metrics. Counters start at 0 with the process; those of the upstreams are the workers' and
continue, and every frontend has the same.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from tailrace.events import GAP_BOUNDS_S
from tailrace.queue import UpstreamUsage
from tailrace.queue.durations import FIRST_TOKEN, GAP, Histogram
from tailrace_frontend.streaming.hub import Hub

disable_created_metrics()

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class UpstreamMetrics(Collector):
    """The workers' calls, by upstream. `usage`: as it was read last."""

    def __init__(self) -> None:
        self.usage: Mapping[str, UpstreamUsage] = {}

    def collect(self) -> Iterator[Metric]:
        labels = ["upstream"]
        calls = CounterMetricFamily("tailrace_upstream_calls", "Requests to an upstream", labels=labels)
        failures = CounterMetricFamily("tailrace_upstream_failures", "Requests that an upstream failed", labels=labels)
        in_use = GaugeMetricFamily("tailrace_upstream_in_use", "Requests to an upstream under way", labels=labels)
        is_open = GaugeMetricFamily("tailrace_upstream_circuit_open", "Whether the circuit is open", labels=labels)
        for name, usage in self.usage.items():
            calls.add_metric([name], usage.calls)
            failures.add_metric([name], usage.failures)
            in_use.add_metric([name], usage.in_use)
            is_open.add_metric([name], usage.is_open)
        yield from (calls, failures, in_use, is_open)
        yield self._histogram("first_token", "From a request to its first content", FIRST_TOKEN)
        yield self._histogram("gap", "Between two pieces of content", GAP)

    def _histogram(self, name: str, help_text: str, kind: str) -> Metric:
        family = HistogramMetricFamily(f"tailrace_upstream_{name}_seconds", help_text, labels=["upstream"])
        for upstream, usage in self.usage.items():
            durations: Histogram = getattr(usage, kind)
            totals = accumulate(durations.counts)
            bounds = [*(f"{bound:g}" for bound in GAP_BOUNDS_S), "+Inf"]
            family.add_metric([upstream], list(zip(bounds, totals, strict=True)), durations.seconds)
        return family


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self, hub: Hub) -> None:
        self.registry = CollectorRegistry()
        gauge, counter = self._gauge, self._counter
        gauge("readers", "Event streams being served").set_function(lambda: hub.count)
        gauge("live_logs", "Logs being followed live").set_function(lambda: hub.tails)
        gauge("subscriber_connected", "Whether the subscriber connection is up").set_function(
            lambda: hub.subscriber.connected
        )
        self.queued = gauge("queued", "Generations waiting for a worker")
        self.workers = gauge("workers", "Workers with a heartbeat within the last three leases")
        self.created = counter("generations_created", "Generations accepted")
        self.streams = counter("streams_opened", "Event streams opened, reconnects included")
        self.resumed = counter("streams_resumed", "Event streams opened with a cursor")
        self.refused = counter("requests_refused", "Responses with status 4xx or 5xx", ["status"])
        self.upstreams = UpstreamMetrics()
        self.registry.register(self.upstreams)
        self.streams_deferred = counter("streams_deferred", "Event streams answered with a retry hint only")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"tailrace_{name}", help_text, registry=self.registry)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] | list[str] = ()) -> Counter:
        return Counter(f"tailrace_{name}", help_text, labels, registry=self.registry)

    def text(self) -> bytes:
        """The current values in Prometheus' text format."""
        return generate_latest(self.registry)
