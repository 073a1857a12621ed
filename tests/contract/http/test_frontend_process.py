"""A frontend that stops, and readers that stop reading."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.api import Api, Response, body, eventually
from support.product import Product, has_metric
from support.stack import Frontend

pytestmark = pytest.mark.asyncio(loop_scope="module")

ESTABLISHED = "01"
MAX_GROWTH_KB = 10 * 1024
SLOW_PIECES, SLOW_PIECE = 12_800, 4096  # 50 MiB

StalledClient = Callable[..., socket.socket]


@pytest.fixture
def stalled_client() -> Iterator[StalledClient]:
    """Clients that request a path, with a cursor or without, and then read nothing."""
    with ExitStack() as clients:
        yield lambda *request: clients.enter_context(_request(*request))


def _request(frontend: Frontend, path: str, cursor: str = "") -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", frontend.port))
    header = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n".encode())
    client.setblocking(False)
    return client


async def _not_ready(api: Api) -> Response | None:
    told = await api.request("GET", "/readyz")
    return told if told.status == 503 else None


async def _long(product: Product, pieces: int, size: int = 64 * 1024) -> str:
    """A finished generation of so many pieces, more than sockets hold."""
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    for _ in range(pieces):
        await writer.write_text("x" * size)
    await writer.end()
    return generation_id


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def _clients(frontend: Frontend) -> int:
    """How many clients' sockets the process holds."""
    folder = Path(f"/proc/{frontend.pid}/fd")
    held = {str(each.readlink()) for each in folder.iterdir() if each.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{frontend.port:04X}"
    return sum(f"socket:[{line[9]}]" in held for line in lines if line[1].endswith(here) and line[3] == ESTABLISHED)


async def _drained(line: socket.socket) -> bytes:
    """Everything that is left in a line, to its end, however it ends."""
    told = b""
    try:
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(line, 2**20), 10):
            told += data
    except ConnectionResetError:
        pass
    return told


async def _holds(node: Frontend, enough: Callable[[int], bool]) -> bool:
    return enough(_clients(node))


async def test_a_frontend_that_is_told_to_stop_sends_its_streams_elsewhere_and_is_gone_in_time(
    product: Product,
) -> None:
    async with product.frontend(drain_s="1") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        streams = [await api.stream(generation_id) for _ in range(8)]
        for stream in streams:
            await stream.until_said("Hello")
        waiting = asyncio.create_task(api.get(generation_id, "?wait=30"))
        await eventually(lambda: has_metric(api, "tailrace_readers", 9))
        began = time.monotonic()
        node.send(signal.SIGTERM)
        await asyncio.gather(*(stream.rest() for stream in streams))
        for stream in streams:
            assert 1000 <= (stream.parser.retry or 0) <= 3000
            assert stream.parser.comments == ["this server is stopping"]
            assert stream.parser.last_id.split("-")[0] == str(writer.epoch)
        assert (await waiting).value["status"] == "running"
        assert await node.wait() == 0
        assert time.monotonic() - began < 2.5
        assert "Traceback" not in node.output
    await writer.write_text(" there")
    await writer.end()
    for stream in streams:
        rest = await product.api.read(generation_id, stream.parser.last_id)
        assert stream.text + rest.text == "Hello there"


async def test_while_a_frontend_stops_it_is_not_ready_and_opens_nothing_new(
    product: Product, stalled_client: StalledClient
) -> None:
    async with product.frontend(drain_s="3") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        path = f"/v1/generations/{await _long(product, 160)}/events"
        stalled_client(node, path)  # who never reads keeps it waiting for the grace period
        await eventually(lambda: has_metric(api, "tailrace_readers", 2))
        began = time.monotonic()
        node.send(signal.SIGTERM)
        told = await eventually(lambda: _not_ready(api))
        assert told.refusal == (503, "unavailable")
        assert "stopping" in told.error["message"]
        told = await api.events(generation_id)
        assert (told.status, told.body[:7]) == (200, b"retry: ")
        assert (await api.events(generation_id, Accept="application/x-ndjson")).refusal == (503, "unavailable")
        told = await api.request("POST", "/v1/generations", json=body(), headers={"Accept": "text/event-stream"})
        assert told.status == 200
        assert b": this server is stopping\n" in told.body
        assert told.headers["location"].startswith("/v1/generations/gen_")
        await stream.rest()
        await node.wait()
        assert 2.5 < time.monotonic() - began < 4.5  # of two readers one never took its leave


async def test_readers_that_stop_reading_cost_a_page_each_slow_nobody_and_are_cut(
    product: Product, stalled_client: StalledClient
) -> None:
    async with product.frontend(client_write_timeout_s="1.5") as node:
        api = Api(product.http, node.url)
        await api.read(await product.completed("warm", "up"))
        generation_id = await api.create()
        writer = await product.writer(generation_id)
        path = f"/v1/generations/{generation_id}/events"
        slow = [stalled_client(node, path) for _ in range(3)]
        await eventually(lambda: has_metric(api, "tailrace_readers", 3))
        before = peak = _rss_kb(node.pid)
        told = 0

        async def tell() -> None:
            for _ in range(SLOW_PIECES // 16):
                await writer.write_text(*["~" * SLOW_PIECE] * 16)

        telling = asyncio.create_task(tell())
        async with product.http.get(api.url + path) as answer:
            while told < SLOW_PIECES * SLOW_PIECE:
                told += (await answer.content.readany()).count(b"~")
                peak = max(peak, _rss_kb(node.pid))
        await telling
        assert peak - before < MAX_GROWTH_KB
        await eventually(lambda: has_metric(api, "tailrace_readers", 0), 6)
        assert _rss_kb(node.pid) - before < MAX_GROWTH_KB
        for line in slow:
            rest = await _drained(line)
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert not rest.endswith(b"0\r\n\r\n")
            assert rest.count(b"~") < told / 2
    await product.log.delete(generation_id)


async def test_who_stops_reading_just_before_the_end_is_cut_too(
    product: Product, stalled_client: StalledClient
) -> None:
    async with product.frontend(client_write_timeout_s="0.5") as node:
        generation_id = await _long(product, 200, 16 * 1024)
        path = f"/v1/generations/{generation_id}/events"
        entries = [entry async for entry in product.log.read_all(generation_id)]
        lines = [stalled_client(node, path, str(entry.id)) for entry in entries[4:-1:3]]
        api = Api(product.http, node.url)
        await eventually(lambda: has_metric(api, "tailrace_streams_opened_total", len(lines)))
        await eventually(lambda: _holds(node, lambda clients: clients <= 1), 6)  # one asks for the figures
