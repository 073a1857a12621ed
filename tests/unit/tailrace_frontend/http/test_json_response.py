"""Large JSON responses over a real socket."""

import asyncio
from typing import Any

import pytest

from support.asgi import ask
from support.hub_harness import until
from tailrace.errors import Unavailable
from tailrace.settings import MIB
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.http.json_response import SLICE_BYTES, JSONBytesResponse
from tailrace_frontend.inflight import Inflight


class Client:
    """Stands for a `ClientConnection`."""

    def __init__(self, limit: int) -> None:
        self.inflight = Inflight(limit)
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Receiver:
    """An ASGI `send` that waits before each message while it is closed, as uvicorn's does while a socket is full."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.open = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        await self.open.wait()
        self.messages.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [each["body"] for each in self.messages[1:]]


async def receive() -> Any:
    raise AssertionError("no response reads its request")


def scope_of(client: Client, method: str = "GET") -> Any:
    return {"type": "http", "method": method, SCOPE: client}


async def test_large_response_is_sent_in_slices_and_held_until_then() -> None:
    client, receiver, value = Client(MIB), Receiver(), "x" * (3 * SLICE_BYTES)
    response = JSONBytesResponse(value)
    sending = asyncio.create_task(response(scope_of(client), receive, receiver))
    await until(lambda: client.inflight.total == len(response.body))
    receiver.open.set()
    await sending
    assert b"".join(receiver.bodies) == bytes(response.body) + b"\n"
    assert max(map(len, receiver.bodies)) == SLICE_BYTES
    assert [each.get("more_body") for each in receiver.messages] == [None, True, True, True, False]
    assert dict(receiver.messages[0]["headers"])[b"content-length"] == b"%d" % (len(response.body) + 1)
    assert client.inflight.total == 0


async def test_response_is_released_when_its_client_leaves() -> None:
    client, receiver = Client(MIB), Receiver()
    sending = asyncio.create_task(JSONBytesResponse("x" * (MIB // 2))(scope_of(client), receive, receiver))
    await until(lambda: client.inflight.total)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert client.inflight.total == 0


async def test_response_without_room_is_refused_only_where_the_request_may_be_repeated() -> None:
    client, receiver = Client(10), Receiver()
    receiver.open.set()
    value = "x" * SLICE_BYTES
    repeatable = JSONBytesResponse(value)
    repeatable.is_repeatable = True
    with pytest.raises(Unavailable):
        await repeatable(scope_of(client, "POST"), receive, receiver)
    assert receiver.messages == []
    response = JSONBytesResponse(value, 202)
    await response(scope_of(client, "POST"), receive, receiver)
    assert b"".join(receiver.bodies) == bytes(response.body) + b"\n"


async def test_small_response_is_one_message_and_takes_no_room() -> None:
    client, receiver = Client(0), Receiver()
    receiver.open.set()
    await JSONBytesResponse("x")(scope_of(client), receive, receiver)
    assert receiver.bodies == [b'"x"\n']


async def test_response_without_a_server_is_sent_whole() -> None:
    assert (await ask(JSONBytesResponse("x" * MIB), "GET", "/")).value == "x" * MIB


def test_response_of_bytes_sends_them_as_they_are() -> None:
    content = b'{"id": "chatcmpl-x"}'
    response = JSONBytesResponse(content)
    assert response.body is content
    assert response.headers["content-length"] == str(len(content))
