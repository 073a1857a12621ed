"""The Node clients of the table: every cell of `node/run.mjs` on running processes, and the program itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from clients.cases import CASES, SETTINGS
from clients.table import Cell
from clients.upstream import CaseUpstream, problems
from support import npm
from support.api import eventually
from support.stack import stack
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import free_port

HERE = Path(__file__).parent / "node"

pytestmark = [pytest.mark.long, npm.requires_npm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


class Run(NamedTuple):
    """What the program printed, its exit status, and what the upstream's record shows to be wrong, by model."""

    cells: list[Cell]
    status: int
    errors: str
    problems: dict[str, str]


async def run(url: str, *arguments: str) -> Run:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", "run.mjs", url, *arguments, cwd=HERE, env=npm.environment(), stdout=pipe, stderr=pipe,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    output, errors = await process.communicate()
    cells = [Cell.parse(line) for line in output.decode().splitlines()]
    return Run(cells, process.returncode or 0, errors.decode(), {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table() -> AsyncIterator[Run]:
    """Every cell, run once."""
    npm.install(HERE)
    upstream = CaseUpstream()

    async def is_settled() -> bool:
        return all(record.started == record.finished + record.closed_by_client for record in upstream.calls.values())

    async with stack(app=upstream, **SETTINGS) as running:
        result = await run(f"{running.url}/v1")
        await eventually(is_settled)
        yield result._replace(problems=problems(upstream.calls))


async def test_every_cell_of_node_has_its_answer(table: Run) -> None:
    assert table.status == 0, table.errors
    assert [cell for cell in table.cells if cell.ok is False] == []


async def test_upstream_was_called_and_left_as_each_case_of_node_has_it(table: Run) -> None:
    assert table.problems == {}


async def test_every_client_of_node_has_a_line_for_each_case(table: Run) -> None:
    cases: dict[str, list[str]] = {}
    for cell in table.cells:
        cases.setdefault(cell.client, []).append(cell.case)
        assert cell.version
        assert bool(cell.detail) is (cell.ok is not True)
    assert len(cases) == 22
    assert all(own == list(CASES) for own in cases.values())


async def test_cell_of_node_that_fails_has_its_reason() -> None:
    npm.install(HERE)
    result = await run(f"http://127.0.0.1:{free_port()}/v1", "--client", "openai-node responses parse")
    assert [cell.case for cell in result.cells] == list(CASES)
    wrong: list[Any] = [cell for cell in result.cells if cell.ok is not False or not cell.detail]
    assert wrong == []


async def test_unknown_client_of_node_is_refused_with_the_names() -> None:
    npm.install(HERE)
    result = await run("http://127.0.0.1:1/v1", "--client", "unknown")
    assert (result.status, result.cells) == (2, [])
    assert "@ai-sdk/react useChat" in result.errors
