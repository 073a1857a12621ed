"""Folders of the repository that have npm packages: their installation, and the reasons for which a test is skipped."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NO_NPM = "npm is not installed: what needs Node is not tested"
NO_REGISTRY = "npm's registry cannot be reached: what needs its packages is not tested"
UNREACHABLE = re.compile(r"\b(EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ENOTFOUND|ETIMEDOUT|E403|E407|E50\d)\b")

requires_npm = pytest.mark.skipif(shutil.which("npm") is None, reason=NO_NPM)


def install(folder: Path) -> Path:
    """The folder, with the packages of its lock file installed. A lock file that has not changed costs nothing.

    Skips the test where the registry cannot be reached.
    """
    installed = folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime:
        return folder
    command = ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
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
