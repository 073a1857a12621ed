"""Whatever dies: no token is lost, told twice or mixed, every accepted generation ends once, nobody is left waiting.

    scripts/chaos [--scenario NAME …] [--size short|full] [--seed N] [--mutants] [--list]

Each scenario runs the product as processes, breaks something, and has an independent checker (`checker`) read over
HTTP. A failed run is not tried again: it prints its seed and a transcript, and the exit status is 1.
"""

import argparse
import asyncio
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from system import frontend_faults, limits, network_faults, redis_faults, worker_faults
from system.fleet import LEASE_S
from system.load import Run, Tell
from system.mutants import MUTANTS, sources_without

Size = Literal["short", "full"]


class Scenario(NamedTuple):
    """A row of the table. `unit`: what is counted as a run; `measures`: what the seconds are; `bound_s`: of their p99.

    In a short run, on a machine that does other things too, the bound is twice as wide.
    """

    play: Callable[[Run], Awaitable[None]]
    unit: str
    measures: str
    bound_s: float | None
    short: Mapping[str, int]
    full: Mapping[str, int]


SCENARIOS: dict[str, Scenario] = {
    "worker-kills": Scenario(
        worker_faults.worker_kills, "SIGKILLs", "kill to next event", LEASE_S + 1,
        {"workers": 2, "kills": 2, "generations": 16, "at once": 12},
        {"workers": 4, "kills": 100, "generations": 1000, "at once": 30},
    ),
    "zombies": Scenario(
        worker_faults.zombies, "zombies", "SIGSTOP to next event", LEASE_S + 1,
        {"rounds": 1, "zombies": 10}, {"rounds": 4, "zombies": 50},
    ),
    "poison": Scenario(
        worker_faults.poison, "poisonous prompts", "kill to next event", None,
        {"poisons": 1, "neighbours": 2}, {"poisons": 10, "neighbours": 10},
    ),
    "same-job": Scenario(
        worker_faults.same_job, "dispatches", "", None,
        {"generations": 2, "deliveries": 20}, {"generations": 20, "deliveries": 20},
    ),
    "rolling": Scenario(
        worker_faults.rolling, "SIGTERMs", "SIGTERM to exit", None,
        {"workers": 2, "frontends": 2, "rounds": 1, "generations": 16, "at once": 8},
        {"workers": 4, "frontends": 3, "rounds": 5, "generations": 300, "at once": 30},
    ),
    "frontend-kills": Scenario(
        frontend_faults.frontend_kills, "SIGKILLs", "cut to next event elsewhere", None,
        {"kills": 3, "readers": 24, "generations": 8}, {"kills": 50, "readers": 200, "generations": 40},
    ),
    "slow-readers": Scenario(
        frontend_faults.slow_readers, "slow readers", "", None,
        {"generations": 1, "tokens": 1500}, {"generations": 5, "tokens": 2000},
    ),
    "redis-kills": Scenario(
        redis_faults.redis_kills, "SIGKILLs", "kill to next event", None,
        {"kills": 3, "rollbacks": 2, "generations": 16, "at once": 12},
        {"kills": 50, "rollbacks": 20, "generations": 300, "at once": 40},
    ),
    "rolled-back-end": Scenario(
        redis_faults.rolled_back_end, "rolled back ends", "", None,
        {"rounds": 1, "generations": 20}, {"rounds": 10, "generations": 40},
    ),
    "rolled-back-orphans": Scenario(
        redis_faults.rolled_back_orphans, "orphans", "kill to next event", None,
        {"rounds": 1, "generations": 8}, {"rounds": 10, "generations": 20},
    ),
    "redis-empty": Scenario(
        redis_faults.redis_empty, "empty servers", "restart to gone", LEASE_S + 2,
        {"rounds": 2, "generations": 8}, {"rounds": 10, "generations": 20},
    ),
    "redis-away": Scenario(
        redis_faults.redis_away, "readers", "kill to retry", LEASE_S + 2,
        {"generations": 8, "away_s": 5}, {"generations": 100, "away_s": 60},
    ),
    "out-of-memory": Scenario(
        redis_faults.out_of_memory, "full servers", "full to done", None,
        {"rounds": 1, "generations": 12}, {"rounds": 10, "generations": 40},
    ),
    "nuisance": Scenario(
        network_faults.nuisance, "nuisances", "nuisance to next event", None,
        {"seconds": 4, "at once": 10}, {"seconds": 120, "at once": 40},
    ),
    "reply-cut": Scenario(
        network_faults.reply_cut, "appended rows", "", None,
        {"rows": 500, "at once": 8}, {"rows": 100_000, "at once": 100},
    ),
    "cancel-races": Scenario(
        limits.cancel_races, "races", "cancel to answer", None,
        {"races": 150, "at once": 20}, {"races": 10_000, "at once": 40},
    ),
    "cursor-fuzz": Scenario(
        limits.cursor_fuzz, "cursors", "", None,
        {"cursors": 400, "at once": 60}, {"cursors": 10_000, "at once": 100},
    ),
}  # fmt: skip


