"""The limit of open files, in processes of their own."""

import subprocess
import sys

import pytest

PROCESS = """
import logging, resource, sys
from {module} import {served}, main
from tailrace.settings import Settings

def tell(_):
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))

async def tell_later(_):
    tell(_)

logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 4096))
{served}.run = {tell}
main(Settings({setting}=int(sys.argv[1])))
"""
FRONTEND = PROCESS.format(module="tailrace_frontend.server", served="Server", tell="tell", setting="max_readers")
WORKER = PROCESS.format(
    module="tailrace_worker.worker", served="GenerationWorker", tell="tell_later", setting="max_jobs"
)


def started(process: str, connections: int) -> tuple[str, str]:
    """What it finds as its limits, and what it logs."""
    run = subprocess.run([sys.executable, "-c", process, str(connections)], check=True, capture_output=True, text=True)
    return run.stdout.strip(), run.stderr


@pytest.mark.parametrize("process", [FRONTEND, WORKER], ids=["frontend", "worker"])
def test_a_server_may_open_as_many_files_as_the_machine_allows(process: str) -> None:
    assert started(process, 3896) == ("4096 4096", "")


@pytest.mark.parametrize("process", [FRONTEND, WORKER], ids=["frontend", "worker"])
def test_a_server_that_may_open_too_few_says_so(process: str) -> None:
    limits, logged = started(process, 3897)
    assert limits == "4096 4096"
    assert "may have 4096 files open and is set to serve 3897 connections" in logged
