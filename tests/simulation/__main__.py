"""Simulates a fleet of Tailrace with measured costs: how large it must be, and what faults and deploys do to it.

    scripts/simulate size --readers N …        processes that a load needs, and what each of them uses
    scripts/simulate death --frontends N …     frontends die
    scripts/simulate deploy --frontends N …    a rolling update
    scripts/simulate failover --primaries N …  a primary is away, then its readers resubscribe
    scripts/simulate worker --generations N …  a worker dies
    scripts/simulate write [--all]             tables and plots of docs/capacity.md; --all: also those that take minutes
    scripts/simulate validate [--save]         the model beside the product, at 1, 2 and 4 frontends on this machine
    scripts/simulate measure                   what connections cost the product on this machine
    scripts/simulate constants                 every measured number, with its source

The same --seed gives the same run. docs/capacity.md explains what the model leaves out.
"""

import argparse
import asyncio
import gc
import sys
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from simulation import calibration, fault_tables, page, tables, validation
from simulation.connecting import connection_costs
from simulation.constants import policy
from simulation.faults import deploy, frontends_die, primary_fails_over, worker_dies
from simulation.markdown import gigabytes, markdown, percent, seconds_text
from simulation.plots import PLOTS
from simulation.sizing import FleetLoad, memory_redis, smallest, use
from simulation.sizing_tables import in_cells
from simulation.storm import Balancing, Client, StormShape

MOST_READERS = 2_000_000
MOST_FRONTENDS = 5_000


