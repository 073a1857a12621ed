"""How each cost grows with its work: measured, drawn, and written into `docs/growth.md`.

    scripts/growth [--curve NAME …] [--amount N …] [--render]

Every figure comes from fresh processes on this machine, over loopback. A curve takes one to three minutes; what was
measured stays in `tests/growth/results.json` until its curve is measured again. CPU is read from /proc, so other
processes change it little; they do change times. `--amount` measures these points of a curve alone. `--render` measures
nothing, and writes the pictures and tables again.
"""

import argparse
import resource
import sys
from asyncio import Runner
from collections.abc import Sequence

import uvloop
from rich.console import Console

from bench import report
from growth import results
from growth.curves import CURVES
from growth.page import PAGE, pictures, rendered


async def measure(names: Sequence[str], amounts: Sequence[int], console: Console) -> None:
    """Curve after curve, each point saved at once."""
    chosen = {name: tuple(each for each in CURVES[name].amounts if not amounts or each in amounts) for name in names}
    with report.progress(console) as progress:
        task = progress.add_task("", total=sum(map(len, chosen.values())))
        for name, some in chosen.items():
            progress.update(task, description=CURVES[name].title)
            async for amount, point in CURVES[name].points(some):
                results.save(name, {amount: point})
                progress.advance(task)
                console.print(f"{name} {amount:,}: " + ", ".join(f"{each} {point[each]:.3g}" for each in point))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curve", nargs="+", choices=list(CURVES), default=list(CURVES), metavar="NAME")
    parser.add_argument("--amount", nargs="+", type=int, default=[], metavar="N", help="only these amounts of work")
    parser.add_argument("--render", action="store_true", help="write pictures and tables from the results")
    options, console = parser.parse_args(), report.console()
    if not options.render:
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        with Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure(options.curve, options.amount, console))
    found = results.load()
    PAGE.write_text(rendered(PAGE.read_text(), found))
    for file, picture in pictures(found).items():
        file.write_text(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
