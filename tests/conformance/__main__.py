"""Run the public conformance suites of OpenAI's API against running processes. `scripts/conformance` fetches them.

openai-python's generated tests run twice: as they are, and behind `conformance.proxy`. Open Responses' suite runs as it
is, its case with tools on a model that calls one, and its stream once more on a model that reasons. docs/conformance.md
has the numbers and the reasons.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from clients.cases import CASES
from clients.upstream import CaseUpstream
from conformance.proxy import MODEL, proxy
from support.stack import stack
from tailrace_cli.children import die_with_parent

SETTINGS: dict[str, Any] = {"upstream_retries": "0", "webhook_allow_private": "true"}
FILES = (
    "test_models.py", "test_responses.py", "responses", "chat/test_completions.py", "chat/completions",
    "test_webhooks.py",
)  # fmt: skip
TOOLS, STREAMING = "tool-calling", "streaming-response"
RUN_S = 900.0


class Outcome(NamedTuple):
    """One test or case. `error` is empty if it passed."""

    group: str
    name: str
    error: str


async def run(*command: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What the command printed; it may fail."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    try:
        async with asyncio.timeout(RUN_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode()


async def run_openai_python(source: Path, url: str) -> list[Outcome]:
    """The generated tests, with a configuration of ours: theirs runs as many processes as there are cores."""
    with tempfile.TemporaryDirectory(prefix="tailrace-conformance-") as folder:
        configuration, report = Path(folder) / "pytest.ini", Path(folder) / "report.xml"
        configuration.write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = session\n")
        printed = await run(
            sys.executable, "-m", "pytest", "-q", "-c", str(configuration), f"--rootdir={source}", "--tb=line",
            "-p", "no:cacheprovider", f"--junitxml={report}", *(f"tests/api_resources/{name}" for name in FILES),
            folder=source, environment={"TEST_API_BASE_URL": f"{url}/v1", "PYTHONPATH": str(source)},
        )  # fmt: skip
        if not report.exists():
            raise SystemExit(printed)
        return list(_outcomes(ET.parse(report).getroot()))


def _outcomes(report: ET.Element) -> Iterator[Outcome]:
    for case in report.iter("testcase"):
        failures = [each.get("message", "") for each in case if each.tag in ("failure", "error")]
        group = case.get("classname", "").split(".")[-2]
        error = failures[0].splitlines()[0] if failures else ""
        yield Outcome(group, case.get("name", "").partition("[")[0], error)


async def run_open_responses(suite: Path, url: str) -> list[Outcome]:
    """The cases; those with tools on a model that calls one, and all others on one that writes text."""
    everything = await _cases(suite, url, "text")
    tools = await _cases(suite, url, "tools", "--filter", TOOLS)
    return [*(case for case in everything if case.name != TOOLS), *tools]


async def _cases(suite: Path, url: str, model: str, *arguments: str) -> list[Outcome]:
    printed = await run(
        "node", str(suite), "--base-url", f"{url}/v1", "--api-key", "none", "--model", model, "--json", *arguments,
        folder=suite.parent, environment={},
    )  # fmt: skip
    results = json.loads(printed)["results"]
    return [Outcome("Open Responses", each["id"], "; ".join(each.get("errors") or [])) for each in results]


def show(title: str, outcomes: list[Outcome]) -> None:
    """Passed and all of each group, and each error once with the tests that have it."""
    print(f"\n{title}: {sum(not each.error for each in outcomes)} of {len(outcomes)}")
    for group in dict.fromkeys(each.group for each in outcomes):
        own = [each for each in outcomes if each.group == group]
        if len(own) < len(outcomes):
            print(f"  {group}: {sum(not each.error for each in own)} of {len(own)}")
        errors: dict[str, Counter[str]] = {}
        for each in own:
            if each.error:
                errors.setdefault(each.error[:200], Counter())[each.name] += 1
        for error, names in sorted(errors.items()):
            print(f"    {error}\n      {', '.join(f'{name} x{count}' for name, count in names.items())}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openai-python", type=Path, help="the unpacked source distribution")
    parser.add_argument("--open-responses", type=Path, help="the suite as one module for Node")
    options = parser.parse_args()
    upstream = CaseUpstream({name: case.script for name, case in CASES.items()} | {MODEL: CASES["text"].script})
    async with stack(app=upstream, **SETTINGS) as product:
        if options.openai_python:
            show("openai-python, as it is", await run_openai_python(options.openai_python, product.url))
            async with proxy(product.url) as before:
                show("openai-python, behind the proxy", await run_openai_python(options.openai_python, before.url))
            for refusal, count in sorted(before.refusals.items()):
                print(f"  refused: {refusal.route} {refusal.param} ({refusal.code}) x{count}")
        if options.open_responses:
            show("Open Responses", await run_open_responses(options.open_responses, product.url))
            frontend = await product.add_frontend(reasoning_view="summary")
            for view, url in (("text", product.url), ("summary", frontend.url)):
                outcomes = await _cases(options.open_responses, url, "reasoning", "--filter", STREAMING)
                show(f"Open Responses, reasoning as {view}", outcomes)


if __name__ == "__main__":
    asyncio.run(main())
