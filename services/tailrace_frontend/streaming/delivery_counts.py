"""The counts of the delivery, which every tail, cursor and connection of a process changes."""

from tailrace.stats import Stats


class DeliveryCounts:
    """Held as attributes, because they change for each message."""

    __slots__ = ("_stats", "gaps", "lag", "replayed_bytes", "replayed_entries", "restarted")

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self.lag = stats.durations("delivery_lag_seconds")
        self.gaps = stats.count("gaps_found_total")
        self.replayed_entries = stats.count("replayed_entries_total")
        self.replayed_bytes = stats.count("replayed_bytes_total")
        self.restarted = stats.count("readers_restarted_total")

    def cut(self, reason: str) -> None:
        """A stream ends before its log."""
        self._stats.count("reader_cuts_total", reason).value += 1
