"""What the tree promises whoever reads it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tailrace
from tailrace.settings import Settings
from tailrace_frontend.http.schemas import TailraceOptions

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


def test_the_public_names_are_these() -> None:
    names = ["Entry", "EntryId", "Event", "GenerationRecord", "Log", "Output", "Settings", "TailraceError"]
    assert sorted(tailrace.__all__) == names
    assert [name for name in names if not hasattr(tailrace, name)] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_opens_with_its_contract(path: Path) -> None:
    """What it is for in a sentence, KEYS, ARGV where it takes any, and every answer that it gives."""
    text = path.read_text()
    lines = text.removeprefix("#!lua flags=allow-oom\n").removeprefix("#!lua\n").splitlines()
    header = "\n".join(line for line in lines[: next(n for n, line in enumerate(lines) if line[:2] != "--")])
    body = text.partition(header)[2]
    assert re.match(r"-- [A-Z].+[.:]\n--\n", header)
    assert f"-- KEYS  {KEYS_OF.get(path.stem, 'state, log, tombstone, events')}\n" in header
    assert ("-- ARGV  " in header) == ("ARGV" in body)
    _, _, contract = header.partition("-- Answers")
    assert contract
    given = set(re.findall(r"'([A-Z]{2,})'", body)) & ANSWERS
    assert given <= set(re.findall(r"\b[A-Z]{2,}\b", contract))
    assert set(re.findall(r"\b[A-Z]{2,}\b", contract)) & ANSWERS == given


def test_every_script_is_called_and_every_called_one_is_there() -> None:
    text = (ROOT / "shared" / "tailrace" / "scripts.py").read_text()
    assert sorted(re.findall(r'Script\("(\w+)"\)', text)) == [path.stem for path in SCRIPTS]


def test_modules_are_named_after_what_they_hold() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "core", "base"}
    assert len(MODULES) > 40
    assert [
        str(path) for path in MODULES if vague & {path.stem.strip("_"), *path.stem.split("_"), path.parent.name}
    ] == []


def test_imports_run_one_way() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    check = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    assert "0 broken" in check.stdout


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme_as_it_says_itself(name: str) -> None:
    rows = [line.strip("| ").split(" | ", 2) for line in (ROOT / "README.md").read_text().splitlines()]
    (told,) = [row[2] for row in rows if row[0] == f"`TAILRACE_{name.upper()}`"]
    assert told == Settings.model_fields[name].description


@pytest.mark.parametrize("name", TailraceOptions.model_fields)
def test_every_option_of_a_generation_is_in_the_readme(name: str) -> None:
    assert f'"{name}": ' in (ROOT / "README.md").read_text()


def test_the_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"`TAILRACE_([A-Z_]+)`", (ROOT / "README.md").read_text()))
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()
