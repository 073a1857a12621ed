import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from support.hub_harness import until
from tailrace_demo.calls import Calls
from tailrace_demo.chunks import Envelope
from tailrace_demo.script import Comment, Done, Step, Write
from tailrace_demo.scripted_response import ScriptedResponse, disconnected
from tailrace_demo.server import Server
from tailrace_demo.transport import TransportProtocol

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: the server's next write fails


class Disconnect(Step, frozen=True):
    """The client disconnects here, between two writes of one turn of the event loop."""

    disconnect: Callable[[], None]

    async def play(self, envelope: Envelope, write: Write) -> None:  # noqa: ARG002
        self.disconnect()


@asynccontextmanager
async def served(response: ScriptedResponse, client: socket.socket) -> AsyncIterator[None]:
    """A server that answers the client's request with the response."""
    config = uvicorn.Config(response, http=TransportProtocol, ws="none", lifespan="off", log_config=None)
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, listener.getsockname())
        await loop.sock_sendall(client, REQUEST)
        try:
            yield
        finally:
            server.should_exit = True
            await serving


@pytest.mark.parametrize("stream", [True, False])
async def test_burst_stops_where_the_client_disconnects(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        steps = [Comment("before"), Disconnect(client.close), *(Comment(f"{number}") for number in range(20)), Done()]
        calls.start("scripted", {}, authorized=False)
        async with served(ScriptedResponse(steps, Envelope("scripted"), calls, stream=stream), client):
            await until(lambda: not calls.as_json()["open"])
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert (calls.finished, calls.closed_by_client) == (0, 1)


async def test_disconnected_waits_for_the_disconnect_and_not_for_the_rest_of_a_body() -> None:
    messages: Iterator[Any] = iter([{"type": "http.request"}, {"type": "http.disconnect"}, {"type": "http.request"}])

    async def receive() -> Any:
        return next(messages)

    await disconnected(receive)
    assert list(messages) == [{"type": "http.request"}]
