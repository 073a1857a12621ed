"""The cost of Tailrace, beside the naive pattern and peers, in one run.

    scripts/bench [--workload NAME …] [--runs N] [--seconds N] [--quick] [--json FILE] [--check] [--list]
    scripts/bench-peers, with the same options

Every figure comes from fresh processes on this machine, over loopback. CPU is read from /proc, so other processes
change it little; they do change latencies. A run is one trial of each side, one after the other; a measure is the
median of all runs.
"""

import argparse
import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from bench import report, results
from bench.measures import TITLES, Finding
from bench.workloads.beside_peers import fan_out_beside_peers, missing, scattered_beside_peers
from bench.workloads.busy import busy
from bench.workloads.create import create
from bench.workloads.dialects import dialects
from bench.workloads.fair import fair
from bench.workloads.fan_out import fan_out
from bench.workloads.first_text import first_text
from bench.workloads.first_text_openai import first_text_openai
from bench.workloads.ingest import ingest
from bench.workloads.long_log import long_log
from bench.workloads.readers import readers
from bench.workloads.redis_memory import redis_memory
from bench.workloads.replay import replay
from bench.workloads.scattered import scattered
from bench.workloads.stalled import stalled
from bench.workloads.storm import storm
from bench.workloads.traces import traces
from bench.workloads.whole_answers import whole_answers
from bench.workloads.wires import wires

Workload = Callable[[float], Awaitable[Sequence[Finding]]]

WORKLOADS: Mapping[str, Workload] = {
    "scattered": scattered,
    "busy": busy,
    "fan-out": fan_out,
    "readers": readers,
    "replay": replay,
    "ingest": ingest,
    "dialects": dialects,
    "stalled": stalled,
    "storm": storm,
    "create": create,
    "long-log": long_log,
    "first-text": first_text,
    "first-text-openai": first_text_openai,
    "wires": wires,
    "whole-answers": whole_answers,
    "fair": fair,
    "traces": traces,
    "redis": redis_memory,
}
PEERS: Mapping[str, Workload] = {
    "scattered-peers": scattered_beside_peers,
    "fan-out-peers": fan_out_beside_peers,
}
ALL: Mapping[str, Workload] = {**WORKLOADS, **PEERS}

QUICK_S = 4.0


async def measure(names: Sequence[str], runs: int, seconds: float, console: Console) -> tuple[list[Finding], list[str]]:
    """Every workload, run after run, so that a busy minute of the machine does not spoil all runs of one workload.

    Returns the findings, and a line for each run that failed; the other runs go on.
    """
    findings: list[Finding] = []
    failed: list[str] = []
    with report.progress(console) as progress:
        task = progress.add_task("", total=runs * len(names))
        for run in range(1, runs + 1):
            for name in names:
                progress.update(task, description=f"run {run}: {TITLES[name]}")
                try:
                    findings += await ALL[name](seconds)
                except* (AssertionError, TimeoutError, OSError) as errors:
                    failed.append(f"{name}, run {run}: {errors.exceptions[0]!r}")
                progress.advance(task)
    return findings, failed


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", nargs="+", choices=list(ALL), metavar="NAME")
    parser.add_argument("--runs", type=int, help="of each workload (default: 3)")
    parser.add_argument("--seconds", type=float, help="of each window that is measured (default: 10)")
    parser.add_argument("--quick", action="store_true", help=f"one run, windows of {QUICK_S:g} s: a smoke test")
    parser.add_argument("--json", type=Path, default=Path(".bench/results.json"), help="results (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit 1 if a measure is worse than the committed one")
    parser.add_argument("--peers", action="store_true", help="the workloads of scripts/bench-peers")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    return parser.parse_args()


def main() -> int:
    options, console = parse(), report.console()
    if options.list:
        console.print(*(f"{name:16} {TITLES[name]}" for name in ALL), sep="\n")
        return 0
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    names = options.workload or list(PEERS if options.peers else WORKLOADS)
    runs = options.runs or (1 if options.quick else 3)
    seconds = options.seconds or (QUICK_S if options.quick else 10.0)
    for why in missing() if PEERS.keys() & set(names) else ():
        console.print(why, style="yellow")
    committed = results.load(results.COMMITTED)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings, failed = runner.run(measure(names, runs, seconds, console))
    measured = results.summed_up(findings, seconds)
    results.save(options.json, measured)
    console.print(report.table(measured, names if options.workload or options.peers else ALL), report.plot(measured))
    console.print(f"{results.machine()}. {runs} × {seconds:g} s. Written to {options.json}.")
    for why in failed:
        console.print(f"failed: {why}", style="bold red", markup=False)
    is_worse = compare(measured, committed, console)
    return int(bool(failed) or (is_worse and options.check))


def compare(measured: Mapping[str, results.Result], committed: results.Results | None, console: Console) -> bool:
    """Print each measure that is worse than the committed one; whether there is any."""
    worse = results.worse(measured, committed.measures) if committed else []
    for name in worse:
        assert committed is not None
        before, now = committed.measures[name].value, measured[name].value
        assert before is not None
        assert now is not None
        change = f"{name}: {report.figure(now.median)}, was {report.figure(before.median)} in {results.COMMITTED.name}"
        console.print(f"worse by more than {results.WORSE:.0%}: {change}", style="bold red")
    return bool(worse)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
