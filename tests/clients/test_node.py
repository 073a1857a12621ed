"""The Node clients of the client table: every cell of `node/run.mjs` on running processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from support import npm
from support.stack import stack
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import free_port

HERE = Path(__file__).parent / "node"
GRACE_S = "6"
CASES = {
    "text", "parallel tools", "structured", "refusal", "reasoning", "length", "failure mid-stream", "cancel", "usage",
    "unicode", "resume",
}  # fmt: skip
CALLS_WITHOUT_RESUME = {
    "openai-node chat.completions.stream",
    "openai-node chat.completions.parse",
    "openai-node chat.completions.runTools",
    "openai-node responses.create (background)",
    "openai-node responses.parse",
}
Json = dict[str, Any]

pytestmark = [npm.requires_npm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


class Run(NamedTuple):
    """What the program printed, a line for each cell, and its exit status."""

    cells: list[Json]
    status: int
    errors: str


async def run(url: str, *arguments: str) -> Run:
    pipe = asyncio.subprocess.PIPE
    environment = npm.environment(TAILRACE_DISCONNECT_GRACE_S=GRACE_S)
    process = await asyncio.create_subprocess_exec(
        "node", "run.mjs", url, *arguments, cwd=HERE, env=environment, stdout=pipe, stderr=pipe,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    output, errors = await process.communicate()
    return Run([json.loads(line) for line in output.splitlines()], process.returncode or 0, errors.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def table() -> AsyncIterator[Run]:
    """Every cell, run once."""
    npm.install(HERE)
    async with stack(workers=1, frontends=1, lease_s="1", disconnect_grace_s=GRACE_S, upstream_retries="0") as running:
        yield await run(running.url)


async def test_every_cell_has_its_result(table: Run) -> None:
    assert table.status == 0, table.errors
    assert [cell for cell in table.cells if cell["ok"] is not True] == []


async def test_every_client_has_a_line_for_each_case_that_it_has_a_call_for(table: Run) -> None:
    cases: dict[str, set[str]] = {}
    for cell in table.cells:
        cases.setdefault(cell["client"], set()).add(cell["case"])
        assert cell["version"]
        assert cell.keys() == {"client", "version", "case", "ok", "detail"}
    assert len(cases) == 18
    for client, own in cases.items():
        without_call = {"resume"} if client in CALLS_WITHOUT_RESUME or client.startswith("@ai-sdk/openai") else set()
        if client == "@ai-sdk/react useChat":
            without_call = {"usage"}
        assert own == CASES - without_call, client


async def test_cell_that_fails_is_reported_with_its_reason() -> None:
    npm.install(HERE)
    result = await run(f"http://127.0.0.1:{free_port()}", "--client", "openai-node responses.parse")
    assert {cell["case"] for cell in result.cells} == CASES - {"resume"}
    failed = [cell for cell in result.cells if not cell["ok"]]
    assert len(failed) == len(result.cells)
    assert all(cell["detail"] for cell in failed)


async def test_unknown_client_is_refused_with_the_names() -> None:
    npm.install(HERE)
    result = await run("http://127.0.0.1:1", "--client", "unknown")
    assert (result.status, result.cells) == (2, [])
    assert "@ai-sdk/react useChat" in result.errors
