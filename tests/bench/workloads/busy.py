"""1,000 logs, 8 events a second each: how late an event is. The naive pattern, for orientation, is overloaded here."""

from collections.abc import Sequence

from bench.delivery import NAIVE, TAILRACE, Shape, deliver
from bench.measures import Finding
from bench.workloads.scattered import figures

BUSY = Shape(logs=1000, rate=8)


async def busy(seconds: float) -> Sequence[Finding]:
    ours = await deliver(TAILRACE, BUSY, seconds)
    naive = await deliver(NAIVE, BUSY, seconds)
    held = {"Tailrace: max ms": ours.latency.max, "appends behind ms": 1000 * ours.behind_s}
    held |= {"naive: p50 ms": naive.latency.p50, "naive: p99 ms": naive.latency.p99}
    held["naive: delivered share"] = naive.share
    return [
        Finding("busy/p50", ours.latency.p50, figures("Tailrace", ours)),
        Finding("busy/p99", ours.latency.p99, held),
    ]
