"""The limit of open files, raised in processes of their own."""

import resource
import subprocess
import sys

import pytest

from tailrace.process.rlimits import SPARE, available_files, raise_open_file_limit

PROCESS = """
import logging, resource, sys
from {module} import {served}, main
from tailrace.settings import Settings

def print_limits(_, **__):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

async def print_limits_async(_):
    print_limits(_)

logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 4096))
{served}.run = {run}
main(Settings({setting}=int(sys.argv[1]), port=0))
"""
FRONTEND = PROCESS.format(
    module="tailrace_frontend.server", served="Server", run="print_limits", setting="max_connections"
)
WORKER = PROCESS.format(
    module="tailrace_worker.worker", served="GenerationWorker", run="print_limits_async", setting="max_jobs"
)


def run_process(process: str, connections: int) -> tuple[str, str]:
    """Start a process for so many connections. Returns the limits that it prints and the lines that it logs."""
    run = subprocess.run([sys.executable, "-c", process, str(connections)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip(), run.stderr


@pytest.mark.parametrize("process", [FRONTEND, WORKER], ids=["frontend", "worker"])
def test_soft_limit_is_raised_to_the_hard_limit(process: str) -> None:
    assert run_process(process, 3896) == ("4096 4096", "")


@pytest.mark.parametrize("process", [FRONTEND, WORKER], ids=["frontend", "worker"])
def test_limit_too_low_for_the_connections_is_logged(process: str) -> None:
    limits, logged = run_process(process, 3897)
    assert limits == "4096 4096"
    assert "the limit of open files is 4096, too low for the configured 3897 connections" in logged


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_limit_that_the_system_does_not_raise_is_judged_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    """macOS enforces a lower limit than it reports."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_open_file_limit(512 - SPARE)
    assert caplog.messages == []
    raise_open_file_limit(512 - SPARE + 1)
    assert "the limit of open files is 512, too low" in caplog.text


def test_server_accepts_connections_up_to_the_limit_without_the_spare_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert available_files() == 1024 - SPARE
    monkeypatch.setattr(resource, "getrlimit", lambda _: (SPARE, SPARE))
    assert available_files() == 1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert available_files() == sys.maxsize