def whole(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers within bounds; `1_000` and `1,000` are accepted."""

    def parse(text: str) -> int:
        try:
            value = int(text.replace(",", "").replace("_", ""))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value:,} is not within {least:,} and {most:,}")
        return value

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value:g} is not within {least:g} and {most:g}")
        return value

    return parse


def parser() -> argparse.ArgumentParser:
    whole_parser = argparse.ArgumentParser(
        prog="simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    size = commands.add_parser("size", help="processes that a load needs")
    size.add_argument("--readers", type=whole(1, MOST_READERS), required=True, help="clients that are connected")
    size.add_argument("--live", type=number(0.0001, 1), default=1.0, help="share whose log grows (default: 1)")
    size.add_argument(
        "--rate", type=number(0.01, 10_000), default=policy("upstream_rate"), help="tokens a second of an answer"
    )
    size.add_argument(
        "--readers-a-log", type=number(1, MOST_READERS), default=1.0, help="readers of one log (default: 1)"
    )
    size.add_argument(
        "--used", type=number(0.05, 0.95), default=policy("used"), help="of each core, at most (default: 0.7)"
    )

    for name, about in (
        ("death", "frontends die"), ("deploy", "a rolling update"), ("failover", "a primary is away"),
    ):  # fmt: skip
        storm = commands.add_parser(name, help=about)
        storm.add_argument("--frontends", type=whole(1, MOST_FRONTENDS), required=True)
        storm.add_argument("--readers", type=whole(1, MOST_READERS), required=True, help="in all")
        storm.add_argument(
            "--use", type=number(0, 0.99), required=True, help="of a frontend's core by live events, before"
        )
        storm.add_argument("--primaries", type=whole(1, 1000), default=1)
        storm.add_argument("--client", choices=[each.value for each in Client], default=Client.TAILRACE_JS.value)
        storm.add_argument("--balancing", choices=[each.value for each in Balancing], default=Balancing.IN_TURN.value)
        storm.add_argument("--seed", type=whole(0, 2**31), default=1)
    commands.choices["death"].add_argument(
        "--dead", type=whole(1, MOST_FRONTENDS), default=1, help="frontends that die"
    )
    commands.choices["deploy"].add_argument("--surge", type=whole(1, MOST_FRONTENDS), default=1, help="as `maxSurge`")
    commands.choices["deploy"].add_argument(
        "--drain", type=number(1, 600), default=policy("drain_s"), help="TAILRACE_DRAIN_S"
    )
    commands.choices["failover"].add_argument(
        "--away", type=number(0, 600), default=fault_tables.AWAY_S, help="seconds"
    )

    worker = commands.add_parser("worker", help="a worker dies")
    worker.add_argument("--generations", type=whole(1, 100_000), required=True, help="that it ran")
    worker.add_argument("--free", type=whole(0, 100_000), required=True, help="places of the other workers")
    worker.add_argument("--lease", type=number(0.5, 300), default=policy("lease_s"), help="TAILRACE_LEASE_S")
    worker.add_argument("--seed", type=whole(0, 2**31), default=1)

    write = commands.add_parser("write", help="docs/capacity.md")
    write.add_argument("--all", action="store_true", help="also the tables that take minutes")
    write.add_argument("--only", nargs="+", choices=[*tables.TABLES, *PLOTS], metavar="NAME", help="these alone")

    check = commands.add_parser("validate", help="the model beside the product")
    check.add_argument("--seconds", type=number(1, 60), default=5.0, help="of each window (default: 5)")
    check.add_argument("--frontends", type=int, nargs="+", choices=(1, 2, 4), default=[1, 2, 4])
    check.add_argument("--save", action="store_true", help="keep the result for docs/capacity.md")
    commands.add_parser("measure", help="what connections cost the product on this machine")
    commands.add_parser("constants", help="every measured number, with its source")
    return whole_parser


def size(options: argparse.Namespace, console: Console) -> int:
    load = FleetLoad(options.readers, options.live, options.rate, options.readers_a_log)
    plans = {"one cluster": (1, smallest(load, options.used))}
    plans["cells of one primary"] = in_cells(load, options.used)
    rows = []
    for name, (cells, fleet) in plans.items():
        used = use(load._replace(readers=load.readers / cells), fleet)
        rows.append((
            name, *(f"{cells * count:,}" for count in fleet), percent(used.redis_cpu),
            percent(used.frontend_cpu), percent(used.frontend_readers), percent(used.worker_cpu),
            f"{used.worker_jobs * policy('max_jobs'):,.0f}",
        ))  # fmt: skip
    titles = (
        "plan", "frontends", "workers", "primaries", "Redis' core", "a frontend's core", "of MAX_READERS",
        "a worker's core", "MAX_JOBS of a worker",
    )  # fmt: skip
    console.print(Markdown("\n".join(markdown(titles, rows))))
    kept = memory_redis(load, policy("retention_s"))
    console.print(f"{load.tokens:,.0f} tokens/s. Redis keeps {gigabytes(kept)} with a retention of an hour.")
    return 0


def shape_of(options: argparse.Namespace) -> StormShape:
    return StormShape(
        options.frontends, options.readers, options.use, options.primaries, client=Client(options.client),
        balancing=Balancing(options.balancing),
    )  # fmt: skip


def storm(options: argparse.Namespace, console: Console) -> int:
    """`death`, `failover` and `deploy`."""
    shape, name = shape_of(options), options.command
    if name == "death" and options.dead >= options.frontends:
        return complain(f"--dead {options.dead} of --frontends {options.frontends}: none is left")
    if name == "deploy" and options.surge > options.frontends:
        return complain(f"--surge {options.surge} is more than --frontends {options.frontends}")
    if name == "deploy":
        with progress(console) as bar:
            task = bar.add_task("deploy", total=100)
            found = deploy(
                shape, options.surge, options.drain, seed=options.seed,
                on_progress=lambda share: bar.update(task, completed=100 * share),
            )  # fmt: skip
        console.print(f"The rollout takes {found.took_s:,.0f} s; a reader is moved {found.moves:.2f} times.")
        result = found.outcome
    elif name == "death":
        result = frontends_die(shape, options.dead, seed=options.seed)
    else:
        result = primary_fails_over(shape, options.away, seed=options.seed)
    row = fault_tables.outcome_row(result)
    console.print(
        *(f"{title:34} {cell}" for title, cell in zip(fault_tables.OUTCOME_TITLES, row, strict=True)), sep="\n"
    )
    return 0


def worker(options: argparse.Namespace, console: Console) -> int:
    found = worker_dies(options.generations, options.free, lease_s=options.lease, seed=options.seed)
    times = [seconds_text(each) for each in (found.p50, found.p99, found.longest)]
    console.print(f"kill to next event: p50 {times[0]}, p99 {times[1]}, longest of 100 deaths {times[2]}")
    if found.waiting:
        console.print(f"{found.waiting:,} generations wait until others end: there are {options.free:,} free places")
    return 0


def write(options: argparse.Namespace, console: Console) -> int:
    every = [*tables.TABLES, *PLOTS] if options.all else [*page.FAST, *page.FAST_PLOTS]
    names = options.only or every
    with progress(console) as bar:
        task = bar.add_task("", total=len(names))

        def on_part(name: str) -> None:
            bar.update(task, description=name, completed=names.index(name))

        page.write(
            [name for name in names if name in tables.TABLES], [name for name in names if name in PLOTS], on_part
        )
        bar.update(task, description="written", completed=len(names))
    return 0


def validate(options: argparse.Namespace, console: Console) -> int:
    """Exit status 1 where a figure differs by more than the tolerance, and the machine was quiet."""
    frontends = sorted(set(options.frontends))
    runs = len(calibration.LOADS) + sum(load.frontends in frontends for load in validation.LOADS)
    with progress(console) as bar:
        task = bar.add_task("", total=runs)

        def on_trial(name: str) -> None:
            done = bar.tasks[task].completed
            bar.update(task, description=name, completed=done + (bar.tasks[task].description != ""))

        today = datetime.now().astimezone().date().isoformat()
        keep = validation.save if options.save else lambda _: None
        found = asyncio.run(validation.validate(options.seconds, frontends, today, on_trial, keep))
        bar.update(task, completed=runs)
    console.print(Markdown("\n".join(tables.validation_table(found))))
    console.print(", ".join(f"{name} {value:g} µs" for name, value in found.costs.items()))
    worst = max(figure.others for figure in found.figures)
    off = [each for each in found.figures if not each.is_within]
    console.print(f"{len(found.figures) - len(off)} of {len(found.figures)} figures within {validation.TOLERANCE:.0%}.")
    is_quiet = worst <= validation.QUIET_CORES
    if not is_quiet:
        console.print(f"Other processes used up to {worst:.2f} cores: run it again on a quiet machine.", style="yellow")
    return int(bool(off) and is_quiet)


def measure(_: argparse.Namespace, console: Console) -> int:
    found = asyncio.run(connection_costs())
    console.print(*(f"{name:12} {value:6.0f} µs" for name, value in found.items()), sep="\n")
    return 0


def constants(_: argparse.Namespace, console: Console) -> int:
    console.print(Markdown("\n".join(tables.constants())))
    return 0


def progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def complain(why: str) -> int:
    sys.stderr.write(f"simulate: {why}\n")
    return 2


COMMANDS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "size": size, "death": storm, "deploy": storm, "failover": storm, "worker": worker, "write": write,
    "validate": validate, "measure": measure, "constants": constants,
}  # fmt: skip


def main() -> int:
    options = parser().parse_args()
    gc.disable()  # a model holds a million small objects and no cycles: collections take a fifth of the time
    shown = Console()
    return COMMANDS[options.command](options, shown if shown.is_terminal else Console(width=160))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (ArithmeticError, AssertionError, OSError) as error:
        sys.exit(complain(str(error)))
