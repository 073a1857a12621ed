"""Environments that tests install into, and the reason for which such a test is skipped."""

import os
import re
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL_S = 240.0
NO_INDEX = "the package index cannot be reached: the installation is not tested"
UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError|HTTP error 5\d\d"
)


def environment(**more: str) -> dict[str, str]:
    """The environment of this process without settings, in which pip does not wait for an index that is away."""
    own = ("TAILRACE_", "OPENAI_", "OLLAMA_", "VIRTUAL_ENV", "PYTHON", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command that installs something; its output. Skips the test where the index cannot be reached."""
    done = subprocess.run(
        command, cwd=cwd, env=env or environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=INSTALL_S,
    )  # fmt: skip
    skip_without_index(done.returncode, done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def skip_without_index(status: int, output: str) -> None:
    if status and UNREACHABLE.search(output):
        pytest.skip(NO_INDEX)


def locked_versions(lock: Path) -> list[str]:
    """The lines `name==version` of a lock file, with their markers."""
    return [line.removesuffix("\\").strip() for line in lock.read_text().splitlines() if re.match(r"[a-z0-9]", line)]


def checkout(folder: Path) -> Path:
    """A copy of this checkout as `git clone` would give it, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    return folder


def empty_environment(folder: Path) -> Path:
    """The interpreter of a new environment that has pip alone."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def size_mb(folder: Path, names: Sequence[str] = ("**/*",)) -> float:
    """The sizes of its files, in MB."""
    files = {path for name in names for path in folder.glob(name) if path.is_file() and not path.is_symlink()}
    return sum(path.stat().st_size for path in files) / 1e6
