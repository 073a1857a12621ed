"""Rules about the source tree itself: public names, script contracts, module names, import directions."""

import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tailrace
from support.for_each import for_each

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "shared" / "tailrace" / "lua").glob("*.lua"))
MODULES = sorted(path for source in ("shared", "services") for path in (ROOT / source).rglob("*.py"))
ANSWERS = {"OK", "HELD", "ABANDONED", "TERMINATING", "FENCED", "DONE", "BEHIND", "CHANGED", "UNKNOWN", "GONE"}
KEYS_OF = {
    "change_access": "access, its channel",
    "add_to_audit": "audit, acts, their channel",
    "take": "queue, mark, job, tags, line, turns, running, parked, parked_counts, waiting",
    "enqueue": "queue, job, tags, line, turns, parked, waiting",
    "submit": "owned, unfinished_of, stored, stored_until, generations, then as for `enqueue`",
    "withdraw": "queue, job, mark, retries, tags, line, turns, running, parked, parked_counts, wake, waiting",
    "unpark": "queue, tags, line, turns, running, parked, parked_counts, wake",
    "load": "queue, unfinished_of, owned, stored, stored_until, rate, claim, generations, parked_counts, use, "
    "reserved, reserved_until, outputs",
    "settle": "use, reserved, reserved_until, settled, outputs",
    "set_policy": "callers",
    "record_output": "stored, stored_until",
    "forget": "owned, stored, stored_until, generations",
    "set_newest_of_chat": "chat",
    "add_unfinished": "unfinished",
    "suspect": "suspected",
    "add_webhook": "known, pending, due, bodies",
    "fail_call": "circuit, failures, circuits",
    "probe_circuit": "circuit",
    "close_circuit": "circuit, failures, circuits",
    "occupy_slot": "slots",
    "renew_slots": "slots",
    "report_calls": "totals, report",
    "claim_webhooks": "pending, due, bodies, tries",
    "add_endpoint": "endpoints, claim",
    "replace_endpoint": "endpoints",
    "flush_stats": "flushed, then for each width of slots: counts, durations",
}
"""Scripts of the queue's server, of the index and of webhooks; all others run on the keys of one generation."""


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
    assert sorted(re.findall(r'Script\("(\w+)"[,)]', text)) == [path.stem for path in SCRIPTS]


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


REFUSED = {
    "tell", "tells", "telling", "told", "untold", "teller", "hear", "hears", "hearing", "heard", "unheard", "overheard",
    "hearer", "say", "says", "saying", "said", "unsaid", "breath", "breaths", "breathe", "breathes", "breathing",
    "doubt", "doubts", "doubting", "doubted", "doubtful", "patience", "patient", "patiently", "impatience", "impatient",
    "garbage", "whoever", "nobody", "everybody", "somebody", "anybody",
}  # fmt: skip
"""Words that name no mechanism. The terms of the field are send, write, receive, report, wait, retry, timeout."""

JAVASCRIPT = re.compile(
    r"""/\*.*?\*/|(?<![:\\])//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`""", re.DOTALL
)
STRINGS_AND_COMMENTS = {
    ".js": JAVASCRIPT,
    ".mjs": JAVASCRIPT,
    ".css": re.compile(r"""/\*.*?\*/|"[^"\n]*"|'[^'\n]*'""", re.DOTALL),
    ".lua": re.compile(r"""--[^\n]*|"[^"\n]*"|'[^'\n]*'"""),
}


def sources() -> list[Path]:
    """Every source file of the product and the tests that has identifiers."""
    roots = (ROOT / name for name in ("shared", "services", "tests"))
    files = (path for root in roots for path in root.rglob("*") if "node_modules" not in path.parts)
    return sorted(path for path in files if path.suffix in {".py", *STRINGS_AND_COMMENTS})


def identifiers(path: Path) -> set[str]:
    if path.suffix == ".py":
        with path.open("rb") as file:
            return {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}
    return set(re.findall(r"[A-Za-z_$][\w$]*", STRINGS_AND_COMMENTS[path.suffix].sub(" ", path.read_text())))


def words_of(identifier: str) -> set[str]:
    """Split on `_` and camel case, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


def test_identifier_is_split_into_its_words() -> None:
    assert words_of("_wasToldOnce") == {"was", "told", "once"}
    assert words_of("HTTPTeller_read") == {"http", "teller", "read"}
    assert "tell" not in words_of("intelligent") | words_of("Satellite")


@for_each("path", sources())
def test_identifiers_are_terms_of_the_field(path: Path) -> None:
    names = {path.stem, *identifiers(path)}
    assert sorted(name for name in names if words_of(name) & REFUSED) == []
