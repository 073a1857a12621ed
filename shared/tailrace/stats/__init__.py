"""What a process counts and measures: for Prometheus (`exposition`), and for the history in Redis (`history`)."""

from tailrace.stats.process_stats import Count, Durations, Stats

__all__ = ["Count", "Durations", "Stats"]
