"""200 live logs, 20 events a second each, scattered in time, a reader each: what an event costs."""

from collections.abc import Sequence

from bench.delivery import NAIVE, TAILRACE, Delivery, Shape, deliver
from bench.measures import Finding

SCATTERED = Shape(logs=200, rate=20)


async def scattered(seconds: float) -> Sequence[Finding]:
    """One run: ours, then the naive pattern's, each on a fresh stage."""
    ours = await deliver(TAILRACE, SCATTERED, seconds)
    naive = await deliver(NAIVE, SCATTERED, seconds)
    beside = figures("Tailrace", ours) | figures("naive", naive)
    return [Finding("scattered/web", ours.web_us() / naive.web_us(), beside)]


def figures(who: str, trial: Delivery) -> dict[str, float]:
    """The absolute figures of a side."""
    usage, events = trial.usage, trial.delivered
    told = {f"{who}: {name} µs": usage.us_an_event(events, name) for name in ("web", "redis", "append")}
    told |= {f"{who}: events an append": trial.together, f"{who}: delivered share": trial.share}
    return told | {f"{who}: p50 ms": trial.latency.p50, f"{who}: p99 ms": trial.latency.p99}
