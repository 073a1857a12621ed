"""One log, 1,000 readers: what an event costs that many read at once."""

from collections.abc import Sequence

from bench.delivery import NAIVE, TAILRACE, Shape, deliver
from bench.measures import Finding
from bench.workloads.scattered import figures

FAN_OUT = Shape(logs=1, rate=4, readers=1000)


async def fan_out(seconds: float) -> Sequence[Finding]:
    """The measure of it compares with nchan (`scripts/bench-peers`); here are ours and the naive pattern's figures."""
    ours = await deliver(TAILRACE, FAN_OUT, seconds)
    naive = await deliver(NAIVE, FAN_OUT, seconds)
    return [Finding("fan-out", None, figures("Tailrace", ours) | figures("naive", naive))]
