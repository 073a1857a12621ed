"""Three processes with the same model: one of them is killed under 200 generations, and comes back."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.metrics import over_all
from support.stack import Process, Stack, stack
from support.upstreams import write_config
from tailrace_cli.embedded import free_port

FAILURES = 5
PROBE_S = 1.0
REPORT_S = 1.0
"""A worker reports its calls, and a frontend reads them, within that time."""

WORDS = 100
SCRIPT: list[dict[str, Any]] = [
    {"tokens": {"count": WORDS, "rate": 20}},
    {"delta": {}, "finish_reason": "stop"},
    {"done": True},
]
"""Five seconds of an answer."""

UPSTREAM = '[[upstreams]]\nname = "{name}"\nbase_url = "http://127.0.0.1:{port}/v1"\n'


class Product:
    def __init__(self, running: Stack, http: aiohttp.ClientSession, upstreams: dict[str, Process]) -> None:
        self.stack = running
        self.api = Api(http, running.url)
        self.upstreams = upstreams

    async def create(self, count: int) -> list[str]:
        return list(await asyncio.gather(*(self.api.create_scripted(*SCRIPT) for _ in range(count))))

    async def ends(self, ids: list[str]) -> list[Any]:
        return list(await asyncio.gather(*map(self.api.wait_for_result, ids)))

    async def metric(self, name: str, upstream: str) -> float:
        fold = max if name == "circuit_open" else sum
        return await over_all(self.stack.metrics_ports, f"tailrace_upstream_{name}", fold, upstream=upstream)


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    ports = {name: free_port() for name in ("one", "two", "three")}
    upstreams = {
        name: Process("demo-model", "--port", str(port), environment={}, output=tmp_path / f"{name}.log")
        for name, port in ports.items()
    }
    for process in upstreams.values():
        await process.start()
    tables = (UPSTREAM.format(name=name, port=port) for name, port in ports.items())
    config = write_config(tmp_path / "tailrace.toml", *tables)
    settings: Any = {"lease_s": "1", "circuit_failures": str(FAILURES), "circuit_probe_s": str(PROBE_S)}
    async with aiohttp.ClientSession() as http, stack(workers=2, frontends=1, config=config, **settings) as running:
        for port in ports.values():
            await eventually(partial(_is_up, http, port))
        yield Product(running, http, upstreams)
    for process in upstreams.values():
        await process.stop()


async def _is_up(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/v1/models") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@pytest.mark.long
async def test_upstream_that_is_killed_under_200_generations_costs_none(product: Product) -> None:
    ids = await product.create(200)
    last = await product.api.stream(ids[-1])
    await last.until("text", 3)
    await product.upstreams["one"].stop(signal.SIGKILL)
    ends = await product.ends(ids)
    assert Counter(end["status"] for end in ends) == {"completed": 200}
    assert {len(end["output"][0]["text"].split()) for end in ends} == {WORDS}
    restarted = [end for end in ends if end["stream"]["attempts"] == 2]
    assert len(restarted) >= 100, "it was killed in the middle"
    assert {end["upstream"]["name"] for end in restarted} <= {"two", "three"}

    async def is_open() -> bool:
        return await product.metric("circuit_open", "one") == 1

    async def is_closed() -> bool:
        return not await is_open()

    await eventually(is_open)
    calls = await product.metric("requests_total", "one")
    ends = await product.ends(await product.create(20))
    assert Counter(end["status"] for end in ends) == {"completed": 20}
    assert await product.metric("requests_total", "one") - calls <= 4, "nothing but probes"

    await product.upstreams["one"].start()
    began = time.monotonic()
    load = asyncio.create_task(_keep_creating(product))
    await eventually(is_closed)
    took_s = time.monotonic() - began
    load.cancel()
    assert took_s <= PROBE_S + REPORT_S + 2.0  # a process takes up to 2 s to start here


async def _keep_creating(product: Product) -> None:
    while True:
        await product.create(1)
        await asyncio.sleep(0.2)
