"""What a fault does to a fleet: a frontend's death, a primary's failover, a deploy, a worker's death."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from simulation.constants import CONSTANTS, policy, seconds
from simulation.engine import Simulation
from simulation.storm import Storm, StormShape

WATCHED_S = 120.0
FAULT_S = 1.0
TRIALS = 100
APART_S = 1000.0
READY_S = 5.0
"""From the start of a frontend to its first connection, with its image on the node: an assumption."""


class Outcome(NamedTuple):
    """What a fault does to readers.

    `gaps`: seconds until a reader that lost its connection was live again, p50, p99 and the longest. `reconnects`: the
    most connections in a second. `delay`: of live events meanwhile, p99 and worst, seconds. `left`: readers that are
    not live at the end. `overloaded`: frontends that then have more live events than a core can deliver.
    """

    readers: int
    affected: int
    gaps: tuple[float, float, float]
    attempts: int
    reconnects: int
    refused: int
    given_up: int
    failed: int
    delay: tuple[float, float]
    left: int
    most_readers: int
    overloaded: int

    @property
    def is_over(self) -> bool:
        """Whether every reader is live again, and stays so."""
        return not self.left and not self.overloaded


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def weighted_quantile(pairs: Sequence[tuple[float, int]], share: float) -> float:
    """Of values with weights."""
    ordered = sorted(pairs)
    rest = share * sum(weight for _, weight in ordered)
    for value, weight in ordered:
        rest -= weight
        if rest <= 0:
            return value
    return ordered[-1][0] if ordered else 0.0


def outcome(storm: Storm) -> Outcome:
    counts = storm.counts
    gaps = sorted(counts.gaps)
    left = len(storm.lost_at)
    return Outcome(
        storm.shape.readers, len(gaps) + left, (quantile(gaps, 0.5), quantile(gaps, 0.99), gaps[-1] if gaps else 0.0),
        counts.attempts, max(counts.attempts_by_second.values(), default=0), counts.refused, counts.given_up,
        counts.failed, (weighted_quantile(counts.delays, 0.99), max(counts.delays, default=(0.0, 0))[0]), left,
        counts.most_readers, sum(node.core.live >= 1 for node in storm.nodes if not node.is_dead),
    )  # fmt: skip


def frontends_die(shape: StormShape, dead: int, *, watched_s: float = WATCHED_S, seed: int = 1) -> Outcome:
    """So many frontends die at the same moment."""
    storm = Storm(shape, seed, watched_s)
    for node in storm.nodes[:dead]:
        storm.simulation.at(FAULT_S, storm.kill, node)
    storm.simulation.run(watched_s)
    return outcome(storm)


def primary_fails_over(shape: StormShape, away_s: float, *, watched_s: float = WATCHED_S, seed: int = 1) -> Outcome:
    """One primary is away for so long; then the readers of its logs resubscribe."""
    storm = Storm(shape, seed, watched_s)
    storm.simulation.at(FAULT_S, storm.lose_primary, storm.primaries[0], away_s)
    storm.simulation.run(watched_s)
    return outcome(storm)


def all_return(shape: StormShape, *, watched_s: float = WATCHED_S, seed: int = 1) -> Outcome:
    """All connections break at once, as when a balancer restarts; every frontend lives."""
    storm = Storm(shape, seed, watched_s)
    storm.simulation.at(FAULT_S, storm.cut_all)
    storm.simulation.run(watched_s)
    return outcome(storm)


class Deploy(NamedTuple):
    """A rollout: its outcome, how long it took, and how often a reader was sent elsewhere."""

    outcome: Outcome
    took_s: float
    moves: float


def deploy(
    shape: StormShape, surge: int, drain_s: float, *, ready_s: float = READY_S, seed: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Deploy:  # fmt: skip
    """Kubernetes' rolling update with `maxSurge: surge` and `maxUnavailable: 0`: so many frontends start; as soon as
    they are ready the same number of old ones stops and the next ones start. A frontend that drains is not waited for.
    """
    waves = math.ceil(shape.frontends / surge)
    took_s = waves * ready_s + drain_s
    storm = Storm(shape, seed, took_s + policy("backoff_most_s"))
    old = list(storm.nodes)

    def wave(number: int) -> None:
        stopping = old[number * surge : (number + 1) * surge]
        for _ in stopping:
            storm.start()
        for node in stopping:
            storm.stop(node, drain_s)
        on_progress((number + 1) / waves)

    for number in range(waves):
        storm.simulation.at((number + 1) * ready_s, wave, number)
    storm.simulation.run(took_s + policy("backoff_most_s"))
    return Deploy(outcome(storm), took_s, len(storm.counts.gaps) / shape.readers)


class WorkerDeath(NamedTuple):
    """Seconds from a worker's death to the next event of its generations, if its `generations` find free places."""

    generations: int
    free: int
    p50: float
    p99: float
    longest: float
    waiting: int


def worker_dies(
    generations: int, free: int, *, lease_s: float = policy("lease_s"), sweepers: int = 4, seed: int = 1,
    ends_each_s: float = 0.0,
) -> WorkerDeath:  # fmt: skip
    """Its leases were renewed together, up to a third of a lease ago. Each process sweeps in its own rhythm; the first
    sweep after the leases' end queues the generations again, and free places of other workers take them. Where there
    are fewer, the rest wait until others end (`ends_each_s` a second).
    """
    simulation = Simulation(seed)
    random = simulation.random
    resumed: list[float] = []
    period_s = lease_s / 4

    def sweep_of(moment: float) -> float:
        """The first sweep after a moment, of any process."""
        firsts = []
        for _ in range(sweepers):
            at = random.uniform(0, period_s)
            while at < moment:
                at += period_s * random.uniform(0.75, 1.25)
            firsts.append(at)
        return min(firsts)

    def die() -> None:
        renewed_ago = random.uniform(0, lease_s / 3)
        expiry = lease_s - renewed_ago
        swept = simulation.now + sweep_of(expiry)
        for number in range(generations):
            queued = swept + (number + 1) * seconds("requeue")
            late = max(0.0, (number + 1 - free) / ends_each_s) if number >= free and ends_each_s else 0.0
            if number < free or ends_each_s:
                simulation.at(queued + late + CONSTANTS["pick_up"].value / 1000, resume, simulation.now)

    def resume(died_at: float) -> None:
        resumed.append(simulation.now - died_at)

    for trial in range(TRIALS):
        simulation.at(trial * APART_S, die)
    simulation.run(TRIALS * APART_S)
    gaps = sorted(resumed)
    waiting = 0 if ends_each_s else max(0, generations - free)
    return WorkerDeath(generations, free, quantile(gaps, 0.5), quantile(gaps, 0.99), gaps[-1] if gaps else 0.0, waiting)
