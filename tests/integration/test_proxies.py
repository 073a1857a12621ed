"""The shipped configurations of nginx, HAProxy and Caddy, with the real servers and two frontends behind each.

What is asserted of time is an order: an event is received before the next one is written. A proxy that buffers never
passes that, however fast the machine is.
"""

import asyncio
import contextlib
import itertools
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, body, eventually
from support.cutting_backends import backends
from support.log_writer import LogWriter
from support.metrics import sums
from support.proxied_clients import Creator, Reader
from support.proxy_servers import KINDS, ProxyServer, proxy_server
from support.sse import Stream
from support.stack import Frontend, Stack, stack
from tailrace.events import Text
from tailrace.log import Log
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEEPALIVE_S = 60  # no beat passes in any test: what a proxy does without one is seen
LEASE_MS = 600_000
DRAIN_S = 3
CHECKS = {"nginx": {}, "haproxy": {"inter 1s": "inter 200ms"}, "caddy": {"health_interval 1s": "health_interval 200ms"}}
"""A stopping frontend accepts connections for fifteen of a proxy's checks, as in production for five."""

GENERATIONS, READERS = 5, 2
POSTS = 10


class Behind(NamedTuple):
    """A proxy, and a client of it over TLS that trusts its certificate."""

    proxy: ProxyServer
    http: aiohttp.ClientSession
    api: Api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    async with stack(workers=0, frontends=2, keepalive_s=str(KEEPALIVE_S)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(product: Stack) -> AsyncIterator[Log]:
    log = Log(RedisServer.connect(product.redis.url), LEASE_MS)
    yield log
    await log.server.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def behind(
    request: pytest.FixtureRequest, product: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Behind]:
    folder = tmp_path_factory.mktemp(request.param)
    ports = [frontend.port for frontend in product.frontends]
    async with proxy_server(request.param, folder, ports, CHECKS[request.param]) as proxy, client(proxy) as http:
        yield Behind(proxy, http, Api(http, proxy.url))


def client(proxy: ProxyServer) -> aiohttp.ClientSession:
    trusted = ssl.create_default_context(cafile=proxy.certificate.certificate)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted, limit=0))


async def readers(product: Stack) -> float:
    """Event streams that the frontends serve."""
    async with aiohttp.ClientSession() as http:
        found = [
            sums((await Api(http, each.url).request("GET", "/metrics")).body.decode()) for each in product.frontends
        ]
    return sum(each["tailrace_readers"] for each in found)


async def test_proxy_passes_each_event_before_the_next_is_written(behind: Behind, log: Log) -> None:
    generation_id = await behind.api.create()
    writer = await LogWriter.start(log, generation_id)
    stream = await behind.api.stream(generation_id)
    for number in range(20):
        await writer.write_text(f"<{number}>")
        await stream.until_text(f"<{number}>")
    await writer.end()
    await stream.rest()
    assert stream.kinds[-1] == "done"


async def test_proxy_passes_what_a_page_of_no_tls_reads(behind: Behind, log: Log) -> None:
    api = Api(behind.http, behind.proxy.plain_url)
    writer = await LogWriter.start(log, await api.create())
    stream = await api.stream(writer.generation_id)
    for text in ("one", "two"):
        await writer.write_text(text)
        await stream.until_text(text)
    await writer.end()
    assert (await stream.rest())[-1].kind == "done"


async def test_proxy_passes_the_cursor(behind: Behind, log: Log) -> None:
    writer = await LogWriter.start(log, await behind.api.create())
    await writer.write_text("read ", "once ", "only")
    await writer.end()
    whole = await behind.api.read(writer.generation_id)
    for cut in range(len(whole.events) - 1):
        rest = await behind.api.read(writer.generation_id, whole.events[cut].id)
        assert rest.events == whole.events[cut + 1 :]
    assert (await behind.api.events(writer.generation_id, Last_Event_ID=str(whole.events[-1].id))).status == 204


def leave(stream: Stream) -> None:
    """Close the connection as a browser does that goes away."""
    assert stream.response.connection is not None
    assert stream.response.connection.transport is not None
    stream.response.connection.transport.abort()


async def test_client_that_leaves_is_noticed_without_a_further_event(behind: Behind, product: Stack, log: Log) -> None:
    """Otherwise it counts as a reader until the next event, and `on_disconnect: cancel` waits for that."""

    async def none_left() -> bool:
        return await readers(product) == 0

    await eventually(none_left)
    for url in (behind.proxy.url, behind.proxy.plain_url):
        writer = await LogWriter.start(log, await behind.api.create())
        stream = await Api(behind.http, url).stream(writer.generation_id)
        await writer.write_text("one")
        await stream.until_text("one")
        assert await readers(product) == 1
        leave(stream)
        await eventually(none_left)


async def test_client_that_leaves_the_stream_of_its_post_is_noticed_too(
    behind: Behind, product: Stack, log: Log
) -> None:
    """As those of OpenAI's routes are. Behind HAProxy it takes another way."""

    async def none_left() -> bool:
        return await readers(product) == 0

    await eventually(none_left)
    url, headers = f"{behind.proxy.url}/v1/generations", {"Accept": "text/event-stream"}
    stream = Stream(await behind.http.post(url, json=body(), headers=headers))
    writer = await LogWriter.start(log, stream.response.headers["Location"].rpartition("/")[2])
    for text in ("one", "two", "three"):
        await writer.write_text(text)
        await stream.until_text(text)
    leave(stream)
    await eventually(none_left)


class Load(NamedTuple):
    """What clients do while a frontend ends: readers of logs that grow, and one that creates."""

    creator: Creator
    readers: list[Reader]


