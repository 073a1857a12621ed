"""What a steady load takes of each process, and how many processes of each kind it needs.

The costs are those of the live path (`simulation.live_path`): what a token costs falls as more of them share a read, a
pipeline or a turn of Redis' loop, so a resource's use is solved for, and is not proportional to the load.

Aggregated: logs and readers are counts. Tokens of many independent logs arrive as a Poisson stream, spread evenly over
primaries and frontends by the hash of an id and by a balancer; a count of 500 or more a second differs from its mean by
less than 5 % in a second, and cores are planned to be used to 70 %.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from simulation.constants import CONSTANTS, appends_s, cold_s, policy, seconds, worker_appends_s

REPETITIONS = 40
LONGEST_TURN_S = 0.1
"""A turn of a Redis that is saturated; longer ones are not looked for."""


class FleetLoad(NamedTuple):
    """`readers` clients; `live`: the share of them whose log grows, at `rate` tokens a second; `readers_a_log` read the
    same log. `unread`: logs that grow without a reader."""

    readers: float
    live: float = 1.0
    rate: float = policy("upstream_rate")
    readers_a_log: float = 1.0
    unread: float = 0.0

    @property
    def live_logs(self) -> float:
        return self.readers * self.live / self.readers_a_log + self.unread

    @property
    def silent_logs(self) -> float:
        return self.readers * (1 - self.live) / self.readers_a_log

    @property
    def tokens(self) -> float:
        """Tokens a second, of all logs."""
        return self.live_logs * self.rate

    @property
    def deliveries(self) -> float:
        """Events a second to all readers."""
        return self.readers * self.live * self.rate


class FleetShape(NamedTuple):
    """How many processes of each kind. `interval_s`: between reads of one subscription."""

    frontends: int
    workers: int
    primaries: int


class Use(NamedTuple):
    """Shares of what one process of a kind has; 1 is all of it."""

    redis_cpu: float
    redis_notify: float
    frontend_cpu: float
    frontend_readers: float
    worker_cpu: float
    worker_jobs: float
    redis_connections: float


def use(load: FleetLoad, fleet: FleetShape) -> Use:
    """The use of each resource in the steady state."""
    redis_cpu, redis_notify = redis(load, fleet)
    return Use(
        redis_cpu=redis_cpu,
        redis_notify=redis_notify,
        frontend_cpu=frontend_cpu(load, fleet),
        frontend_readers=load.readers / fleet.frontends / policy("max_readers"),
        worker_cpu=worker_cpu(load, fleet),
        worker_jobs=load.live_logs / fleet.workers / policy("max_jobs"),
        redis_connections=connections(fleet) / policy("max_clients"),
    )


def connections(fleet: FleetShape) -> int:
    """Of one primary: each process has a pipeline and a subscriber there."""
    return 2 * (fleet.frontends + fleet.workers)


def places(load: FleetLoad, frontends: int) -> float:
    """The frontends at which a log has at least one of its readers, on average."""
    return frontends * (1 - math.pow(1 - 1 / frontends, load.readers_a_log))


def frontend_cpu(load: FleetLoad, fleet: FleetShape) -> float:
    """Of one frontend's core. It reads each primary's subscription at most once in the throttle's interval; a read that
    would be empty does not happen."""
    appends = fleet.workers * fleet.primaries * rounds(load, fleet).appends
    read = appends * (1 - load.unread / load.live_logs) if load.live_logs else 0.0
    messages = read * places(load, fleet.frontends) / fleet.frontends
    reads = _distinct(fleet.primaries, messages * policy("read_interval_s")) / policy("read_interval_s")
    silent = load.readers * (1 - load.live) / fleet.frontends / policy("keepalive_s")
    busy = variable = (
        CONSTANTS["frontend_idle"].value
        + reads * seconds("read")
        + messages * seconds("message")
        + read * load.readers_a_log / fleet.frontends * (seconds("frame") + seconds("write"))
        + silent * seconds("keepalive")
    )
    return _with_cold_turns(variable, reads, busy)


def _with_cold_turns(variable: float, turns: float, busy: float = 0.0) -> float:
    """The use of a core by so many turns a second that cost `variable` in all, and each more after a pause."""
    for _ in range(REPETITIONS):
        pause_s = max(0.0, 1 - busy) / turns if turns else 0.0
        busy = (busy + variable + turns * cold_s(pause_s)) / 2
    return busy


class Rounds(NamedTuple):
    """Of one worker to one primary, a second: pipelines, and appends. Tokens of one log in one pipeline merge."""

    a_second: float
    appends: float


@lru_cache(maxsize=4096)
def rounds(load: FleetLoad, fleet: FleetShape) -> Rounds:
    """A pipeline follows the one before after the throttle's interval, which grows with its appends."""
    ways = fleet.workers * fleet.primaries
    logs, tokens = load.live_logs / ways, load.tokens / ways
    if tokens <= 0:
        return Rounds(0.0, 0.0)
    least, most = policy("pipeline_interval_s"), policy("longest_interval_s")
    interval_s = least
    for _ in range(REPETITIONS):
        appends = logs * -math.expm1(-tokens / logs * interval_s)
        interval_s = (interval_s + min(max(least, appends * policy("interval_per_append_s")), most)) / 2
    a_second = -math.expm1(-tokens * interval_s) / interval_s
    return Rounds(a_second, min(tokens, appends / interval_s))


