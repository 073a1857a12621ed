"""A worker as a process of its own, on a server that is away."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from support.stack import Process
from tailrace_cli.embedded import free_port


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_worker_that_waits_for_redis_stops_when_it_is_asked_to(tmp_path: Path, sign: signal.Signals) -> None:
    environment = {"PATH": os.environ["PATH"], "TAILRACE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    worker = Process("worker", environment=environment, output=tmp_path / "worker.log")
    await worker.start()
    await worker.wait_for_log("redis: RedisUnavailable")
    try:
        async with asyncio.timeout(5):
            assert await worker.stop(sign) == 0
    except TimeoutError:
        await worker.stop(signal.SIGKILL)
        raise
    assert "Traceback" not in worker.output
