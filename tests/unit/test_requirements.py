"""The lock files, and the set-up of `.venv` from them: what running needs, and what developing needs as well."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.installation import locked_versions

ROOT = Path(__file__).parents[2]
RUNNING, DEVELOPING, TRACING = (ROOT / f"requirements{kind}.txt" for kind in ("", "-dev", "-otel"))
LOCKS = (RUNNING, DEVELOPING, TRACING, ROOT / "tests" / "clients" / "requirements.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names_of(requirements: list[Any]) -> set[str]:
    """The distributions that requirements name, without versions, extras and markers."""
    return {re.split(r"[\[<>=~ ;]", each)[0].lower() for each in requirements if isinstance(each, str)}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_lock_has_names_versions_and_hashes_and_no_host(lock: Path) -> None:
    text = "\n".join(line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==[\w.]+( ; [^\n\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n*)+$", entry)


def test_running_and_tracing_need_no_package_that_developing_has_not_at_the_same_version() -> None:
    assert set(locked_versions(RUNNING)) < set(locked_versions(TRACING)) < set(locked_versions(DEVELOPING))


def test_running_needs_the_dependencies_and_the_build_backend_and_no_tool() -> None:
    groups = PROJECT["dependency-groups"]
    locked = names_of(locked_versions(RUNNING))
    assert names_of(PROJECT["project"]["dependencies"]) | names_of(groups["build"]) <= locked
    assert names_of(groups["dev"]).isdisjoint(locked)
    assert names_of(PROJECT["project"]["optional-dependencies"]["otel"]) <= names_of(locked_versions(TRACING))
    assert names_of(groups["dev"]) | locked <= names_of(locked_versions(DEVELOPING))


def test_dev_sets_up_what_running_needs_and_every_other_script_the_rest() -> None:
    chosen = {
        path.name for path in (ROOT / "scripts").iterdir() if "setup_lock=requirements.txt\n" in path.read_text()
    } - {"setup"}
    assert chosen == {"dev"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `scripts/setup` reads, and nothing else."""
    for name in ("scripts/setup", "scripts/dev", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(checkout: Path, python: str, script: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """Run `scripts/dev` with an interpreter that is this shell script."""
    (checkout / "python").write_text(f"#!/bin/sh\n{python}\n")
    (checkout / "python").chmod(0o755)
    (checkout / "tailrace").write_text(f"#!/bin/sh\n{script}\n")
    (checkout / "tailrace").chmod(0o755)
    environment = {"PATH": f"{checkout}:{os.environ['PATH']}", "PYTHON": str(checkout / "python")}
    return subprocess.run(
        [checkout / "scripts" / "dev", "--port", "1"], env=environment, capture_output=True, text=True, timeout=30
    )


FAKE = """\
case "$*" in
  -c*) exit 0 ;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *) echo "$*" >> commands; echo "Collecting a"; echo "reason: $PIP_FAILS" >&2; exit ${PIP_FAILS:-0} ;;
esac"""


def test_set_up_installs_the_locked_packages_and_this_checkout_once(checkout: Path) -> None:
    for _ in range(2):
        done = start(checkout, FAKE, 'echo "started $*"')
        assert (done.returncode, done.stdout) == (0, "started dev --port 1\n")
    lines = (checkout / "commands").read_text().splitlines()
    assert [line.split("--no-deps ")[1] for line in lines] == [
        "--require-hashes --requirement requirements.txt",
        "--no-build-isolation --editable .",
    ]
    assert done.stderr == ""


def test_set_up_reports_itself_and_writes_pips_output_into_its_log(checkout: Path) -> None:
    done = start(checkout, FAKE)
    packages = len(locked_versions(RUNNING))
    assert re.fullmatch(
        rf"Setting up \.venv, once: {packages} packages; this takes about 20 seconds …\nSet up after \d+ s\.\n",
        done.stderr,
    )
    assert "Collecting a" in (checkout / ".venv" / "setup.log").read_text()


def test_change_of_the_lock_is_installed_at_the_next_start(checkout: Path) -> None:
    start(checkout, FAKE)
    with (checkout / "requirements.txt").open("a") as lock:
        lock.write("# changed\n")
    start(checkout, FAKE)
    start(checkout, FAKE)
    assert (checkout / "commands").read_text().count("--require-hashes") == 2


def test_environment_of_a_developer_serves_running_as_well(checkout: Path) -> None:
    start(checkout, FAKE)
    dev = checkout / "scripts" / "dev"
    text = dev.read_text()
    dev.write_text(text.replace("setup_lock=requirements.txt\n", ""))
    assert "this takes about a minute" in start(checkout, FAKE).stderr
    dev.write_text(text)
    assert start(checkout, FAKE).stderr == ""
    assert (checkout / "commands").read_text().count("--requirement requirements-dev.txt") == 1


def test_failure_of_the_set_up_shows_its_reason_and_is_repeated(checkout: Path) -> None:
    for _ in range(2):
        done = start(checkout, FAKE.replace("${PIP_FAILS:-0}", "3").replace("$PIP_FAILS", "no space"), "echo started")
        assert done.returncode == 1
        assert "reason: no space\nSetting up .venv has failed; its log is .venv/setup.log\n" in done.stderr
        assert done.stdout == ""


def test_python_that_is_too_old_is_refused(checkout: Path) -> None:
    done = start(checkout, "exit 1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Tailrace needs Python >= 3.11; set PYTHON to such an interpreter.\n"
