"""Histograms of durations by upstream, which workers add up in one hash: a field for each bucket, and one for the sum.

gap/4:primary    the gaps of the fifth bucket         gap/us:primary    µs of all gaps
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tailrace.events import GAP_BOUNDS_S

FIRST_TOKEN, GAP = "first_token", "gap"
SUM = "us"


class Histogram(NamedTuple):
    """`counts`: of each bucket of `GAP_BOUNDS_S`, and of what is longer. `seconds`: the sum."""

    counts: tuple[int, ...] = (0,) * (len(GAP_BOUNDS_S) + 1)
    seconds: float = 0.0


def bucket_counts(durations: Sequence[float]) -> list[int]:
    """How many durations each bucket has. They are in seconds, the shortest first."""
    ends = [*(bisect_right(durations, bound) for bound in GAP_BOUNDS_S), len(durations)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def duration_counts(kind: str, upstream: str, durations: Sequence[float]) -> dict[str, int]:
    """What these durations add to the fields. They are in seconds, the shortest first."""
    fields: dict[str, int] = {str(bucket): count for bucket, count in enumerate(bucket_counts(durations))}
    fields[SUM] = round(1e6 * sum(durations))
    return {f"{kind}/{field}:{upstream}": count for field, count in fields.items() if count > 0}


def histogram_of(kind: str, upstream: str, counts: Mapping[str, int]) -> Histogram:
    """The durations of one upstream from the fields."""
    buckets = range(len(GAP_BOUNDS_S) + 1)
    return Histogram(
        tuple(counts.get(f"{kind}/{bucket}:{upstream}", 0) for bucket in buckets),
        counts.get(f"{kind}/{SUM}:{upstream}", 0) / 1e6,
    )
