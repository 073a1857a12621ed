"""The npm `eventsource` client, without Tailrace's own script, under the failures that a deployment meets."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support import npm
from support.stack import Stack, stack

HERE = Path(__file__).parent / "eventsource"
TOKENS = 400

pytestmark = [
    pytest.mark.long,
    npm.requires_npm,
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def client() -> Path:
    """The script that runs the client, with its locked npm packages installed."""
    return npm.install(HERE) / "follow.mjs"


@pytest.fixture
async def product() -> AsyncIterator[Stack]:
    async with stack(lease_s="2", drain_s="0.5") as running:
        yield running


async def create(product: Stack, rate: int) -> str:
    """Create a generation of unique tokens. Returns the URL of its events."""
    script = [{"tokens": {"count": TOKENS, "rate": rate}}, {"delta": {}, "finish_reason": "stop"}, {"done": True}]
    body = {"model": "scripted", "messages": [{"role": "user", "content": "count"}], "script": script}
    async with aiohttp.ClientSession() as http, http.post(f"{product.url}/v1/generations", json=body) as answer:
        return product.url + str((await answer.json())["events_url"])


class ClientProcess:
    """The client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[dict[str, Any]] = []

    async def read(self, until: int | None = None) -> None:
        """Read until `until` text events have arrived, or to the end."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))
            if until is not None and sum(event["kind"] == "text" for event in self.events) >= until:
                return

    @property
    def text(self) -> str:
        return "".join(event["data"]["text"] for event in self.events if event["kind"] == "text")


async def follow(client: Path, url: str) -> ClientProcess:
    return ClientProcess(await asyncio.create_subprocess_exec("node", str(client), url, stdout=asyncio.subprocess.PIPE))


def assert_whole(reader: ClientProcess) -> None:
    assert reader.text == "".join(f"t{k} " for k in range(TOKENS))
    assert [event["kind"] for event in reader.events].count("done") == 1
    seqs = [int(event["id"].split("-")[1]) for event in reader.events]
    assert seqs == sorted(set(seqs))


async def test_killed_frontend_costs_no_token(product: Stack, client: Path) -> None:
    reader = await follow(client, await create(product, rate=80))
    await reader.read(until=40)
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGKILL)
    await frontend.start()
    await reader.read()
    assert_whole(reader)


async def test_redis_outage_of_ten_seconds_costs_no_token(product: Stack, client: Path) -> None:
    reader = await follow(client, await create(product, rate=40))
    await reader.read(until=40)
    product.redis.kill()
    await asyncio.sleep(10)
    product.redis.start()
    await reader.read()
    assert_whole(reader)


async def test_gracefully_restarted_frontend_costs_no_token(product: Stack, client: Path) -> None:
    reader = await follow(client, await create(product, rate=80))
    await reader.read(until=40)
    frontend = product.frontends[0]
    await frontend.stop(signal.SIGTERM)
    await frontend.start()
    await reader.read()
    assert_whole(reader)
