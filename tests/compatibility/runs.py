"""Runs on one server: its fitness, the contract tests of log and queue, and a few scenarios of chaos."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from compatibility.results import Result, Suite
from support.server_binary import VARIABLE
from tailrace.redis.fitness import name_of
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
TESTS = ("tests/contract/log", "tests/contract/queue", "tests/contract/test_two_servers.py")
SCENARIOS = ("worker-kills", "redis-kills", "redis-empty", "out-of-memory", "disturbances", "reply-cut")
SEED = "1"
VIOLATIONS = re.compile(r"^([a-z-]+): .*?, (\d+) violations,", re.MULTILINE)

Report = Callable[[str], None]
"""Called with what begins."""


def result_on(binary: Path, source: str, report: Report, *, scenarios: Sequence[str] = SCENARIOS) -> Result:
    """Everything on one server. `source`: where the binary is from. Without scenarios, chaos counts as not run."""
    report("is it fit?")
    os.environ[VARIABLE] = str(binary)
    name, lacking = asyncio.run(_fitness())
    today = datetime.now().astimezone().date().isoformat()
    if lacking:
        return Result(name, source, today, lacking)
    report(f"{name}: contract tests")
    suite = _contract()
    chaos: dict[str, int] = {}
    for scenario in scenarios:
        report(f"{name}: {scenario}")
        chaos |= _chaos(scenario)
    return Result(name, source, today, [], suite, chaos or None)


async def _fitness() -> tuple[str, list[str]]:
    """The server's name, and what it lacks."""
    with tempfile.TemporaryDirectory(prefix="tailrace-server-") as folder:
        embedded = EmbeddedServer(Path(folder), maxmemory=str(1024**3))
        embedded.start()
        server = RedisServer.connect(embedded.url)
        try:
            info = (await server.execute("INFO")).decode()
            fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
            lacking, _ = await server.problems()
            return name_of(fields), lacking
        finally:
            await server.close()
            embedded.stop()


def _contract() -> Suite:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *TESTS], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        suite = ET.parse(report).getroot()[0]
    failures = [case.get("name", "") for case in suite.iter("testcase") if _has(case, "failure", "error")]
    skipped = sum(1 for case in suite.iter("testcase") if _has(case, "skipped"))
    return Suite(int(suite.get("tests", 0)) - skipped - len(failures), skipped, failures)


def _has(case: ET.Element, *kinds: str) -> bool:
    return any(case.find(kind) is not None for kind in kinds)


def _chaos(scenario: str) -> dict[str, int]:
    """The violations of one scenario; -1 where it printed none, as it did not end."""
    command = [sys.executable, "-m", "system.chaos", "--size", "short", "--seed", SEED, "--scenario", scenario]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    output = ""
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=600
        )
        output = done.stdout
    counts = {name: int(count) for name, count in VIOLATIONS.findall(output)}
    if counts.get(scenario) != 0:
        sys.stderr.write(output[-4000:])
    return {scenario: counts.get(scenario, -1)}
