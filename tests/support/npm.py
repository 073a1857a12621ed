"""Folders of the repository that have npm packages: their installation, and the reasons for which a test is skipped."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

OLDEST_NODE = (20, 19)
"""Vite refuses older ones. (The SDKs declare 22, at which npm only warns; every test passes on 20.20.)"""
INSTALL_S = 75.0
FAILS_EARLY = (
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=2000",
    "--fetch-timeout=20000",
)
"""Without them `npm ci` needs 70 s to find that it has no network, and longer where packets get lost."""

NO_REGISTRY = "npm's registry cannot be reached: what needs its packages is not tested"
UNREACHABLE = re.compile(
    r"\b(EAI_AGAIN|ECONN\w+|ENETUNREACH|EHOSTUNREACH|ENOTFOUND|ENOTCACHED|E?TIMEDOUT|ERR_SOCKET_TIMEOUT|E40[137]|E50\d"
    r"|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+)\b"
)


def _missing() -> str:
    """The reason why this machine runs no Node tests; empty where it does."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return "node or npm is not installed: what needs Node is not tested"
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < OLDEST_NODE:
        oldest = ".".join(map(str, OLDEST_NODE))
        return f"Node is {version or 'of no known version'}, older than {oldest}: what needs Node is not tested"
    return ""


MISSING = _missing()
requires_npm = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def install(folder: Path) -> Path:
    """The folder, with the packages of its lock file installed. A lock file that has not changed costs nothing.

    Skips the test where the registry cannot be reached.
    """
    installed = folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime:
        return folder
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", *FAILS_EARLY]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        pytest.skip(NO_REGISTRY)
    if run.returncode and UNREACHABLE.search(run.stderr):
        pytest.skip(NO_REGISTRY)
    assert run.returncode == 0, run.stderr
    return folder


def build(folder: Path) -> Path:
    """The folder, with the output of its `build` script."""
    run = subprocess.run(["npm", "run", "build"], cwd=install(folder), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def environment(**more: str) -> dict[str, str]:
    """The environment of a Node program: nothing but PATH and `more`."""
    return {"PATH": os.environ["PATH"], **more}
