"""The process of a frontend: shutdown, and the memory and connections of stalled readers."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.api import Api, Response, body, eventually
from support.product import UNKNOWN_ID, Product, has_metric
from support.stack import Frontend
from support.stored_log import Snapshot
from tailrace.lifecycle.termination import CONFIRM_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

ESTABLISHED = "01"  # in /proc/net/tcp
MAX_GROWTH_KB = 10 * 1024
TEXTS, TEXT_BYTES = 12_800, 4096  # 50 MiB

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
    response = await api.request("GET", "/readyz")
    return response if response.status == 503 else None


async def _long_generation(product: Product, pieces: int, size: int = 64 * 1024) -> str:
    """The id of a finished generation of so many texts: more than socket buffers hold."""
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
    """How many connections of clients the process has open."""
    folder = Path(f"/proc/{frontend.pid}/fd")
    held = {str(each.readlink()) for each in folder.iterdir() if each.is_symlink()}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{frontend.port:04X}"
    return sum(f"socket:[{row[9]}]" in held for row in rows if row[1].endswith(here) and row[3] == ESTABLISHED)


async def _received(client: socket.socket) -> bytes:
    """Everything that a client still receives, until its connection ends or is reset."""
    received = b""
    try:
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 2**20), 10):
            received += data
    except ConnectionResetError:
        pass
    return received


async def _has_clients(frontend: Frontend, expected: Callable[[int], bool]) -> bool:
    return expected(_clients(frontend))


async def test_stopping_frontend_ends_its_streams_with_retry_and_exits_in_time(
    product: Product,
) -> None:
    async with product.frontend(drain_s="1") as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        writer = await product.writer(generation_id)
        await writer.write_text("Hello")
        streams = [await api.stream(generation_id) for _ in range(8)]
        for stream in streams:
            await stream.until_text("Hello")
        waiting = asyncio.create_task(api.get(generation_id, "?wait=30"))
        await eventually(lambda: has_metric(api, "tailrace_readers", 9))
        began = time.monotonic()
        frontend.send(signal.SIGTERM)
        await asyncio.gather(*(stream.rest() for stream in streams))
        for stream in streams:
            assert 1000 <= (stream.parser.retry or 0) <= 3000
            assert stream.parser.comments == ["this frontend is stopping"]
            assert stream.parser.last_id.split("-")[0] == str(writer.epoch)
        assert (await waiting).value["status"] == "running"
        assert await frontend.wait() == 0
        assert time.monotonic() - began < 2.5
        assert "Traceback" not in frontend.output
    await writer.write_text(" there")
    await writer.end()
    for stream in streams:
        rest = await product.api.read(generation_id, stream.parser.last_id)
        assert stream.text + rest.text == "Hello there"


async def test_stopping_frontend_confirms_what_it_has_cancelled_and_deleted(product: Product) -> None:
    redis = product.log.server.client
    async with product.frontend(drain_s="8") as frontend:
        api = Api(product.http, frontend.url)
        cancelled, deleted = [await api.create(), await api.create()]
        for generation_id in (cancelled, deleted):
            await (await product.writer(generation_id)).write_text("Hello")
        older = [await Snapshot.take(redis, each) for each in (cancelled, deleted)]
        assert (await api.cancel(cancelled)).value["status"] == "cancelled"
        assert (await api.delete(deleted)).value["deleted"]
        frontend.send(signal.SIGTERM)
        began = time.monotonic()
        for each in older:
            await each.bring_back()
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert await frontend.wait() == 0
        assert CONFIRM_S < time.monotonic() - began < 8
    assert (await product.api.read(cancelled)).events[-1].value["status"] == "cancelled"
    assert (await product.api.get(deleted)).refusal == (410, "deleted")


async def test_stopping_frontend_is_not_ready_and_opens_no_stream(
    product: Product, stalled_client: StalledClient
) -> None:
    async with product.frontend(drain_s="3") as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        path = f"/v1/generations/{await _long_generation(product, 160)}/events"
        stalled_client(frontend, path)  # keeps the frontend waiting for the whole grace period
        await eventually(lambda: has_metric(api, "tailrace_readers", 2))
        began = time.monotonic()
        frontend.send(signal.SIGTERM)
        response = await eventually(lambda: _not_ready(api))
        assert response.refusal == (503, "unavailable")
        assert "stopping" in response.error["message"]
        response = await api.events(generation_id)
        assert (response.status, response.body[:7]) == (200, b"retry: ")
        assert (await api.events(generation_id, Accept="application/x-ndjson")).refusal == (503, "unavailable")
        response = await api.request("POST", "/v1/generations", json=body(), headers={"Accept": "text/event-stream"})
        assert response.status == 200
        assert b": this frontend is stopping\n" in response.body
        assert response.headers["location"].startswith("/v1/generations/gen_")
        await stream.rest()
        await frontend.wait()
        assert 2.5 < time.monotonic() - began < 4.5  # the stalled reader never left


async def test_stopping_frontend_accepts_connections_until_balancers_have_noticed(product: Product) -> None:
    """Also one that has no reader. Each connection ends with its answer, so that the next request goes elsewhere."""
    async with product.frontend(drain_s="8", drain_accept_s="1.5") as frontend:
        api = Api(product.http, frontend.url)
        assert "connection" not in (await api.get(UNKNOWN_ID)).headers
        began = time.monotonic()
        frontend.send(signal.SIGTERM)
        await eventually(lambda: _not_ready(api))
        answers = []
        while time.monotonic() < began + 1.4:
            answers.append(await api.request("POST", "/v1/generations", json=body()))
        assert {(answer.status, answer.headers.get("connection")) for answer in answers} == {(202, "close")}
        assert await frontend.wait() == 0
        assert 1.5 <= time.monotonic() - began < 5


async def test_stopping_frontend_accepts_connections_for_no_longer_than_it_drains(product: Product) -> None:
    async with product.frontend(drain_s="0.2", drain_accept_s="60") as frontend:
        frontend.send(signal.SIGTERM)
        assert await asyncio.wait_for(frontend.wait(), 20) == 0


async def test_stalled_readers_cost_a_page_each_slow_no_other_reader_and_are_cut(
    product: Product, stalled_client: StalledClient
) -> None:
    async with product.frontend(client_write_timeout_s="1.5") as frontend:
        api = Api(product.http, frontend.url)
        await api.read(await product.completed("warm", "up"))
        generation_id = await api.create()
        writer = await product.writer(generation_id)
        path = f"/v1/generations/{generation_id}/events"
        stalled = [stalled_client(frontend, path) for _ in range(3)]
        await eventually(lambda: has_metric(api, "tailrace_readers", 3))
        before = peak = _rss_kb(frontend.pid)
        received = 0

        async def write() -> None:
            for _ in range(TEXTS // 16):
                await writer.write_text(*["~" * TEXT_BYTES] * 16)

        writing = asyncio.create_task(write())
        async with product.http.get(api.url + path) as response:
            while received < TEXTS * TEXT_BYTES:
                received += (await response.content.readany()).count(b"~")
                peak = max(peak, _rss_kb(frontend.pid))
        await writing
        assert peak - before < MAX_GROWTH_KB
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        assert _rss_kb(frontend.pid) - before < MAX_GROWTH_KB
        for client in stalled:
            rest = await _received(client)
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert not rest.endswith(b"0\r\n\r\n")
            assert rest.count(b"~") < received / 2
    await product.log.delete(generation_id)


async def test_reader_that_stalls_just_before_the_end_is_cut(product: Product, stalled_client: StalledClient) -> None:
    async with product.frontend(client_write_timeout_s="0.5") as frontend:
        generation_id = await _long_generation(product, 200, 16 * 1024)
        path = f"/v1/generations/{generation_id}/events"
        entries = [entry async for entry in product.log.read_all(generation_id)]
        clients = [stalled_client(frontend, path, str(entry.id)) for entry in entries[4:-1:3]]
        api = Api(product.http, frontend.url)
        await eventually(lambda: has_metric(api, "tailrace_streams_opened_total", len(clients)))
        await eventually(lambda: _has_clients(frontend, lambda clients: clients <= 1))  # one fetches the metrics
