"""Processes on a server that lacks something name it: a frontend is not ready, a worker does not start."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api
from support.refusing_server import Refusal, refusing_server, without_commands, without_flags
from support.stack import Process, Stack, stack
from tailrace.settings import Settings
from tailrace_cli import health

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Stack]:
    async with stack(workers=0, frontends=1) as running:
        yield running


@pytest.mark.parametrize(
    ("refusal", "missing"),
    [
        (without_commands("SPUBLISH"), "has no sharded pub/sub (SPUBLISH): by it readers receive what is appended"),
        (without_commands("XADD", "XREVRANGE"), "has no streams (XADD, XREVRANGE): every log is one"),
        (without_flags, "takes no flags of scripts (#!lua): by them a server without room still ends what runs"),
    ],
)  # fmt: skip
async def test_frontend_and_worker_name_what_their_server_lacks(
    running: Stack, tmp_path: Path, refusal: Refusal, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with refusing_server(running.redis.port, refusal) as server, aiohttp.ClientSession() as http:
        frontend = await running.add_frontend(redis_url=server.url)
        await frontend.wait_for_log("Redis is unfit")
        assert missing in frontend.output
        answer = await Api(http, frontend.url).request("GET", "/readyz")
        assert answer.status == 503
        assert missing in answer.value["error"]["message"]
        asked = asyncio.to_thread(health.main, Settings(port=frontend.port), role="frontend", is_readiness=True)
        assert await asked == 1
        assert missing in capsys.readouterr().err
        await frontend.stop()

        environment = frontend.environment | {"TAILRACE_REDIS_URL": server.url}
        worker = Process("worker", environment=environment, output=tmp_path / "worker.log")
        await worker.start()
        await worker.wait_for_log(missing)
        assert await worker.wait() == 2