def worker_cpu(load: FleetLoad, fleet: FleetShape) -> float:
    """Of one worker's core. It has an appender for each primary."""
    each = rounds(load, fleet)
    if not each.a_second:
        return 0.0
    turns = fleet.primaries * each.a_second
    one_s = seconds("worker_round") + worker_appends_s(each.appends / each.a_second)
    return _with_cold_turns(load.tokens / fleet.workers * seconds("worker_token") + turns * one_s, turns)


def redis(load: FleetLoad, fleet: FleetShape) -> tuple[float, float]:
    """Of one primary's core: all of it, and what its messages to frontends take.

    Pipelines that arrive while Redis is busy share its next turn. A turn is followed by another at once with the
    probability that something has arrived meanwhile, so there are `arriving` × (1 - use) × exp(`arriving` × length of a
    turn) turns a second. Solved by repetition.
    """
    each = rounds(load, fleet)
    if not each.a_second:
        return _positions(load, fleet), 0.0
    arriving, appends = fleet.workers * each.a_second, fleet.workers * each.appends
    read = appends * (1 - load.unread / load.live_logs) * places(load, fleet.frontends)
    variable = read * seconds("publish") + arriving * seconds("pipeline") + _positions(load, fleet)
    turns, busy, notify = arriving, min(variable, 1.0), 0.0
    for _ in range(REPETITIONS):
        notify = turns * _distinct(fleet.frontends, read / turns) * seconds("notify")
        pause_s = max(0.0, 1 - busy) / turns
        busy = (busy + variable + notify + turns * (cold_s(pause_s) + appends_s(appends / turns))) / 2
        followed = arriving * max(0.0, 1 - busy) * math.exp(min(20.0, arriving * busy / turns))
        turns = max(turns / 2 + min(arriving, followed) / 2, min(arriving, 1 / LONGEST_TURN_S))
    return busy, notify


def _positions(load: FleetLoad, fleet: FleetShape) -> float:
    """The positions of silent logs, once in a keep-alive interval at each frontend where they are read."""
    reads = load.silent_logs * places(load, fleet.frontends) / policy("keepalive_s")
    return reads / fleet.primaries * seconds("position")


def _distinct(places: int, items: float) -> float:
    """How many of so many places get at least one of the items, which are thrown at random."""
    return places * -math.expm1(-items / places)


def memory_redis(load: FleetLoad, retention_s: float) -> float:
    """Bytes that all primaries store, in all."""
    tokens = policy("answer_tokens")
    answer = CONSTANTS["generation_bytes"].value + tokens * (
        CONSTANTS["token_bytes"].value + CONSTANTS["text_bytes"].value
    )
    ends = load.live_logs * load.rate / tokens
    return (load.live_logs + load.silent_logs + ends * retention_s) * answer


def smallest(load: FleetLoad, used: float = policy("used")) -> FleetShape:
    """The least processes of each kind with which no core is used for more than `used`, and no limit is exceeded.

    A worker may run as many generations as its CPU allows (`TAILRACE_MAX_JOBS` is set to that). The kinds depend on
    each other (each primary costs each frontend reads, each worker costs each primary pipelines), so they grow in turn
    until all of them suffice.
    """
    fleet = FleetShape(max(1, math.ceil(load.readers / policy("max_readers"))), 1, 1)
    for _ in range(100_000):
        grown = FleetShape(
            _grown(fleet.frontends, frontend_cpu(load, fleet) / used),
            _grown(fleet.workers, worker_cpu(load, fleet) / used),
            _grown(fleet.primaries, redis(load, fleet)[0] / used),
        )
        if grown == fleet:
            return fleet
        fleet = grown
    raise ArithmeticError("no fleet suffices: what a process costs the others grows faster than what it adds")


def _grown(count: int, over: float) -> int:
    """A step towards the count that suffices, small enough not to pass it."""
    return count if over <= 1 else count + max(1, int(count * min(over - 1, 1.0) / 4))
