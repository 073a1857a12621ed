"""The frontend's Prometheus metrics: five gauges and five counters. Counters start at 0 with the process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tailrace_frontend.streaming.hub import Hub

disable_created_metrics()

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


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
        self.streams_deferred = counter("streams_deferred", "Event streams answered with a retry hint only")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"tailrace_{name}", help_text, registry=self.registry)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] | list[str] = ()) -> Counter:
        return Counter(f"tailrace_{name}", help_text, labels, registry=self.registry)

    def text(self) -> bytes:
        """The current values in Prometheus' text format."""
        return generate_latest(self.registry)
