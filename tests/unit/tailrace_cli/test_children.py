"""The processes of `tailrace dev`: restarted when they exit, stopped for certain, never orphaned."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest

from tailrace_cli import children
from tailrace_cli.children import Child, die_with_parent

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},  # coverage.py's
}
TIMEOUT_S = 10.0
ORPHAN = """
import signal, time
from tailrace_cli.children import die_with_parent
die_with_parent()
print("ready", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {ORPHAN!r}])
"""


class Commands:
    """A `tailrace` whose commands are shell scripts. Each run leaves a line in `started`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.started = path / "started"
        self.started.touch()

    def child(self, script: str) -> Child:
        executable = self._path / "python"
        executable.write_text(f"#!/bin/sh\n{script}")
        executable.chmod(0o755)
        return Child(str(self.started), environment=ENVIRONMENT)

    async def until_started(self, runs: int) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while self.started.read_text().count("\n") < runs:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.01)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(children, "RESTART_S", 0.01)
    return Commands(tmp_path)


@pytest.mark.parametrize(("end", "reason"), [("kill -KILL $$", "SIGKILL"), ("exit 0", "exit status 0")])
async def test_child_that_exits_is_restarted_until_it_is_stopped(
    commands: Commands, capsys: pytest.CaptureFixture[str], end: str, reason: str
) -> None:
    child = commands.child(f'echo >> "$3"\n[ $(wc -l < "$3") -lt 3 ] && {end}\nexec sleep 60')
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(3)
    await child.stop(TIMEOUT_S)
    await running
    assert commands.started.read_text().count("\n") == 3
    assert capsys.readouterr().err.count(f"exited ({reason}); restarting it") == 2


async def test_child_that_cannot_start_is_not_restarted(commands: Commands) -> None:
    child = commands.child('echo >> "$3"\nexit 2')
    async with asyncio.timeout(TIMEOUT_S):
        await child.keep_running()
    assert commands.started.read_text().count("\n") == 1
    await child.stop(TIMEOUT_S)


async def test_child_that_ignores_the_stop_is_killed(commands: Commands) -> None:
    child = commands.child('trap "" TERM\necho >> "$3"\nexec sleep 60')
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(1)
    await child.stop(0.05)
    async with asyncio.timeout(TIMEOUT_S):
        await running
    assert child._process is not None
    assert child._process.returncode == -signal.SIGKILL


async def test_child_that_is_stopped_before_its_start_never_runs(commands: Commands) -> None:
    child = commands.child('echo >> "$3"\nexec sleep 60')
    await child.stop(TIMEOUT_S)
    await child.keep_running()
    assert commands.started.read_text() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not signal the death of a parent")
async def test_process_ends_with_its_parent() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        assert await parent.stdout.readline() == b"ready\n"
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        assert await parent.stdout.read() == b""  # the orphan, which holds the other end too, is gone
        await parent.wait()


def test_process_on_another_system_starts_without_that_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise OSError("no prctl here")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    die_with_parent()
