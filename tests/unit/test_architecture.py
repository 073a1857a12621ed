"""Rules about the source tree itself: public names, script contracts, module names, import directions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tailrace

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "shared" / "tailrace" / "lua").glob("*.lua"))
MODULES = sorted(path for source in ("shared", "services") for path in (ROOT / source).rglob("*.py"))
ANSWERS = {"OK", "HELD", "ABANDONED", "TERMINATING", "FENCED", "DONE", "BEHIND", "CHANGED", "UNKNOWN", "GONE"}
KEYS_OF = {
    "take": "queue, mark",
    "enqueue": "queue, job",
    "register": "unfinished, owned, unfinished_of",
}
"""Scripts of the queue's server; all others run on the keys of one generation."""


def test_public_names_are_exactly_these() -> None:
    names = ["Entry", "EntryId", "Event", "GenerationRecord", "Log", "Output", "Settings", "TailraceError"]
    assert sorted(tailrace.__all__) == names
    assert [name for name in names if not hasattr(tailrace, name)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_begins_with_its_contract(path: Path) -> None:
    """Its purpose in a sentence, KEYS, ARGV where it has any, and every answer."""
    text = path.read_text()
    lines = text.removeprefix("#!lua flags=allow-oom\n").removeprefix("#!lua\n").splitlines()
    header = "\n".join(line for line in lines[: next(n for n, line in enumerate(lines) if line[:2] != "--")])
    body = text.partition(header)[2]
    assert re.match(r"-- [A-Z].+[.:]\n--\n", header)
    assert f"-- KEYS     {KEYS_OF.get(path.stem, 'state, log, tombstone, events')}\n" in header
    assert ("-- ARGV     " in header) == ("ARGV" in body)
    _, _, contract = header.partition("-- Answers")
    assert contract
    given = set(re.findall(r"'([A-Z]{2,})'", body)) & ANSWERS
    assert given <= set(re.findall(r"\b[A-Z]{2,}\b", contract))
    assert set(re.findall(r"\b[A-Z]{2,}\b", contract)) & ANSWERS == given


def test_script_files_are_exactly_those_that_are_called() -> None:
    text = (ROOT / "shared" / "tailrace" / "scripts.py").read_text()
    assert sorted(re.findall(r'Script\("(\w+)"\)', text)) == [path.stem for path in SCRIPTS]


def test_module_names_are_not_vague() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "core", "base"}
    assert len(MODULES) > 40
    assert [
        str(path) for path in MODULES if vague & {path.stem.strip("_"), *path.stem.split("_"), path.parent.name}
    ] == []


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    assert "0 broken" in check.stdout
