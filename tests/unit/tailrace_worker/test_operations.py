import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from support.api import eventually
from tailrace.errors import Misconfigured, Unavailable
from tailrace_cli.embedded import free_port
from tailrace_worker import operations
from tailrace_worker.operations import CONNECTIONS, HEAD_BYTES, Answer, OperationsServer

PORT = free_port()


async def _fine() -> Answer:
    return Answer(b"tailrace_readers 1\n", "text/plain")


async def _away() -> Answer:
    raise Unavailable("Redis is away.")


async def _defect() -> Answer:
    raise ValueError("secret")


async def _never() -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def server() -> AsyncIterator[OperationsServer]:
    routes = {"/fine": _fine, "/away": _away, "/defect": _defect, "/never": _never}
    server = OperationsServer(routes)
    await server.start("127.0.0.1", PORT)
    yield server
    await server.close()


async def exchange(request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def get(path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    return await exchange(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


async def code_of(path: str, method: str = "GET") -> tuple[int, str]:
    status, _, body = await get(path, method)
    return status, json.loads(body)["error"]["code"]


async def test_route_is_answered_whole_and_the_connection_closed(server: OperationsServer) -> None:
    status, headers, body = await get("/fine?verbose=1")
    assert (status, body) == (200, b"tailrace_readers 1\n")
    assert headers == {"content-type": "text/plain", "content-length": "19", "connection": "close"}


async def test_head_has_the_headers_of_get_and_no_body(server: OperationsServer) -> None:
    got, head = await get("/fine"), await get("/fine", "HEAD")
    assert head == (*got[:2], b"")


async def test_errors_have_the_shape_of_the_api(server: OperationsServer) -> None:
    assert await code_of("/away") == (503, "unavailable")
    assert (await get("/away"))[1]["retry-after"]
    assert await code_of("/nowhere") == (404, "not_found")
    assert await code_of("/fine", "POST") == (405, "method_not_allowed")
    assert (await get("/fine", "POST"))[1]["allow"] == "GET, HEAD"


async def test_defect_of_a_route_is_logged_and_not_sent(
    server: OperationsServer, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, body = await get("/defect")
    assert (status, b"secret" in body) == (500, False)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_route_that_does_not_end_is_unavailable(
    server: OperationsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "ANSWER_S", 0.05)
    assert await code_of("/never") == (503, "unavailable")


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\r\n\r\n", b"GET /fine\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + 2 * HEAD_BYTES * b"x"]
)
async def test_request_that_is_no_http_is_refused(server: OperationsServer, request_: bytes) -> None:
    status, _, _ = await exchange(request_)
    assert status == 400


async def test_client_that_sends_nothing_is_cut(server: OperationsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "HEAD_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_connections_are_limited(server: OperationsServer) -> None:
    connections = [await asyncio.open_connection("127.0.0.1", PORT) for _ in range(CONNECTIONS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    for _, each in (*connections, (reader, writer)):
        each.close()

    async def answers() -> bool:
        try:
            return (await get("/fine"))[0] == 200
        except (OSError, ValueError, IndexError):
            return False

    await eventually(answers)


async def test_address_that_is_taken_is_a_mistake_of_the_operator(server: OperationsServer) -> None:
    with pytest.raises(Misconfigured, match=f"TAILRACE_WORKER_OPERATIONS_ADDRESS: cannot listen on 127.0.0.1:{PORT}"):
        await OperationsServer({}).start("127.0.0.1", PORT)