@contextlib.asynccontextmanager
async def load(behind: Behind, log: Log) -> AsyncIterator[Load]:
    """Readers and a creator during the block; the logs end with it, and each reader has its whole text."""
    writers = [await LogWriter.start(log, await behind.api.create()) for _ in range(GENERATIONS)]
    clients = [Reader(behind.http, behind.proxy.url, each.generation_id) for each in writers for _ in range(READERS)]
    creator = Creator(behind.api)
    is_over = asyncio.Event()

    async def write() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            for each in writers:
                await each.write_text(f"{number} ")
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(each.run()) for each in clients]
        writing, creating = group.create_task(write()), asyncio.create_task(creator.run())
        try:
            await creator.goes_on()
            yield Load(creator, clients)
            await creator.goes_on()
        finally:
            await cancel_and_wait(creating)
            is_over.set()
        await writing
        for each in writers:
            await each.end()
        async with asyncio.timeout(20):
            await asyncio.gather(*reading)
    whole = [text_of(each) for each in writers for _ in range(READERS)]
    assert [each.text for each in clients] == whole


def text_of(writer: LogWriter) -> str:
    return "".join(event.text for event in (entry.event for entry in writer.entries) if isinstance(event, Text))


@contextlib.asynccontextmanager
async def leaving(behind: Behind, frontend: Frontend) -> AsyncIterator[None]:
    """Until the end of the block, which stops the frontend, it takes its time for that. The proxy uses it before and
    after."""
    before = frontend.environment
    periods = {"TAILRACE_DRAIN_S": str(DRAIN_S), "TAILRACE_DRAIN_ACCEPT_S": str(DRAIN_S)}
    for environment in (before | periods, before):
        await frontend.stop(signal.SIGKILL)
        await frontend.restart_with(environment)
        await frontend.ready()
        await eventually(lambda: is_used(behind, frontend))
        if environment is not before:
            yield


async def is_used(behind: Behind, frontend: Frontend) -> bool:
    """Whether one of two streams through the proxy is at this frontend."""
    generation_id = await behind.api.create()
    streams = [await behind.api.stream(generation_id) for _ in range(2)]
    metrics = await Api(behind.http, frontend.url).request("GET", "/metrics")
    for stream in streams:
        stream.cut()
    return sums(metrics.body.decode())["tailrace_readers"] > 0


@pytest.mark.long
async def test_frontend_that_drains_behind_the_proxy_costs_no_client_an_error(
    behind: Behind, product: Stack, log: Log
) -> None:
    stopped = product.frontends[0]
    async with leaving(behind, stopped), load(behind, log) as clients:
        assert await stopped.stop(signal.SIGTERM) == 0
    assert clients.creator.problems == []
    assert [each.breaks for each in clients.readers] == [[]] * len(clients.readers)
    assert sum(each.opened for each in clients.readers) > len(clients.readers), "streams ended with a retry hint"


@pytest.mark.long
async def test_frontend_that_is_killed_behind_the_proxy_costs_no_reader_text(
    behind: Behind, product: Stack, log: Log
) -> None:
    """A stream through it is cut. A POST that it had accepted may be lost, and one client creates; Caddy fails POSTs
    until the next check."""
    killed = product.frontends[0]
    async with leaving(behind, killed), load(behind, log) as clients:
        await killed.stop(signal.SIGKILL)
    assert behind.proxy.kind == "caddy" or len(clients.creator.problems) <= 1, clients.creator.problems
    assert any("cut" in each.breaks for each in clients.readers)


@pytest.mark.parametrize("kind", KINDS)
async def test_proxy_repeats_no_post_that_a_frontend_has_received(kind: str, tmp_path: Path) -> None:
    async with backends(kind, tmp_path) as (proxy, served), client(proxy) as http:
        for number in range(POSTS):
            headers = {"Idempotency-Key": f"key-{number}"}  # Go repeats a request that has one, on a kept connection
            async with http.post(f"{proxy.url}/v1/generations", data=f"{number}", headers=headers) as answer:
                assert answer.status == 502
    received = sorted(int(body) for each in served for body in each.bodies)
    assert received == list(range(POSTS)), "each once"


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_proxy_takes_a_post_to_another_frontend_where_one_does_not_listen(
    kind: str, product: Stack, tmp_path: Path
) -> None:
    ports = [free_port(), product.frontends[0].port]
    async with proxy_server(kind, tmp_path, ports) as proxy, client(proxy) as http:
        for _ in range(POSTS):
            await Api(http, proxy.url).create()


@pytest.mark.parametrize("kind", KINDS)
async def test_proxy_writes_no_ticket_into_a_log(kind: str, tmp_path: Path) -> None:
    """Of a stream that is cut, and of one that no frontend answers."""
    changes = {"lb_try_duration 5s": "lb_try_duration 200ms"} if kind == "caddy" else {}
    async with backends(kind, tmp_path, changes) as (proxy, _), client(proxy) as http:
        path = "/v1/generations/gen_x/events?ticket=secret-ticket"
        async with http.get(proxy.url + path) as answer:
            with contextlib.suppress(aiohttp.ClientPayloadError):  # Caddy 2.6 ends it as if it were whole
                assert await answer.read() == b":\n\n"
        path = "/v1/generations/gen_x/other?ticket=secret-ticket"
        if kind == "nginx":
            path = "/v1/generations/gen_y/events?ticket=secret-ticket"  # of other paths it logs the whole line
        async with http.get(proxy.url + path) as answer:
            assert answer.status in (200, 502, 503, 504)
            with contextlib.suppress(aiohttp.ClientPayloadError):
                await answer.read()
    assert "secret-ticket" not in proxy.output
    if kind == "caddy":
        assert "REDACTED" in proxy.output
