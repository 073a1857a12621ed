"""The processes of `tailrace dev`: restarted when they exit, stopped for certain, never orphaned."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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

    def child(self, script: str, **options: Any) -> Child:
        executable = self._path / "python"
        executable.write_text(f"#!/bin/sh\n{script}")
        executable.chmod(0o755)
        return Child("worker", environment=ENVIRONMENT | {"FILE": str(self.started)}, **options)

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
    commands: Commands, caplog: pytest.LogCaptureFixture, end: str, reason: str
) -> None:
    child = commands.child(f'echo >> "$FILE"\n[ $(wc -l < "$FILE") -lt 3 ] && {end}\nexec sleep 60')
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(3)
    await child.stop(TIMEOUT_S)
    await running
    assert commands.started.read_text().count("\n") == 3
    assert caplog.messages.count(f"worker exited ({reason}); restarting it") == 2


async def test_child_that_is_killed_is_restarted_until_it_is_stopped(commands: Commands) -> None:
    child = commands.child('echo >> "$FILE"\nexec sleep 60')
    assert not child.kill(), "it has not started"
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(1)
    assert child.kill()
    await commands.until_started(2)
    await child.stop(TIMEOUT_S)
    assert not child.kill()
    await running
    assert commands.started.read_text().count("\n") == 2


async def test_each_start_of_a_child_is_reported_with_its_pid(commands: Commands) -> None:
    starts: list[tuple[str, int]] = []
    child = commands.child(
        'echo $$ >> "$FILE"\n[ $(wc -l < "$FILE") -lt 3 ] && exit 0\nexec sleep 60',
        on_start=lambda name, pid: starts.append((name, pid)),
    )
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(3)
    await child.stop(TIMEOUT_S)
    await running
    assert starts == [(child.name, int(pid)) for pid in commands.started.read_text().split()]


async def test_each_exit_of_a_child_is_reported_with_the_name_that_its_process_had(commands: Commands) -> None:
    exits: list[str] = []

    async def on_exit(worker: str, pid: int) -> None:
        assert commands.started.read_text().split() == [*exits, worker]  # the next one has not started
        exits.append(worker)

    child = commands.child(
        'echo "$TAILRACE_WORKER_NAME" >> "$FILE"\n[ $(wc -l < "$FILE") -lt 3 ] && exit 0\nexec sleep 60',
        on_exit=on_exit,
    )
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(3)
    await child.stop(TIMEOUT_S)
    await running
    assert exits == commands.started.read_text().split()[:2]
    assert len(set(exits)) == 2


@pytest.mark.parametrize(("ran_s", "pauses"), [(children.QUICK_S - 1, [1.0]), (children.QUICK_S + 1, [0.0])])
async def test_child_that_has_run_is_restarted_at_once_and_another_after_a_pause(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, ran_s: float, pauses: list[float]
) -> None:
    slept: list[float] = []
    child = commands.child('echo >> "$FILE"\nexit 0')

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        child._stopping.set()

    clock = iter((0.0, ran_s))
    monkeypatch.setattr(children, "RESTART_S", 1.0)
    monkeypatch.setattr(children, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await child.keep_running()
    assert slept == pauses


async def test_child_inherits_its_sockets(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = commands.child(
            f'[ -S /dev/fd/{listener.fileno()} ] && echo >> "$FILE"\nexec sleep 60', sockets=[listener]
        )
        running = asyncio.create_task(child.keep_running())
        await commands.until_started(1)
        await child.stop(TIMEOUT_S)
        await running


async def test_child_that_is_stopped_while_its_process_is_created_ends(commands: Commands) -> None:
    child = commands.child('echo >> "$FILE"\nexec sleep 60')
    running = asyncio.create_task(child.keep_running())
    await asyncio.sleep(0)
    await child.stop(TIMEOUT_S)
    async with asyncio.timeout(TIMEOUT_S):
        await running


async def test_child_that_cannot_start_is_reported_and_not_restarted(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    child = commands.child('echo >> "$FILE"\nexit 2')
    async with asyncio.timeout(TIMEOUT_S):
        await child.keep_running()
    assert commands.started.read_text().count("\n") == 1
    assert caplog.messages == ["worker could not start (exit status 2)"]
    await child.stop(TIMEOUT_S)


async def test_child_that_ignores_the_stop_is_killed(commands: Commands) -> None:
    child = commands.child('trap "" TERM\necho >> "$FILE"\nexec sleep 60')
    running = asyncio.create_task(child.keep_running())
    await commands.until_started(1)
    await child.stop(0.05)
    async with asyncio.timeout(TIMEOUT_S):
        await running
    assert child._process is not None
    assert child._process.returncode == -signal.SIGKILL


async def test_child_that_is_stopped_before_its_start_never_runs(commands: Commands) -> None:
    child = commands.child('echo >> "$FILE"\nexec sleep 60')
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
