"""Clients that send what they should not, over real sockets to uvicorn."""

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from support.hub_harness import until
from tailrace_demo.server import Server
from tailrace_frontend import http_protocol
from tailrace_frontend.client_connection import REQUEST_ID, SCOPE, ClientConnection
from tailrace_frontend.client_limits import (
    DEFERRED_BYTES,
    HEAD_BYTES,
    MAX_HEADERS,
    URL_BYTES,
    WITHOUT_BODY,
    ClientLimits,
)
from tailrace_frontend.http_protocol import Protocol
from tailrace_frontend.inflight import Inflight
from tailrace_frontend.turnstile import Turnstile

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
SOON_S = 0.2
MIB = 1024 * 1024


class Client:
    """A client's socket, on which nothing is done that a test does not ask for."""

    def __init__(self, address: Any, buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.setblocking(False)
        self._address = address

    async def connect(self) -> "Client":
        await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        return self

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._socket, data), 5)

    async def receive(self, size: int = MIB) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, size), 5)

    async def receive_all(self) -> bytes:
        """Until the server closes; a reset ends it too."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := await self.receive():
                received += data
        return received

    async def response(self) -> tuple[int, bytes]:
        """Status and body of a response with a length. The connection stays open."""
        head, body = await self.head_and_body()
        return int(head.split()[1]), body

    async def head_and_body(self) -> tuple[bytes, bytes]:
        """The same, with the whole head."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        while len(body) < length:
            body += await self._more()
        return head, body

    async def _more(self) -> bytes:
        data = await self.receive()
        assert data, "closed before the response was complete"
        return data

    async def refusal(self) -> tuple[int, str | None]:
        """Status and code of the one response, after which the server closes."""
        head, _, body = (await self.receive_all()).partition(b"\r\n\r\n")
        assert b"connection: close" in head, head
        assert b"content-type: application/json" in head
        assert b"content-length: %d" % len(body) in head, (head, body)
        error = json.loads(body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return int(head.split()[1]), error["code"]

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Served:
    """A running server: its protocols, and clients that are closed with it."""

    def __init__(self, server: Server, address: Any, limits: ClientLimits) -> None:
        self.limits = limits
        self._server = server
        self._address = address
        self._clients: list[Client] = []

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    async def client(self, sends: bytes = b"", buffer: int | None = None) -> Client:
        client = await Client(self._address, buffer).connect()
        self._clients.append(client)
        await client.send(sends)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@asynccontextmanager
async def served(app: App, **limits: Any) -> AsyncIterator[Served]:
    given: dict[str, Any] = {"max_connections": 100, "write_timeout_s": 30.0, "inflight": Inflight(MIB)} | limits
    shared = ClientLimits(**given)
    config = uvicorn.Config(app, http=Protocol.with_limits(shared), ws="none", lifespan="off", log_config=None)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        running = Served(server, listener.getsockname(), shared)
        try:
            yield running
        finally:
            running.close()
            server.should_exit = True
            await serving
    assert not shared.idle
    assert not shared.lingering
    assert shared.inflight.total == shared.heads.total == 0


class Ids:
    """Answers with the id of the request, as the application knows it."""

    async def __call__(self, scope: dict[str, Any], _: Any, send: Any) -> None:
        body = scope[REQUEST_ID].encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("path", [b"/v1/admin/keys", b"/v1/%61dmin/keys", b"/v1/models"])
async def test_scope_has_the_address_of_a_client_whose_request_is_audited(path: bytes) -> None:
    async def address(scope: dict[str, Any], _: Any, send: Any) -> None:
        await answer(send, repr(scope["client"] and scope["client"][0]).encode())

    async with served(address) as server:
        client = await server.client(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        assert await client.response() == (200, b"None" if path == b"/v1/models" else b"'127.0.0.1'")


async def test_each_response_has_the_id_of_its_request() -> None:
    async with served(Ids()) as server:
        client = await server.client()
        ids = set()
        for _ in range(3):
            await client.send(GET + b"\r\n")
            head, body = await client.head_and_body()
            assert b"x-request-id: " + body in head
            ids.add(body)
        assert len(ids) == 3
        await client.send(b"nonsense\r\n\r\n")
        assert b"\r\nx-request-id: req_" in await client.receive_all()


class Echo:
    """Answers with the number of bytes of the body, and counts what it has seen."""

    def __init__(self) -> None:
        self.answered = 0
        self.left = 0
        self.connection: ClientConnection | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.connection = scope[SCOPE]
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        await answer(send, b"%d" % size)
        self.answered += 1


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def endless(scope: dict[str, Any], _: Any, send: Any) -> None:
    lost = asyncio.Event()
    scope[SCOPE].on_lost = lost.set
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await lost.wait()


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers without reading the body."""
    await answer(send, b"no")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All limits of time are short."""
    for name in ("HEAD_S", "BODY_S", "LINGER_S"):
        monkeypatch.setattr(http_protocol, name, SOON_S)


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "begin",
    [GET + b"X: ", b"GET /", b"\r\n", b""],
    ids=["header value", "URL", "empty lines", "nothing"],
)
async def test_head_that_does_not_end_is_refused_with_431_or_400(begin: bytes) -> None:
    filler = b"\r\n" * 32768 if begin in (b"\r\n", b"") else b"a" * 65536
    async with served(Echo()) as server:
        client = await server.client(begin)
        with contextlib.suppress(ConnectionError):
            for _ in range(16):
                await client.send(filler)
        assert await client.refusal() == (431, "head_too_large")


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_head_may_have_256_headers_and_not_one_more(more: int, status: int) -> None:
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HEADERS - 1 + more))
    async with served(Echo()) as server:
        client = await server.client(GET + headers + b"\r\n")
        assert (await client.response())[0] == status


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_header_that_nothing_reads_counts_as_one(more: int, status: int) -> None:
    headers = b"Cookie: a=b\r\nRange: bytes=x\r\n" * ((MAX_HEADERS - 2) // 2) + b"If-Range: x\r\n" * (1 + more)
    async with served(Echo()) as server:
        client = await server.client(GET + headers + b"\r\n")
        assert (await client.response())[0] == status
    async with served(Echo()) as server:
        client = await server.client(GET + b"Cookie: " + b"a" * (HEAD_BYTES - len(GET) - 12 + more) + b"\r\n\r\n")
        assert (await client.response())[0] == status


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
@pytest.mark.parametrize("begin", [b"/", b"/?"], ids=["path", "query"])
async def test_url_may_have_4_kib_and_no_byte_more(begin: bytes, more: int, status: int, pieces: int) -> None:
    url = begin + b"a" * (URL_BYTES - len(begin) + more)
    size = len(url) // pieces + 1
    async with served(Echo()) as server:
        client = await server.client(b"GET ")
        for start in range(0, len(url), size):
            await client.send(url[start : start + size])
            await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            await client.send(b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.response())[0] == status


async def test_headers_are_counted_anew_for_each_request_of_a_connection() -> None:
    request = GET + b"Cookie: a=b\r\n" * (MAX_HEADERS - 1) + b"\r\n"
    async with served(Echo()) as server:
        client = await server.client()
        for _ in range(3):
            await client.send(request)
            assert await client.response() == (200, b"0")


async def test_application_receives_no_header_that_nothing_reads() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await answer(send, b"")

    async with served(app) as server:
        client = await server.client(GET + b"COOKIE: a=b\r\nRange: bytes=x\r\nif-range: x\r\nX: y\r\n\r\n")
        assert await client.response() == (200, b"")
    assert [name for name, _ in seen] == [b"host", b"x"]


async def test_trailer_is_no_header_of_the_request() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        seen.extend(scope["headers"])
        await answer(send, b"")

    async with served(app) as server:
        client = await server.client(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: x\r\n\r\n")
        assert await client.response() == (200, b"")
    assert [name for name, _ in seen] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(("excess", "status"), [(0, 200), (1, 431)])
async def test_head_may_have_64_kib_and_no_byte_more(pieces: int, excess: int, status: int) -> None:
    rest = b"X: " + b"a" * (HEAD_BYTES + excess - len(GET) - 7) + b"\r\n\r\n"
    size = len(rest) // pieces + 1
    async with served(Echo()) as server:
        client = await server.client(GET)
        for start in range(0, len(rest), size):
            await client.send(rest[start : start + size])
            await asyncio.sleep(0.01)
        assert (await client.response())[0] == status


async def test_head_is_measured_anew_for_each_request_of_a_connection() -> None:
    request = GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n"
    async with served(Echo()) as server:
        client = await server.client()
        for _ in range(4):
            await client.send(request)
            assert await client.response() == (200, b"0")


@pytest.mark.parametrize(
    "framing",
    [b"1;" + b"a" * 100_000, b"0\r\nX: " + b"a" * 100_000, b"0\r\n" + b"X: y\r\n" * 15_000, b"1\r\nx\r\n" * 20_000],
    ids=["chunk extension", "trailer", "trailers", "chunks of a byte"],
)
async def test_framing_of_a_body_that_outgrows_the_body_is_refused_with_431(framing: bytes) -> None:
    async with served(Echo()) as server:
        client = await server.client(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await client.send(framing)
        assert await client.refusal() == (431, "head_too_large")


async def test_chunks_of_usual_size_are_accepted() -> None:
    async with served(Echo()) as server:
        client = await server.client(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for _ in range(3000):
            await client.send(b"40\r\n" + b"x" * 64 + b"\r\n")
        await client.send(b"0\r\n\r\n")
        assert (await client.receive_all()).endswith(b"\r\n\r\n%d" % (3000 * 64))


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SHAPES = {
    "bytes": b"\x00\x01\x02\r\n\r\n",
    "no version": b"GET\r\n\r\n",
    "NUL in a value": GET + b"Last-Event-ID: 1-\x000\r\n\r\n",
    "bare CR": GET + b"Last-Event-ID: 1-\r0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "LF in the head": b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n",
    "path is not ASCII": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: elsewhere\r\n\r\n",
    "folded header": GET + b"X: a\r\n b\r\n\r\n",
    "space before colon": POST + b"Content-Length : 1\r\n\r\nx",
    "length is no number": POST + b"Content-Length: x\r\n\r\n",
    "length of 20 digits": POST + b"Content-Length: 00000000000000000002\r\n\r\n{}",
    "length of 5,001 digits": POST + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\n{}",
    "signed length": POST + b"Content-Length: +1\r\n\r\nx",
    "list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "length, then chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    "prefixed chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
    "space after chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    "chunk size overflows": POST + b"Transfer-Encoding: chunked\r\n\r\n1ffffffffffffffff\r\nx\r\n",
    "chunk is longer than its size": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
    "chunk size ends with LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a body beside an upgrade": POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", SHAPES.values(), ids=SHAPES)
async def test_malformed_http_is_refused_once_with_400_and_closed(sent: bytes) -> None:
    echo = Echo()
    async with served(echo) as server:
        client = await server.client(sent)
        assert await client.refusal() == (400, None)
        assert echo.answered == 0


async def test_length_may_have_19_digits() -> None:
    async with served(Echo()) as server:
        client = await server.client(POST + b"Content-Length: 0000000000000000002 \r\n\r\n{}")
        assert await client.response() == (200, b"2")


async def without_parser(scope: dict[str, Any], _: Any, send: Any) -> None:
    """Answers with a body of two parts, between which the connection has no parser."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"11")]})
    connection = scope[SCOPE]
    connection.release_parser()
    assert connection._transport.get_protocol().parser is None
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"ended"})


async def test_connection_whose_parser_was_released_serves_the_next_request() -> None:
    async with served(without_parser) as server:
        client = await server.client(GET + b"\r\n")
        for _ in range(2):
            assert await client.response() == (200, b"begun ended")
            await client.send(GET + b"\r\n")
        assert await client.response() == (200, b"begun ended")


@pytest.mark.parametrize("sent", [GET + b"\r\n", b"zz\r\n\r\n"])
async def test_request_behind_one_whose_parser_was_released_is_discarded(sent: bytes) -> None:
    async with served(without_parser) as server:
        client = await server.client(GET + b"\r\n")
        await client.receive()
        await client.send(sent)
        rest = await client.receive_all()
        assert b"HTTP/1.1" not in rest
        await until(lambda: server.connections == 0)


async def test_parser_of_a_request_whose_body_is_under_way_is_kept() -> None:
    kept = list[bool]()

    async def early(scope: dict[str, Any], _: Any, send: Any) -> None:
        scope[SCOPE].release_parser()
        kept.append(scope[SCOPE]._transport.get_protocol().parser is not None)
        await answer(send, b"early")

    async with served(early) as server:
        client = await server.client(POST + b"Content-Length: 4\r\n\r\n{")
        assert await client.response() == (200, b"early")
        await client.send(b"  }" + GET + b"\r\n")
        assert await client.response() == (200, b"early")
    assert kept == [True, False]


async def test_malformed_http_during_a_response_aborts_the_connection() -> None:
    async with served(endless) as server:
        client = await server.client(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        begun = await client.receive()
        await client.send(b"zz\r\n")
        assert (begun + await client.receive_all()).endswith(b"begun\r\n")


async def test_pipelined_request_is_discarded_and_the_connection_closes_after_the_response() -> None:
    echo = Echo()
    async with served(echo) as server:
        client = await server.client((GET + b"\r\n") * 1000)
        received = await client.receive_all()
        assert received.count(b"HTTP/1.1 200") == 1
        assert b"connection: close" in received
        assert echo.answered == 1


async def test_pipelined_request_does_not_hide_that_the_client_leaves() -> None:
    async with served(endless) as server:
        client = await server.client(GET + b"\r\n")
        await client.receive()
        await client.send(GET + b"\r\n")
        await asyncio.sleep(0.05)
        assert server.connections == 1
        client.close()
        await until(lambda: server.connections == 0)


async def test_request_that_asks_for_an_upgrade_is_served_without_it_and_the_connection_closes() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + b"\r\n")
        assert (await client.receive_all()).count(b"HTTP/1.1 200") == 1


async def test_client_that_shuts_down_its_sending_side_counts_as_gone() -> None:
    async with served(endless) as server:
        client = await server.client(GET + b"\r\n")
        await client.receive()
        client.half_close()
        await until(lambda: server.connections == 0)


@pytest.mark.parametrize("method", sorted(WITHOUT_BODY))
async def test_body_that_no_route_reads_does_not_hide_that_the_client_leaves(method: str) -> None:
    head = f"{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200001\r\n\r\n".encode()
    async with served(endless) as server:
        client = await server.client(head + b"x" * 200_000)
        await client.receive()
        await asyncio.sleep(0.1)
        assert (server.connections, server.limits.inflight.total) == (1, 0)
        client.close()
        await until(lambda: server.connections == 0)


async def test_body_that_no_route_reads_is_discarded_and_its_connection_serves_on() -> None:
    seen: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (message := await receive())["more_body"]:
            seen.append("more")
        assert message["body"] == b""
        await answer(send, b"ok")

    async with served(app) as server:
        client = await server.client(GET + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000)
        assert await client.response() == (200, b"ok")
        await client.send(POST + b"Content-Length: 0\r\n\r\n")
        assert await client.response() == (200, b"ok")
    assert seen == []


async def test_body_that_no_route_reads_may_have_8_mib_and_is_refused_with_413_beyond() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(9):
                await client.send(b"100000\r\n" + b"x" * MIB + b"\r\n")
        assert await client.refusal() == (413, "request_too_large")


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("soon")
async def test_connection_on_which_nothing_is_sent_is_closed_without_a_response() -> None:
    async with served(Echo()) as server:
        assert await (await server.client()).receive_all() == b""


@pytest.mark.usefixtures("soon")
async def test_head_that_drips_is_refused_with_408() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET)
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await client.send(b"X: y\r\n")
                await asyncio.sleep(SOON_S / 10)
        assert await client.refusal() == (408, "request_timeout")


@pytest.mark.usefixtures("soon")
async def test_head_of_a_later_request_is_limited_in_time_too() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET + b"\r\n")
        assert await client.response() == (200, b"0")
        await client.send(GET)
        assert await client.refusal() == (408, "request_timeout")


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("begin", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_body_that_drips_is_refused_with_408(begin: bytes) -> None:
    echo = Echo()
    async with served(echo) as server:
        client = await server.client(POST + begin)
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await client.send(b"1\r\nx\r\n")
                await asyncio.sleep(SOON_S / 10)
        assert await client.refusal() == (408, "request_timeout")
        await until(lambda: echo.left == 1)


@pytest.mark.usefixtures("soon")
async def test_body_that_goes_on_is_received_however_long_it_takes() -> None:
    async with served(Echo()) as server:
        client = await server.client(POST + b"Content-Length: 5000\r\nConnection: close\r\n\r\n")
        for _ in range(10):
            await client.send(b"x" * 500)
            await asyncio.sleep(SOON_S / 3)
        assert (await client.receive_all()).endswith(b"\r\n\r\n5000")


@pytest.mark.usefixtures("soon")
async def test_body_that_was_answered_early_must_end_within_the_linger_time() -> None:
    async with served(refuse) as server:
        complete = await server.client(POST + b"Content-Length: 3\r\n\r\nx")
        assert await complete.response() == (200, b"no")
        await complete.send(b"yz" + GET + b"\r\n")
        assert await complete.response() == (200, b"no")
        endless = await server.client(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while server.connections == 2:
                await endless.send(b"2000\r\n" + b"x" * 8192 + b"\r\n")
                await asyncio.sleep(SOON_S / 20)
        assert server.connections == 1


async def test_response_that_no_client_reads_is_aborted_after_the_write_timeout() -> None:
    async def large(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"x" * (32 * MIB))

    async with served(large, write_timeout_s=SOON_S) as server:
        for header in (b"", b"Connection: close\r\n"):
            client = await server.client(GET + header + b"\r\n", buffer=4096)
            await until(lambda: server.connections == 1)
            await until(lambda: server.connections == 0)
            assert len(await client.receive_all()) < 32 * MIB


async def test_response_that_a_client_reads_slowly_is_not_aborted() -> None:
    async def sliced(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (16 * MIB))]})
        for number in range(256):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": number < 255})

    async with served(sliced, write_timeout_s=1.0) as server:
        client = await server.client(GET + b"Connection: close\r\n\r\n", buffer=65536)
        received = 0
        while data := await client.receive(262144):
            received += len(data)
            await asyncio.sleep(0.02)
        assert received > 16 * MIB


# ── number ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_connection_beyond_the_limit_closes_the_one_that_is_idle_for_longest() -> None:
    async with served(endless, max_connections=3) as server:
        reader = await server.client(GET + b"\r\n")
        assert await reader.receive()
        first, second = await server.client(), await server.client(GET)
        await until(lambda: server.connections == 3)
        third = await server.client(GET + b"\r\n")
        assert await first.receive_all() == b""
        assert await third.receive()
        await second.send(b"\r\n")
        assert await second.receive()


async def test_connection_beyond_the_limit_closes_one_that_has_its_answer_before_an_idle_one() -> None:
    async with served(refuse, max_connections=3) as server:
        idle = await server.client()
        await until(lambda: server.connections == 1)
        answered = await server.client(POST + b"Content-Length: 100\r\n\r\n")
        assert await answered.response() == (200, b"no")
        refused = await server.client(b"\r\n\r\nGET\r\n\r\n")
        assert (await refused.response())[0] == 400
        for former, rest in ((answered, b""), (refused, b"")):
            honest = await server.client(GET + b"Connection: close\r\n\r\n")
            assert await former.receive_all() == rest
            assert (await honest.receive_all()).endswith(b"no")
        await idle.send(GET + b"\r\n")
        assert await idle.response() == (200, b"no")


@pytest.mark.parametrize("length", [200_000, 100_000], ids=["lingering", "idle"])
async def test_connection_that_has_its_answer_keeps_nothing_of_a_body_that_was_not_read(length: int) -> None:
    async with served(refuse) as server:
        client = await server.client(POST + b"Content-Length: %d\r\n\r\n" % length + b"x" * 100_000)
        assert await client.response() == (200, b"no")
        (connection,) = server.limits.lingering or server.limits.idle
        assert connection.cycle.body == b""
        assert server.limits.inflight.total == 0


async def test_connection_whose_body_ends_after_its_answer_is_idle() -> None:
    async with served(refuse) as server:
        client = await server.client(POST + b"Content-Length: 3\r\n\r\nx")
        assert await client.response() == (200, b"no")
        assert server.limits.lingering
        await client.send(b"yz")
        await until(lambda: not server.limits.lingering)
        assert server.limits.idle


async def test_connection_beyond_the_limit_is_closed_without_a_response_while_none_is_idle() -> None:
    async with served(endless, max_connections=1) as server:
        reader = await server.client(GET + b"\r\n")
        assert await reader.receive()
        assert await (await server.client()).receive_all() == b""
        assert server.connections == 1


async def test_requests_beyond_the_budget_are_refused_with_503() -> None:
    async with served(Echo(), inflight=Inflight(300_000)) as server:
        begin = POST + b"Content-Length: 200000\r\n\r\n"
        first = await server.client(begin + b"x" * 190_000)
        await until(lambda: server.limits.inflight.total > 180_000)
        second = await server.client(begin + b"x" * 190_000)
        assert await second.refusal() == (503, "unavailable")
        await first.send(b"x" * 10_000)
        assert await first.response() == (200, b"200000")
        assert server.limits.inflight.total == 0


async def test_body_that_was_refused_takes_no_room() -> None:
    body = b"186a0\r\n" + b"x" * 100_000 + b"\r\nzz\r\n"
    async with served(Echo()) as server:
        client = await server.client(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert (await client.response())[0] == 400
        assert (server.connections, server.limits.inflight.total) == (1, 0)


async def test_request_that_takes_long_is_cut_where_another_needs_its_room() -> None:
    async with served(Echo(), inflight=Inflight(300_000, undisturbed_s=0.0)) as server:
        begin = POST + b"Content-Length: 200000\r\n\r\n"
        first = await server.client(begin + b"x" * 190_000)
        await until(lambda: server.limits.inflight.total > 180_000)
        second = await server.client(begin + b"x" * 200_000)
        assert await second.response() == (200, b"200000")
        assert await first.refusal() == (503, "unavailable")


async def test_incomplete_heads_take_no_room_from_bodies() -> None:
    large = GET + b"X: " + b"a" * 60_000
    async with served(Echo(), inflight=Inflight(300_000)) as server:
        heads = [await server.client(large) for _ in range(6)]
        for cut in heads[:5]:
            assert await cut.refusal() == (503, "unavailable")
        body = await server.client(POST + b"Content-Length: 290000\r\n\r\n" + b"x" * 290_000)
        assert await body.response() == (200, b"290000")
        await heads[5].send(b"\r\n\r\n")
        assert await heads[5].response() == (200, b"0")
        assert server.limits.heads.total == 0


async def test_small_head_is_not_cut_for_large_ones() -> None:
    async with served(Echo(), inflight=Inflight(300_000)) as server:
        small = await server.client(GET)
        for _ in range(4):
            await server.client(GET + b"X: " + b"a" * 60_000)
        await until(lambda: len(server.limits.lingering) == 3)
        await small.send(b"\r\n")
        assert await small.response() == (200, b"0")


async def test_refused_connection_keeps_nothing_of_its_request() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET + b"X: y\r\nY: " + b"a" * HEAD_BYTES)
        await client.receive()
        (connection,) = server.limits.lingering
        assert [vars(connection)[name] for name in ("parser", "headers", "scope")] == [None, None, None]


# ── turns of the event loop ──────────────────────────────────────────────────────────────────────────────────────────


async def test_few_heads_of_new_connections_are_parsed_in_a_turn_and_all_are_answered() -> None:
    turn, parsed, shared = 0, list[int](), Turnstile(2)
    loop = asyncio.get_running_loop()

    def count() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count)

    class App(Echo):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            parsed.append(turn)
            await super().__call__(scope, receive, send)

    async with served(app := App()) as server:
        server.limits.parsing = shared
        clients = [await server.client() for _ in range(20)]
        loop.call_soon(count)
        for client in clients:
            await client.send(GET + b"\r\n")
        for client in clients:
            assert await client.response() == (200, b"0")
        assert app.answered == 20
        assert max(Counter(parsed).values()) <= 2


async def test_second_request_of_a_connection_does_not_wait() -> None:
    async with served(Echo()) as server:
        client = await server.client(GET + b"\r\n")
        assert await client.response() == (200, b"0")
        server.limits.parsing = Turnstile(0)
        await client.send(POST + b"Content-Length: 3\r\n\r\n" + b"abc")
        assert await client.response() == (200, b"3")


async def test_client_that_leaves_while_its_head_waits_leaves_nothing() -> None:
    async with served(Echo()) as server:
        server.limits.parsing = Turnstile(0)
        waiting = server.limits.parsing._waiting[0]
        client = await server.client()
        await client.send(GET + b"\r\n")
        await until(lambda: len(waiting) == 1)
        client.reset()
        waiting.popleft()()
        await until(lambda: server.connections == 0)


async def test_connection_whose_head_waits_is_not_idle() -> None:
    async with served(Echo()) as server:
        server.limits.parsing = Turnstile(0)
        waiting = server.limits.parsing._waiting[0]
        client = await server.client()
        await until(lambda: len(server.limits.idle) == 1)
        await client.send(GET)
        await until(lambda: len(waiting) == 1)
        assert not server.limits.idle
        waiting.popleft()()
        assert len(server.limits.idle) == 1
        await client.send(b"\r\n")
        assert await client.response() == (200, b"0"), "only the first piece waits"


async def test_large_piece_of_a_head_does_not_wait() -> None:
    async with served(Echo()) as server:
        server.limits.parsing = Turnstile(0)
        client = await server.client(GET + b"X: " + b"x" * DEFERRED_BYTES + b"\r\n\r\n")
        assert await client.response() == (200, b"0")
