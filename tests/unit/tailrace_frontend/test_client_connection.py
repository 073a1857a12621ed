import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl

from support.hub_harness import Transport, until
from tailrace_demo.server import Server
from tailrace_frontend.client_connection import SCOPE, ClientConnection
from tailrace_frontend.http_protocol import Protocol
from tailrace_frontend.inflight import Inflight

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = b"x" * (16 * 1024 * 1024)  # more than the buffers of both sockets take


@asynccontextmanager
async def served(app: App) -> AsyncIterator[socket.socket]:
    """A server, and a client's socket on it that reads only on request."""
    config = uvicorn.Config(app, http=Protocol, ws="none", lifespan="off", log_config=None)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        serving = asyncio.create_task(server.serve([listener]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
        try:
            yield client
        finally:
            server.should_exit = True
            await serving


async def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 2**20), 5):
        received += data
    return received


class ScriptedApp:
    """An application that answers one request with a given function and exposes the connection from the scope."""

    connection: ClientConnection

    def __init__(self, answer: Callable[["ScriptedApp"], Awaitable[None]]) -> None:
        self._answer = answer
        self.done = False

    async def __call__(self, scope: dict[str, Any], _: Any, send: Any) -> None:
        self.connection = scope[SCOPE]
        self.send = send
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self._answer(self)
        self.done = True

    async def write(self, data: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


async def test_socket_of_a_reading_client_is_not_full() -> None:
    async def answer(app: ScriptedApp) -> None:
        await app.write(b"hello")
        assert not app.connection.is_full
        await app.connection.drained()
        await app.connection.flushed()
        await app.write(b"", more=False)

    app = ScriptedApp(answer)
    async with served(app) as client:
        await asyncio.get_running_loop().sock_sendall(client, REQUEST)
        await until(lambda: app.done)
        assert not app.connection.lost


async def test_socket_of_a_stalled_client_fills_up_and_drains_when_read() -> None:
    full = []

    async def answer(app: ScriptedApp) -> None:
        await app.write(LARGE)
        full.append(app.connection.is_full)
        await app.connection.drained()
        full.append(app.connection.is_full)
        await app.write(b"", more=False)

    app = ScriptedApp(answer)
    async with served(app) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, REQUEST)
        await until(lambda: full)
        assert full == [True]
        while len(full) < 2:
            await asyncio.wait_for(loop.sock_recv(client, 2**20), 5)
        assert full == [True, False]


async def test_write_frames_data_as_a_chunk_of_the_response() -> None:
    async def answer(app: ScriptedApp) -> None:
        app.connection.write_chunk(b"hello, ")
        await app.write(b"wor")
        app.connection.write_chunk(b"ld")
        await app.write(b"", more=False)
        app.connection.abort()
        app.connection.write_chunk(b"after the abort")

    app = ScriptedApp(answer)
    async with served(app) as client:
        await asyncio.get_running_loop().sock_sendall(client, REQUEST)
        received = await read_all(client)
        await until(lambda: app.done)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"7\r\nhello, \r\n3\r\nwor\r\n2\r\nld\r\n0\r\n\r\n"


def recorded() -> tuple[ClientConnection, list[bytes]]:
    """A connection, and what is written to its socket."""
    transport, writes = Transport(), list[bytes]()
    transport.on_write = writes.append
    return ClientConnection(transport, FlowControl(transport), Inflight(1)), writes


async def test_head_leaves_with_the_first_chunk() -> None:
    connection, writes = recorded()
    connection.hold_head()
    connection.write(b"HEAD ")
    connection.write_chunk(b"text")
    connection.write_chunk(b"more")
    await asyncio.sleep(0)
    assert writes == [b"HEAD 4\r\ntext\r\n", b"4\r\nmore\r\n"]


async def test_head_without_a_chunk_leaves_with_the_next_turn() -> None:
    connection, writes = recorded()
    connection.hold_head()
    connection.write(b"HEAD ")
    assert writes == []
    await asyncio.sleep(0)
    assert writes == [b"HEAD "]


async def test_head_leaves_before_the_end_of_the_response() -> None:
    connection, writes = recorded()
    connection.hold_head()
    connection.write(b"HEAD ")
    connection.write(b"0\r\n\r\n")
    assert writes == [b"HEAD ", b"0\r\n\r\n"]


async def test_head_leaves_before_the_connection_is_aborted() -> None:
    connection, writes = recorded()
    connection.hold_head()
    connection.write(b"HEAD ")
    connection.abort()
    await asyncio.sleep(0)
    assert writes == [b"HEAD "]


async def test_abort_omits_the_last_chunk_and_calls_on_lost_once() -> None:
    lost = []

    async def answer(app: ScriptedApp) -> None:
        app.connection.on_lost = lambda: lost.append(app.connection.lost)
        await app.write(b"hello")
        app.connection.abort()
        await asyncio.sleep(0)

    app = ScriptedApp(answer)
    async with served(app) as client:
        await asyncio.get_running_loop().sock_sendall(client, REQUEST)
        received = await read_all(client)
        await until(lambda: app.done)
    assert received.endswith(b"hello\r\n")  # and no last chunk
    assert lost == [True]


async def test_drained_returns_when_the_connection_is_lost() -> None:
    async def answer(app: ScriptedApp) -> None:
        await app.write(LARGE)
        await app.connection.drained()

    app = ScriptedApp(answer)
    async with served(app) as client:
        await asyncio.get_running_loop().sock_sendall(client, REQUEST)
        await until(lambda: hasattr(app, "connection") and app.connection.is_full)
        client.close()
        await until(lambda: app.done)
    assert app.connection.lost


async def test_flushed_waits_until_the_write_buffer_is_empty() -> None:
    flushed = []

    async def answer(app: ScriptedApp) -> None:
        await app.write(LARGE)
        await app.connection.drained()
        await app.connection.flushed()
        flushed.append(app.connection._transport.get_write_buffer_size())
        await app.write(b"", more=False)

    app = ScriptedApp(answer)
    async with served(app) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, REQUEST)
        await until(lambda: hasattr(app, "connection") and app.connection.is_full)
        while not flushed:
            await asyncio.wait_for(loop.sock_recv(client, 2**20), 5)
    assert flushed == [0]


async def test_flushed_returns_at_once_on_a_closed_connection_and_leaves_its_limits() -> None:
    transport = Transport()
    flow = FlowControl(transport)
    flow.pause_writing()
    transport.aborted = True
    async with asyncio.timeout(5):
        await ClientConnection(transport, flow, Inflight(1)).flushed()
    assert transport.limit is None