class Row(NamedTuple):
    """A line of the summary."""

    name: str
    run: Run
    took_s: float


def silently(_: str) -> None:
    """Nobody watches."""


def progress_bar() -> Progress:
    """On stderr, where that is a terminal: which scenario of how many, and how far it is."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _show(bar: Progress, task: TaskID, name: str, what: str) -> None:
    bar.update(task, description=f"{name}: {what}")


async def play(name: str, size: Size, seed: int, sources: Sequence[Path] = (), tell: Tell = silently) -> Row:
    """One run of one scenario; what goes wrong in it is a violation."""
    scenario = SCENARIOS[name]
    run = Run(name, seed, getattr(scenario, size), list(sources), tell)
    began = time.monotonic()
    try:
        await scenario.play(run)
    except* (AssertionError, TimeoutError, OSError) as errors:
        for error in errors.exceptions:
            run.wrong("broke off", name, repr(error))
    if scenario.bound_s and run.samples:
        bound = scenario.bound_s * (2 if size == "short" else 1)
        p99 = quantile(run.samples, 0.99)
        run.check(p99 <= bound, "late", f"{scenario.measures}: p99 {p99:.2f} s, the bound is {bound:g} s")
    return Row(name, run, time.monotonic() - began)


def quantile(samples: Sequence[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def table(rows: Sequence[Row]) -> str:
    names = f"{'scenario':20} {'runs':>7} {'violations':>10} {'p50':>7} {'p99':>7} {'max':>7}"
    head = f"{names}  {'took':>6}  counted; measured"
    lines = [head, "-" * len(head)]
    for name, run, took in rows:
        scenario, samples = SCENARIOS[name], run.samples
        times = [quantile(samples, share) for share in (0.5, 0.99, 1)] if samples else []
        told = " ".join(f"{each:7.2f}" for each in times) or f"{'':23}"
        what = f"{scenario.unit}; {scenario.measures} (s)" if samples else scenario.unit
        lines.append(f"{name:20} {run.runs:7} {len(run.violations):10} {told}  {took:5.0f}s  {what}")
        lines += [f"{'':20} {note}" for note in run.notes]
    return "\n".join(lines)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), metavar="NAME", help="may be repeated")
    parser.add_argument("--size", choices=("short", "full"), default="full")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--mutants", action="store_true", help="remove each guard in turn: a scenario must notice")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:20} {scenario.play.__doc__}" for name, scenario in SCENARIOS.items()))
        return 0
    allow_many_sockets()
    print(f"seed {options.seed}", flush=True)
    if options.mutants:
        return await hunt(options.seed)
    rows, names = [], options.scenario or list(SCENARIOS)
    with progress_bar() as bar:
        task = bar.add_task("", total=len(names))
        for name in names:
            tell = partial(_show, bar, task, name)
            tell("begins")
            rows.append(row := await play(name, options.size, options.seed, tell=tell))
            bar.advance(task)
            print(f"{name}: {row.run.runs} runs, {len(row.run.violations)} violations, {row.took_s:.0f} s", flush=True)
            if row.run.violations:
                print(f"  seed {options.seed}\n{row.run.excerpt()}", flush=True)
    print(f"\nsize {options.size}, seed {options.seed}\n{table(rows)}")
    return int(any(row.run.violations for row in rows))


async def hunt(seed: int) -> int:
    """Play each mutant's scenario without its guard, up to three times; the exit status is 1 if one survives."""
    survivors = 0
    print(f"{'guard':30} {'scenario':20} {'verdict':9} how it was noticed")
    for name, mutant in MUTANTS.items():
        with sources_without(mutant) as sources:
            for each in range(3):
                row = await play(mutant.scenario, "short", seed + each, sources)
                if row.run.violations:
                    break
        kinds = Counter(each.kind for each in row.run.violations)
        survivors += not kinds
        how = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(5))
        print(f"{name:30} {mutant.scenario:20} {'killed' if kinds else 'SURVIVED':9} {how}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survived")
    return min(survivors, 1)


def allow_many_sockets() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
