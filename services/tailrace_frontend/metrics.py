"""The frontend's Prometheus metrics: what its parts count (`tailrace.stats`), and what the whole deployment has."""

from tailrace.stats import Stats
from tailrace.stats.exposition import CONTENT_TYPE_LATEST, Exposition
from tailrace_frontend.streaming.hub import Hub

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

UNKNOWN = float("nan")


class Metrics:
    """The metrics of one process. `queued`, `oldest_wait_s`, `workers`: of the deployment, as they were read last."""

    def __init__(self, hub: Hub, stats: Stats | None = None) -> None:
        self.stats = stats or hub.stats
        self.queued = self.oldest_wait_s = self.workers = UNKNOWN
        gauge, count = self.stats.gauge, self.stats.count
        gauge("readers", lambda: hub.activities)
        gauge("live_logs", lambda: hub.tails)
        gauge("subscriber_connected", lambda: hub.subscriber.connected)
        gauge("generations_waiting", lambda: self.queued)
        gauge("oldest_wait_seconds", lambda: self.oldest_wait_s)
        gauge("workers", lambda: self.workers)
        self.streams = count("streams_opened_total")
        self.streams_deferred = count("streams_deferred_total")
        exposition = Exposition(self.stats)
        self.registry = exposition.registry
        self.text = exposition.text

    def refused(self, status: int) -> None:
        """A response with this status, 4xx or 5xx."""
        self.stats.count("requests_refused_total", str(int(status))).value += 1

    def resumed(self, outcome: str) -> None:
        """A request for the rest of a stream: `continued`, `ended` (nothing is left) or `refused`."""
        self.stats.count("resumes_total", outcome).value += 1
