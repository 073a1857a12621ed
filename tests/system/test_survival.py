"""What the product is for: something dies in the middle of many answers, and nobody notices more than a pause.

Every upstream token is unique to its generation and its place, so that whatever is lost, doubled, reordered or mixed
shows in the text. Readers are plain clients that come again with the last id they saw, at the next frontend.
"""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from support.api import Api
from support.sse import Event, Parser, said
from support.stack import Stack, stack

GENERATIONS = 12
TOKENS = 120
RATE = 60
LEASE_S = 1.5

pytestmark = pytest.mark.timeout(120)


class Client:
    """Reads one generation to its end, whatever happens to its connections."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str], generation: str, tag: str, first: int = 0) -> None:
        self._http = http
        self.tag = tag
        self._urls = [f"{url}/v1/generations/{generation}/events" for url in urls]
        self._turn = first
        self.generation = generation
        self.events: list[Event] = []
        self.hears = asyncio.Event()

    @property
    def done(self) -> bool:
        return bool(self.events) and self.events[-1].kind == "done"

    async def read(self) -> None:
        cursor = ""
        while not self.done:
            parser = Parser()
            parser.last_id = cursor
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await self._read(parser, cursor)
            cursor = parser.last_id
            self._turn += 1
            if not self.done:
                await asyncio.sleep(0.1)  # a client's own pause before it comes again

    async def _read(self, parser: Parser, cursor: str) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        url = self._urls[self._turn % len(self._urls)]
        async with self._http.get(url, headers=headers) as answer:
            assert answer.status in (200, 204), await answer.text()
            async for data in answer.content.iter_any():
                self.events += parser.feed(data)
                if said(self.events):
                    self.hears.set()

    def assert_exact(self) -> None:
        """Exactly the tokens of this generation, each once and in order, and one end."""
        assert said(self.events) == "".join(f"{self.tag}.{k} " for k in range(TOKENS)), self.generation
        assert [event.kind for event in self.events].count("done") == 1
        assert self.events[-1].value["status"] == "completed"


@asynccontextmanager
async def answers(product: Stack) -> AsyncIterator[list[Client]]:
    """Many answers in the making, two readers each; at the end of the block all must be exact, and nothing left."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        api = Api(http, product.url)
        urls = [frontend.url for frontend in product.frontends]
        clients = []
        for number in range(GENERATIONS):
            tag = f"g{number}"
            tokens = {"tokens": {"count": TOKENS, "rate": RATE, "prefix": f"{tag}."}}
            generation = await api.play(tokens, {"delta": {}, "finish_reason": "stop"}, {"done": True})
            clients += [Client(http, urls, generation, tag, first) for first in (0, 1)]
        reading = [asyncio.create_task(client.read()) for client in clients]
        async with asyncio.timeout(30):
            await asyncio.gather(*(client.hears.wait() for client in clients))
        yield clients
        async with asyncio.timeout(60):
            await asyncio.gather(*reading)
        for client in clients:
            client.assert_exact()
            fresh = Client(http, urls, client.generation, client.tag)
            await fresh.read()
            fresh.assert_exact()


@asynccontextmanager
async def product(workers: int, frontends: int) -> AsyncIterator[Stack]:
    async with stack(workers=workers, frontends=frontends, lease_s=str(LEASE_S), drain_s="1") as running:
        yield running


async def test_a_killed_worker_costs_a_pause_and_nothing_else() -> None:
    async with product(workers=2, frontends=2) as running, answers(running):
        await running.workers[0].stop(signal.SIGKILL)
        await running.workers[0].start()


async def test_a_killed_frontend_costs_its_readers_a_reconnect() -> None:
    async with product(workers=1, frontends=2) as running, answers(running):
        await running.frontends[1].stop(signal.SIGKILL)
        await running.frontends[1].start()


async def test_a_killed_redis_costs_a_pause() -> None:
    async with product(workers=1, frontends=2) as running, answers(running):
        running.redis.kill()
        await asyncio.sleep(1)
        running.redis.start()


async def test_a_redis_that_comes_back_with_older_data_is_healed(tmp_path: Path) -> None:
    async with product(workers=1, frontends=2) as running, answers(running):
        log = running.redis.data_dir / "appendonlydir"
        shutil.copytree(log, tmp_path / "older")
        await asyncio.sleep(0.7)
        running.redis.kill()
        shutil.rmtree(log)
        shutil.copytree(tmp_path / "older", log)
        running.redis.start()


async def test_a_redis_that_comes_back_empty_gets_its_logs_from_the_workers() -> None:
    async with product(workers=1, frontends=2) as running, answers(running):
        running.redis.kill()
        shutil.rmtree(running.redis.data_dir / "appendonlydir")
        running.redis.start()


async def test_a_zombie_adds_nothing() -> None:
    async with product(workers=1, frontends=1) as running, answers(running):
        await running.add_worker()
        running.workers[0].send(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S + 1.5)
        running.workers[0].send(signal.SIGCONT)


async def test_a_rolling_restart_loses_nothing() -> None:
    async with product(workers=2, frontends=2) as running, answers(running):
        for worker in running.workers:
            await worker.says("runs up to")  # one that is still starting dies of a SIGTERM, as any process does
        for process in (*running.workers, *running.frontends):
            assert await process.stop() == 0
            await process.start()
        for frontend in running.frontends:
            await frontend.ready()
