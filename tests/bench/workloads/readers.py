"""10,000 readers on one process, each of a log of its own, 5,000 events a second, every feature on.

Callers have keys, clients have write timeouts, and every 15 s each reader sends a keep-alive and checks its position.
The window begins when the first keep-alive is due, so it contains nearly all of them (more a second than on average).
Memory is the growth of the frontend since before the first reader, divided by the readers, without socket buffers.
"""

import resource
from collections.abc import Sequence

from bench.delivery import TAILRACE, Shape, deliver
from bench.measures import Finding
from bench.workloads.scattered import figures

READERS = 10_000
EVENTS_S = 5000
SPARE_FILES = 500
KEEPALIVE_S = 15.0


async def readers(seconds: float) -> Sequence[Finding]:
    """A machine that allows fewer open files has fewer readers; the figures contain their number."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(READERS, files - SPARE_FILES)
    limits = {"max_readers": "20000", "max_readers_per_caller": "20000"}
    limits |= {"api_keys": "bench:bench-bench", "ticket_secret": "s" * 32}
    shape = Shape(logs=count, rate=EVENTS_S / count)
    ours = await deliver(TAILRACE, shape, seconds, KEEPALIVE_S, key="bench-bench", owner="bench", **limits)
    beside = figures("Tailrace", ours) | {"max ms": ours.latency.max, "appends behind ms": 1000 * ours.behind_s}
    return [
        Finding("readers/p99", ours.latency.p99, beside),
        Finding("readers/rss", ours.rss_a_reader / 1000, {"readers": count, "cut": ours.cut}),
    ]
