"""What is wrong, in words. A healthy installation has no badge."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from tailrace.ids import short_name
from tailrace.queue.presence import LiveWorker
from tailrace.settings import Settings

WAITED_S = 10.0
"""A generation that is due waits for longer."""

SKEW_S = 2.0
"""The clocks of this machine and of Redis differ by more."""


NOTHING: Mapping[str, int] = {}
RECENT = {
    "leases_lost": "{times} a worker had lost its lease, and another one has taken its generation over.",
    "restarts": "{times} a generation began again, after its worker or its upstream was lost.",
    "restored": "{times} a log that Redis had lost was restored.",
    "readers_restarted": "{times} a reader had to discard what it had: its log went back.",
}
"""Counts of the history (`stats.slots`) that are 0 in a healthy installation, and what they mean."""


class Badge(NamedTuple):
    """`code` stays the same while the condition lasts; `text` may change."""

    code: str
    level: Literal["warning", "bad"]
    text: str


class Facts(NamedTuple):
    """What badges are made of. `waited`: seconds, of the next job. `memory_percent`: of the log's server. `skew`:
    seconds that Redis' clock is ahead of this machine's. `subscribed`: whether this frontend receives appends.
    `recent`: of `RECENT`, within the last two minutes."""

    waiting: int
    waited: float
    workers: Sequence[LiveWorker]
    circuits: dict[str, int]
    memory_percent: float
    skew: float
    settings: Settings
    subscribed: bool
    recent: Mapping[str, int] = NOTHING


def badges_of(facts: Facts) -> list[Badge]:
    """The conditions that hold, the worst first."""
    return sorted(_badges(facts), key=lambda badge: badge.level != "bad")


def _badges(facts: Facts) -> Iterator[Badge]:
    taking = [worker for worker in facts.workers if not worker.status.draining]
    if not facts.workers:
        yield Badge("no_workers", "bad", f"No worker is alive. {_generations_wait(facts.waiting)}")
    elif not taking:
        yield Badge("all_draining", "bad", f"Every worker drains: none takes jobs. {_generations_wait(facts.waiting)}")
    elif facts.waiting and facts.waited > WAITED_S:
        yield Badge("waiting", "warning", f"The next generation has waited for {facts.waited:.0f} s.")
    silent_ms = facts.settings.lease_ms
    for worker in facts.workers:
        if worker.silent_ms > silent_ms:
            seconds = f"{worker.silent_ms / 1000:.0f} s"
            text = f"Worker {short_name(worker.name)} has been silent for {seconds}: it is dead, or hangs."
            yield Badge(f"silent:{worker.name}", "bad", text)
        elif worker.status.refusal:
            text = f"Worker {short_name(worker.name)} is not ready: {worker.status.refusal}"
            yield Badge(f"unready:{worker.name}", "bad", text)
    for name, probe_ms in facts.circuits.items():
        text = f"The circuit of upstream {name} is open; the next try is due in {probe_ms / 1000:.0f} s."
        yield Badge(f"circuit:{name}", "warning", text)
    if facts.memory_percent >= facts.settings.max_memory_percent:
        text = f"Redis has {facts.memory_percent:.0f} % of its memory in use: new generations are refused."
        yield Badge("memory", "bad", text)
    if not facts.subscribed:
        yield Badge("subscriber", "bad", "This frontend does not receive all that is appended: a subscriber is away.")
    if abs(facts.skew) > SKEW_S:
        yield Badge("skew", "warning", f"The clocks of this frontend and of Redis differ by {abs(facts.skew):.1f} s.")
    yield from _recent_badges(facts.recent)


def _recent_badges(recent: Mapping[str, int]) -> Iterator[Badge]:
    for name, text in RECENT.items():
        if count := recent.get(name, 0):
            times = "Within two minutes, once" if count == 1 else f"Within two minutes, {count:,} times"
            yield Badge(name, "warning", text.format(times=times))


def _generations_wait(count: int) -> str:
    if not count:
        return "Nothing waits."
    return "1 generation waits." if count == 1 else f"{count:,} generations wait."
