"""Fault injection: no token is lost, doubled or mixed, every accepted generation ends once, and no client hangs.

    scripts/chaos [--scenario NAME …] [--size short|full] [--redis server|cluster] [--seed N] [--runs N]
    scripts/chaos [--scenario NAME …] [--mutants] [--list]
    scripts/chaos --alerts [--fault NAME …]

Each scenario runs the product as processes, injects faults, and reads over HTTP with an independent `checker`. A failed
run is not repeated: it prints its seed and a transcript, and the exit status is 1. With `--runs` a scenario is played
several times, with the seeds that follow, and its figures are ranges over these runs. The column `load` is the
machine's load average of one minute at the end of a run; on a busy machine the seconds are not the product's.
"""

import argparse
import asyncio
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from support.server_binary import use_named_binary
from system.alert_faults import FAULTS
from system.alerts import main as play_alerts
from system.chaos_stack import Topology
from system.load import Report, Run
from system.mutants import MUTANTS, sources_without
from system.results import Play, Row, quantile, table
from system.scenarios import SCENARIOS, Size

ABORTED = "aborted"
NO_EVIDENCE = {ABORTED, "no effect"}
"""Kinds of violations by a play that did not reach its end, or did not inject its fault."""


def discard_report(_: str) -> None:
    """For a run without a progress bar."""


def progress_bar() -> Progress:
    """On stderr, where that is a terminal: the scenario's number and its progress."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _show(bar: Progress, task: TaskID, name: str, what: str) -> None:
    bar.update(task, description=f"{name}: {what}")


async def play(
    name: str, size: Size, seed: int, sources: Sequence[Path] = (), report: Report = discard_report,
    topology: Topology = "server",
) -> Play:  # fmt: skip
    """One run of one scenario, on this topology where it can be; an assertion that fails in it is a violation."""
    scenario = SCENARIOS[name]
    topology = scenario.topology(topology) or scenario.topologies[0]
    run = Run(name, seed, getattr(scenario, size), list(sources), report, topology)
    began = time.monotonic()
    try:
        await scenario.play(run)
    except* (AssertionError, TimeoutError, OSError) as errors:
        for error in errors.exceptions:
            run.wrong(ABORTED, name, repr(error))
    if scenario.bound_s and run.samples:
        bound = scenario.bound_s * (2 if size == "short" else 1)
        p99 = quantile(run.samples, 0.99)
        run.check(p99 <= bound, "late", f"{scenario.measures}: p99 {p99:.2f} s, the bound is {bound:g} s")
    return Play(run, time.monotonic() - began, os.getloadavg()[0])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), metavar="NAME", help="may be repeated")
    parser.add_argument("--size", choices=("short", "full"), default="full")
    parser.add_argument(
        "--redis", choices=get_args(Topology), default="server",
        help="where the log is; a scenario about a cluster has one in any case",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument(
        "--runs", type=int, default=1, metavar="N", help="runs of each scenario, with seeds that follow"
    )
    parser.add_argument(
        "--mutants", action="store_true", help="remove the guards, one at a time: their scenarios must fail"
    )
    parser.add_argument("--alerts", action="store_true", help="inject faults: each must fire the alert that is meant")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), metavar="NAME", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    return parser


async def main() -> int:
    options = parser().parse_args()
    if options.list:
        print(
            "\n".join(
                f"{name:20} {(scenario.play.__doc__ or '').splitlines()[0]}" for name, scenario in SCENARIOS.items()
            )
        )
        return 0
    if options.alerts:
        return await play_alerts(options.fault or ())
    allow_many_sockets()
    use_named_binary()
    print(f"seed {options.seed}", flush=True)
    asked = options.scenario or list(SCENARIOS)
    names = [name for name in asked if SCENARIOS[name].topology(options.redis)]
    for name in asked:
        if name not in names:
            print(f"{name}: not played, its log is on one server")
    if options.mutants:
        return await remove_guards(names, options.seed)
    with progress_bar() as bar:
        task = bar.add_task("", total=len(names) * options.runs)
        rows = [
            Row(name, [await _play(bar, task, name, options, turn) for turn in range(options.runs)]) for name in names
        ]
    print(f"\nsize {options.size}, the log on a {options.redis}, seed {options.seed}, {os.cpu_count()} cores")
    print(table(rows))
    return int(any(row.violations for row in rows))


async def _play(bar: Progress, task: TaskID, name: str, options: argparse.Namespace, turn: int) -> Play:
    seed = options.seed + turn
    report = partial(_show, bar, task, name)
    report("starts")
    one = await play(name, options.size, seed, report=report, topology=options.redis)
    bar.advance(task)
    print(f"{name}: {one.run.runs} {SCENARIOS[name].unit}, {len(one.run.violations)} violations, {one.took_s:.0f} s")
    if one.run.violations:
        print(f"  seed {seed}\n{one.run.excerpt()}")
    sys.stdout.flush()
    return one


async def remove_guards(names: Sequence[str], seed: int) -> int:
    """Play each mutant of these scenarios, up to three times; the exit status is 1 if one survives.

    A play that only aborted is no kill: a port that is taken, for example, aborts it with or without the guard.
    """
    mutants = {name: mutant for name, mutant in MUTANTS.items() if mutant.scenario in names}
    survivors = 0
    print(f"{'guard':40} {'scenario':20} {'verdict':9} violations")
    for name, mutant in mutants.items():
        with sources_without(mutant) as sources:
            for turn in range(3):
                one = await play(mutant.scenario, "short", seed + turn, sources)
                kinds = Counter(each.kind for each in one.run.violations)
                if is_killed := bool(kinds.keys() - NO_EVIDENCE):
                    break
        survivors += not is_killed
        found = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(5))
        verdict = f"killed {turn + 1}" if is_killed else "SURVIVED"
        print(f"{name:40} {mutant.scenario:20} {verdict:9} {found}", flush=True)
    print(f"{len(mutants)} mutants, {survivors} survived")
    return min(survivors, 1)


def allow_many_sockets() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
