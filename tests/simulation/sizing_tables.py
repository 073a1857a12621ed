"""The tables of docs/capacity.md on steady loads: how many processes, and what ends first."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from simulation.constants import CONSTANTS, path_costs, policy
from simulation.live_path import LivePath
from simulation.markdown import gigabytes, markdown, percent
from simulation.path_load import PathResult, PathShape
from simulation.sizing import FleetLoad, FleetShape, connections, memory_redis, rounds, smallest, use

SHORT_RETENTION_S = 600.0
LONG_RETENTION_S = 3600.0
LIVE = (100, 300, 1000, 3000, 10_000, 30_000)
RATES = (500, 1000, 2000, 4000, 8000, 12_000, 16_000, 20_000)
PRIMARIES = (1, 2, 3, 4, 6, 8, 12, 16, 24)


def sizing() -> list[str]:
    """Live answers with a reader each, on one Redis, in a cluster, and in cells."""
    rows = []
    for answers in LIVE:
        load = FleetLoad(answers)
        cluster = smallest(load)
        cells, cell = in_cells(load)
        rows.append((
            f"{answers:,}", f"{load.tokens:,.0f}",
            f"{cluster.frontends} / {cluster.workers} / {cluster.primaries}",
            f"{cells * cell.frontends} / {cells * cell.workers} / {cells}",
            f"{connections(cluster):,}",
            f"{CONSTANTS['reader_bytes'].value * answers / 1e6:,.0f} MB",
            f"{gigabytes(memory_redis(load, SHORT_RETENTION_S))} / {gigabytes(memory_redis(load, LONG_RETENTION_S))}",
        ))  # fmt: skip
    titles = (
        "live answers", "tokens/s", "one cluster: frontends / workers / primaries", "cells of one primary each",
        "connections of a primary of the cluster", "readers' memory, all frontends", "Redis, 10 min / 1 h",
    )  # fmt: skip
    return markdown(titles, rows)


@lru_cache(maxsize=256)
def in_cells(load: FleetLoad, used: float = policy("used")) -> tuple[int, FleetShape]:
    """The least number of cells, each with one primary and processes of its own, and what one of them needs."""
    cells = 1
    while True:
        cell = smallest(load._replace(readers=load.readers / cells, unread=load.unread / cells), used)
        if cell.primaries == 1:
            return cells, cell
        cells += max(1, cells // 8)


MIXES: Mapping[str, FleetLoad] = {
    "100,000 readers, one in twenty live": FleetLoad(100_000, 0.05),
    "1,000,000 readers, one in twenty live": FleetLoad(1_000_000, 0.05),
    "1,000,000 readers, one in a hundred live": FleetLoad(1_000_000, 0.01),
    "100,000 readers, ten to a live answer": FleetLoad(100_000, 1.0, readers_a_log=10),
    "1,000,000 readers of one answer": FleetLoad(1_000_000, 1.0, readers_a_log=1_000_000),
    "1,000 answers without a reader": FleetLoad(0, 1.0, unread=1000),
}


def mixes() -> list[str]:
    """Other loads, in cells: what they need, and what each process of a cell uses."""
    rows = []
    for name, load in MIXES.items():
        cells, cell = in_cells(load)
        share = load._replace(readers=load.readers / cells, unread=load.unread / cells)
        used = use(share, cell)
        rows.append((
            name, f"{load.tokens:,.0f}", f"{cells} × {cell.frontends} / {cell.workers} / 1", percent(used.redis_cpu),
            percent(used.frontend_cpu), percent(used.frontend_readers), percent(used.worker_cpu),
        ))  # fmt: skip
    titles = (
        "load", "tokens/s", "cells × frontends / workers / primaries", "Redis' core", "a frontend's core",
        "of `MAX_READERS`", "a worker's core",
    )  # fmt: skip
    return markdown(titles, rows)


# ── what ends first ──────────────────────────────────────────────────────────────────────────────────────────────────

FLEETS: Sequence[tuple[FleetShape, FleetLoad, str]] = (
    (FleetShape(1, 1, 1), FleetLoad(1), "1 / 1 / 1"),
    (FleetShape(1, 2, 1), FleetLoad(1), "1 / 2 / 1"),
    (FleetShape(2, 3, 1), FleetLoad(1), "2 / 3 / 1"),
    (FleetShape(4, 6, 1), FleetLoad(1), "4 / 6 / 1"),
    (FleetShape(8, 8, 4), FleetLoad(1), "8 / 8 / 4"),
    (FleetShape(8, 8, 12), FleetLoad(1), "8 / 8 / 12"),
    (FleetShape(4, 1, 1), FleetLoad(1, 0.02), "4 / 1 / 1, one reader in fifty live"),
    (FleetShape(20, 1, 1), FleetLoad(1, 1.0, readers_a_log=100), "20 / 1 / 1, a hundred readers to an answer"),
)
NAMES = {
    "redis_cpu": "Redis' core", "frontend_cpu": "a frontend's core", "frontend_readers": "`MAX_READERS`",
    "worker_cpu": "a worker's core", "worker_jobs": "`MAX_JOBS` (100)", "redis_connections": "`maxclients`",
}  # fmt: skip


def first() -> list[str]:
    """Fleets, and the readers at which the first resource reaches 70 % and 100 %."""
    rows = []
    for fleet, load, name in FLEETS:
        readers, resource = limit(load, fleet, policy("used"))
        most, at_last = limit(load, fleet, 1.0)
        used = use(load._replace(readers=readers), fleet)
        rows.append((
            name, f"{readers:,}", NAMES[resource], f"{most:,}", NAMES[at_last], percent(used.redis_cpu),
            percent(used.redis_notify), percent(used.frontend_cpu), percent(used.worker_cpu),
        ))  # fmt: skip
    titles = (
        "frontends / workers / primaries", "readers at 70 %", "of", "readers at 100 %", "of", "at 70 %: Redis",
        "its messages to frontends", "a frontend", "a worker",
    )  # fmt: skip
    return markdown(titles, rows)


def limit(load: FleetLoad, fleet: FleetShape, used: float) -> tuple[int, str]:
    """The most readers up to which no resource is used for more than that share, and the resource that then is.

    A scan in steps of 2 %, because use does not only grow: where workers fill their rounds, Redis has fewer of them.
    `MAX_JOBS` is not among the resources: it can be set as high as the workers' CPU allows.
    """
    readers = 10.0
    while True:
        now = capped(load._replace(readers=readers), fleet)
        over = max(now, key=lambda name: now[name])
        if now[over] > used:
            return int(readers), over
        readers *= 1.02


def capped(load: FleetLoad, fleet: FleetShape) -> dict[str, float]:
    """The resources that cannot be raised by a setting; more is worse."""
    now = use(load, fleet)._asdict()
    return {name: value for name, value in now.items() if name not in ("redis_notify", "worker_jobs")}


def primaries() -> list[str]:
    """3,000 live answers on more and more primaries, with the same frontends and workers."""
    load = FleetLoad(3000)
    rows = []
    for count in PRIMARIES:
        fleet = FleetShape(8, 8, count)
        now = use(load, fleet)
        each = rounds(load, fleet)
        rows.append((
            str(count), percent(now.redis_cpu), percent(now.redis_notify), percent(now.frontend_cpu),
            percent(now.worker_cpu), f"{each.appends / each.a_second:.1f}",
            f"{connections(fleet)}", f"{2 * count * (fleet.frontends + fleet.workers):,}",
        ))  # fmt: skip
    titles = (
        "primaries", "a primary's core", "its messages to frontends", "a frontend's core", "a worker's core",
        "appends a round and primary", "connections of a primary", "in all",
    )  # fmt: skip
    return markdown(titles, rows)


def lags() -> list[str]:
    """The live path event by event, each process on a core of its own: lag against load."""
    rows = []
    for rate in RATES:
        found = lag_at(rate)
        rows.append((
            f"{rate:,}", percent(found.cpu_s["frontend"] / found.seconds),
            percent(found.cpu_s["redis"] / found.seconds),
            f"{found.lag_ms(0.5):.1f} ms", f"{found.lag_ms(0.99):.1f} ms", f"{found.us('frontend'):.0f} µs",
            f"{found.us('redis'):.0f} µs",
        ))  # fmt: skip
    titles = ("tokens/s", "frontend's core", "Redis' core", "lag p50", "p99", "frontend, an event", "Redis, a token")
    return markdown(titles, rows)


def lag_at(rate: int) -> PathResult:
    return LivePath(PathShape(1, 400, rate / 400), path_costs(), None).run(0.5, 2.0)
