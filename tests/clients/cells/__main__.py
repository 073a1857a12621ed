"""The Python clients' cells, one after another: `python -m clients.cells BASE_URL [--package NAME …] [--case NAME …]`.

It runs in an environment of its own (`requirements.txt`) and prints a line for each cell (`clients.table`).
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from clients.cases import CASES, FAILURES, Json
from clients.cells.names import model_of
from clients.table import PYTHON_CLIENTS, Cell, Client

MODULES = {"openai-python": "openai_python", "langchain-openai": "langchain", "litellm": "litellm_calls"}
DISTRIBUTIONS = {"openai-python": "openai"}
TIMEOUT_S = 40.0


def version_of(package: str) -> str:
    return importlib.metadata.version(DISTRIBUTIONS.get(package, package))


def expected_of(client: Client, case: str) -> Json:
    """The fields that an answer must have. A client that waits for the whole has no text where it gets none.

    The field that a package leaves out must be empty, so that the reason does not outlive the package's gap."""
    expected = CASES[case].expected
    if case in client.leaves_out:
        return expected | {case: ""}
    if case in FAILURES and not client.streams:
        return {"error": expected["error"]}
    if case == "cancel" and not client.can_cancel:  # its client leaves
        return {"text": expected["text"]} if client.streams else {}
    return expected


async def cell(client: Client, base_url: str, case: str) -> Cell:
    """Run a cell."""
    version = version_of(client.package)
    ask: Callable[..., Any] = importlib.import_module(f"clients.cells.{MODULES[client.package]}").ask
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await ask(client, base_url, case, model_of(client.name, case))
    except Exception as error:  # noqa: BLE001  # a client that raises is a cell that failed
        traceback.print_exc()
        return Cell(client.name, version, case, False, f"{type(error).__name__}: {error}")
    difference = answer.difference(expected_of(client, case))
    if case in client.leaves_out and not difference:
        return Cell(client.name, version, case, None, client.leaves_out[case])
    return Cell(client.name, version, case, not difference, difference)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base_url")
    parser.add_argument("--package", action="append", choices=MODULES)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    for client in PYTHON_CLIENTS:
        if client.package in (options.package or MODULES):
            for case in options.case or CASES:
                found = await cell(client, options.base_url, case)
                print(json.dumps(found._asdict()), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
