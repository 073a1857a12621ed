"""One log, 1,000 readers: the cost of an event that many clients read."""

from collections.abc import Sequence

from bench.delivery import NAIVE, TAILRACE, Shape, deliver
from bench.measures import Finding
from bench.workloads.scattered import figures

FAN_OUT = Shape(logs=1, rate=4, readers=1000)


async def fan_out(seconds: float) -> Sequence[Finding]:
    """Figures of ours and of the naive pattern; the measure is a comparison with nchan (`scripts/bench-peers`)."""
    ours = await deliver(TAILRACE, FAN_OUT, seconds)
    naive = await deliver(NAIVE, FAN_OUT, seconds)
    return [Finding("fan-out", None, figures("Tailrace", ours) | figures("naive", naive))]
