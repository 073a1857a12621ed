"""A worker and a frontend as processes of their own, on a server that is away."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from support.api import eventually
from support.stack import Process
from tailrace_cli.embedded import EmbeddedServer, free_port

AWAY = "(TAILRACE_REDIS_URL) does not respond: connection refused. Waiting for it …"
BACK = "(TAILRACE_REDIS_URL) is back after"


@pytest.fixture(params=[("worker",), ("frontend", "--port", "0")], ids=["worker", "frontend"])
async def process(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Process]:
    """A process whose Redis is in the directory `valkey`, and is not started."""
    server = EmbeddedServer(tmp_path / "valkey", port=free_port())
    operations = f"127.0.0.1:{free_port()}"
    environment = {
        "PATH": os.environ["PATH"],
        "TAILRACE_REDIS_URL": server.url,
        "TAILRACE_LEASE_S": "0.5",
        "TAILRACE_DRAIN_ACCEPT_S": "0",
        "TAILRACE_OPERATIONS_ADDRESS": operations,
        "TAILRACE_WORKER_OPERATIONS_ADDRESS": operations,
    }
    process = Process(*request.param, environment=environment, output=tmp_path / "output.log")
    process.operations = f"http://{operations}"  # type: ignore[attr-defined]
    await process.start()
    await process.wait_for_log(AWAY)
    process.redis = server  # type: ignore[attr-defined]
    yield process
    await process.stop(signal.SIGKILL)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_process_that_waits_for_redis_stops_when_it_is_asked_to(process: Process, sign: signal.Signals) -> None:
    async with asyncio.timeout(5):
        assert await process.stop(sign) == 0
    assert "Traceback" not in process.output


async def test_outage_is_one_line_and_its_end_another(process: Process) -> None:
    await asyncio.sleep(2)  # in which each loop notices the outage several times
    assert process.output.count("does not respond: ") == 1
    server: EmbeddedServer = process.redis  # type: ignore[attr-defined]
    await asyncio.to_thread(server.start)
    try:
        await process.wait_for_log(BACK)
        await asyncio.to_thread(server.stop)
        await process.wait_for_log("does not respond: ", times=2)
        await asyncio.sleep(2)
        await asyncio.to_thread(server.start)
        await process.wait_for_log(BACK, times=2)
        assert process.output.count("does not respond: ") == 2
        assert "Traceback" not in process.output
        assert await process.stop() == 0
    finally:
        await asyncio.to_thread(server.stop)


async def probes(process: Process) -> tuple[int, int, int]:
    """The statuses of `/livez`, `/startupz` and `/readyz`."""
    url: str = process.operations  # type: ignore[attr-defined]
    async with aiohttp.ClientSession() as http:
        statuses = []
        for path in ("livez", "startupz", "readyz"):
            async with http.get(f"{url}/{path}") as response:
                statuses.append(response.status)
    return statuses[0], statuses[1], statuses[2]


async def wait_for_probes(process: Process, expected: tuple[int, int, int]) -> None:
    async def are_expected() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return await probes(process) == expected
        return False

    await eventually(are_expected)


async def test_process_lives_while_redis_is_away_and_is_ready_once_it_is_back(process: Process) -> None:
    server: EmbeddedServer = process.redis  # type: ignore[attr-defined]
    pid = process.pid
    await wait_for_probes(process, (200, 200, 503))
    await asyncio.to_thread(server.start)
    try:
        await wait_for_probes(process, (200, 200, 200))
        await asyncio.to_thread(server.stop)
        await wait_for_probes(process, (200, 200, 503))
        await asyncio.to_thread(server.start)
        await wait_for_probes(process, (200, 200, 200))
    finally:
        await asyncio.to_thread(server.stop)
    assert process.pid == pid
    assert "GET /" not in process.output
    assert await process.stop() == 0


@pytest.mark.parametrize("arguments", [[], ["--ready"]])
async def test_health_command_asks_the_process(process: Process, arguments: list[str], tmp_path: Path) -> None:
    await wait_for_probes(process, (200, 200, 503))
    command = Process(
        "health", process.role, *arguments, environment=process.environment, output=tmp_path / "health.log"
    )
    await command.start()
    assert (await command.wait(), command.output) == (
        (1, "tailrace health: Redis cannot be reached. Retry after a moment.\n") if arguments else (0, "ok\n")
    )
