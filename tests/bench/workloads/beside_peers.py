"""The delivery workloads beside peers that do nearly the same: nchan and resumable-stream, where they are installed."""

from collections.abc import Mapping, Sequence

from bench.delivery import TAILRACE, Delivery, Shape, Side, deliver
from bench.measures import Finding
from bench.peers import nchan, resumable_stream
from bench.workloads.fan_out import FAN_OUT
from bench.workloads.scattered import SCATTERED, figures


def missing() -> Sequence[str]:
    """The reason for each peer that is not installed."""
    return [why for why in (nchan.missing(), resumable_stream.missing()) if why]


def installed() -> Mapping[str, Side]:
    sides = {}
    if not nchan.missing():
        sides["nchan"] = nchan.NCHAN
    if not resumable_stream.missing():
        sides["resumable-stream"] = resumable_stream.RESUMABLE_STREAM
    return sides


async def trials(shape: Shape, seconds: float) -> tuple[Delivery, Mapping[str, Delivery], dict[str, float]]:
    """Our trial, then those of the peers, and the absolute figures of all."""
    ours = await deliver(TAILRACE, shape, seconds)
    theirs = {name: await deliver(side, shape, seconds) for name, side in installed().items()}
    beside = figures("Tailrace", ours)
    for name, trial in theirs.items():
        beside |= figures(name, trial)
    return ours, theirs, beside


async def scattered_beside_peers(seconds: float) -> Sequence[Finding]:
    ours, theirs, beside = await trials(SCATTERED, seconds)
    findings = []
    if peer := theirs.get("nchan"):
        findings.append(Finding("scattered/all-to-nchan", ours.all_us() / peer.all_us(), beside))
    if peer := theirs.get("resumable-stream"):
        ratio = ours.web_us() / peer.web_us()
        findings.append(Finding("scattered/web-to-resumable-stream", ratio, {} if findings else beside))
    return findings


async def fan_out_beside_peers(seconds: float) -> Sequence[Finding]:
    ours, theirs, beside = await trials(FAN_OUT, seconds)
    peer = theirs.get("nchan")
    return [Finding("fan-out/web-to-nchan", ours.web_us() / peer.web_us(), beside)] if peer else []
