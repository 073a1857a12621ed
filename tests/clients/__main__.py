"""Run every cell of the table client × case against running processes, and write `docs/clients.md`.

The product runs with a real worker and frontend, and a scripted upstream. The programs of the clients (`clients.table`)
run one after another. `scripts/clients` prepares their packages.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from clients import report
from clients.cases import CASES, SETTINGS, case_of
from clients.cells.names import client_of
from clients.table import PYTHON_CLIENTS, Cell
from clients.upstream import CaseUpstream, problems
from support.stack import stack
from tailrace_cli.children import die_with_parent

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
NODE = Path(__file__).with_name("node") / "run.mjs"
SETTLES_S = 30.0
"""Longer than the grace after which an answer whose client has left is cancelled."""
PROGRAM_S = 900.0

SHOWN = {True: "ok", False: "FAILED", None: "–"}

Command = Sequence[str]


async def run(command: Command, environment: Mapping[str, str]) -> list[Cell]:
    """The cells of a program, each printed as it arrives. A program that fails lacks those that it has not run."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    cells = []
    try:
        async with asyncio.timeout(PROGRAM_S):
            async for line in process.stdout:
                cells.append(cell := Cell.parse(line.decode()))
                detail = cell.detail if cell.ok is False else ""
                print(f"{cell.client:45} {cell.case:12} {SHOWN[cell.ok]:7} {detail}", flush=True)
            if status := await process.wait():
                print(f"{' '.join(command)} ended with status {status}", file=sys.stderr)
    except TimeoutError:
        print(f"{' '.join(command)} did not end", file=sys.stderr)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return cells


@asynccontextmanager
async def product(upstream: CaseUpstream) -> AsyncIterator[str]:
    """The base URL of the running product."""
    async with stack(app=upstream, **SETTINGS) as running:
        yield f"{running.url}/v1"


async def settled(upstream: CaseUpstream) -> dict[str, str]:
    """What the upstream's record shows to be wrong, once what clients have left had the time to end."""
    deadline = asyncio.get_running_loop().time() + SETTLES_S
    while found := problems(upstream.calls):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.1)
    return found


def audited(cells: Sequence[Cell], found: Mapping[str, str]) -> list[Cell]:
    """The cells, with those failed for which the upstream's record shows a problem. A problem of a model that fits no
    client is one of every client in its case."""
    clients = {cell.client for cell in cells}
    wrong = {(client_of(model, clients), case_of(model)): problem for model, problem in found.items()}

    def checked(cell: Cell) -> Cell:
        problem = wrong.get((cell.client, cell.case)) or wrong.get((None, cell.case))
        return cell.failed(f"{cell.detail} {problem}".strip()) if problem and cell.ok is not None else cell

    return [checked(cell) for cell in cells]


def uncalled(cells: Sequence[Cell], models: Iterable[str]) -> list[Cell]:
    """The cells, with those failed that passed without a call. `models`: those that the upstream was called with."""
    clients = {cell.client for cell in cells}
    called = {(client_of(model, clients), case_of(model)) for model in models}

    def checked(cell: Cell) -> Cell:
        is_called = (cell.client, cell.case) in called or (None, cell.case) in called
        return cell.failed("the upstream was not called") if cell.ok and not is_called else cell

    return [checked(cell) for cell in cells]


def missing(cells: Sequence[Cell]) -> list[Cell]:
    """A failed cell for each that no program has reported."""
    versions = {cell.client: cell.version for cell in cells}
    for client in PYTHON_CLIENTS:
        versions.setdefault(client.name, "")
    reported = {(cell.client, cell.case) for cell in cells}
    return [
        Cell(client, version, case, False, "no program has reported this cell")
        for client, version in versions.items()
        for case in CASES
        if (client, case) not in reported
    ]


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="the interpreter that has the Python clients")
    parser.add_argument("--node", help="Node; without it its clients are not run, and the page stays")
    parser.add_argument("--check", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), "OPENAI_API_KEY": "none"}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # otherwise its import downloads a list of prices
    on = {"Python": await _version([options.python, "-c", "import platform; print(platform.python_version())"])}
    with tempfile.TemporaryDirectory(prefix="tailrace-clients-") as home:
        environment["HOME"] = home
        upstream = CaseUpstream()
        async with product(upstream) as base_url:
            cells = await run([options.python, "-m", "clients.cells", base_url], environment)
            if options.node and NODE.exists():
                on["Node"] = (await _version([options.node, "--version"])).removeprefix("v")
                cells += await run([options.node, str(NODE), base_url], environment)
            cells = audited([*cells, *missing(cells)], await settled(upstream))
            cells = uncalled(cells, upstream.calls)
    failed = [cell for cell in cells if cell.ok is False]
    if not options.check and (options.node or not NODE.exists()):
        PAGE.write_text(report.replaced(PAGE.read_text(), report.markdown(cells, on)))
    print(f"\n{sum(cell.ok is True for cell in cells)} cells passed, {len(failed)} failed")
    for cell in failed:
        print(json.dumps(cell._asdict(), ensure_ascii=False))
    return min(len(failed), 1)


async def _version(command: Command) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    return printed.decode().strip()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
