"""The delivery lag of a window, by the frontend's own metric."""

from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

from support.metrics import scrape
from tailrace.stats.bounds import FINE_SECONDS
from tailrace.stats.history_reader import Histogram


async def lag(port: int) -> list[float]:
    """Observations at or below each bound, so far; the last of them has all."""
    (text,) = await scrape([port])
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return [each.value for each in samples if each.name == "tailrace_delivery_lag_seconds_bucket"]


def p99_ms(before: list[float], after: list[float]) -> float:
    """Of what was observed between the two; on a straight line through its bucket."""
    totals = [late - early for early, late in zip(before, after, strict=True)]
    counts = [int(more - less) for less, more in pairwise([0.0, *totals])]
    return 1000 * (Histogram(FINE_SECONDS, counts, 0.0).quantile(0.99) or 0.0)
