"""Ten counters and gauges, as Prometheus reads them. What a process counts, it counts since its start."""

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tailrace_frontend.streaming.hub import Hub

disable_created_metrics()

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """One process' metrics, in a registry of its own."""

    def __init__(self, hub: Hub) -> None:
        self.registry = CollectorRegistry()
        gauge, counter = self._gauge, self._counter
        gauge("readers", "Event streams being served").set_function(lambda: hub.count)
        gauge("tails", "Live logs followed").set_function(lambda: hub.tails)
        gauge("subscriber_connected", "Whether the subscriber connection is up").set_function(
            lambda: hub.subscriber.connected
        )
        self.queued = gauge("queued", "Generations waiting for a worker")
        self.workers = gauge("workers", "Workers heard of within three leases")
        self.created = counter("generations_created", "Generations accepted")
        self.streams = counter("streams_opened", "Event streams begun, reconnects included")
        self.resumed = counter("streams_resumed", "Event streams begun with a cursor")
        self.refused = counter("requests_refused", "Answers of 4xx and 5xx", ["status"])
        self.told_to_return = counter("streams_deferred", "Event streams told to come again")

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"tailrace_{name}", help_text, registry=self.registry)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] | list[str] = ()) -> Counter:
        return Counter(f"tailrace_{name}", help_text, labels, registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
