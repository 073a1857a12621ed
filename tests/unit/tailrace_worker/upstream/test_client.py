"""The client to the upstream: connections that are used again, streams that are closed, a key that is redacted."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

import pytest

from tailrace.events import Failure
from tailrace.settings import Settings
from tailrace_worker.upstream import client as module
from tailrace_worker.upstream.client import UpstreamClient, stream_payloads
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream.sse import EventTooLarge

END = b"[DONE]"
ANSWER = (b'data: {"a": 1}\n\n', b"data: [DONE]\n\n")


class Server:
    """Answers each request with these events, and ends the HTTP body so much later; None: never.

    `breaks`: the connection is closed instead.
    """

    def __init__(self, end_after_s: float | None, events: Sequence[bytes] = ANSWER, *, breaks: bool = False) -> None:
        self.connections = 0
        self.closed = asyncio.Event()
        self._end_after_s = end_after_s
        self._events = events
        self._breaks = breaks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for event in self._events:
                    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                if self._breaks:
                    break
                if self._end_after_s is None:
                    await reader.read()
                    break
                await asyncio.sleep(self._end_after_s)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()


@asynccontextmanager
async def client_of(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UpstreamClient]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        client = UpstreamClient(Settings())
        yield client
        await client.close()


def stream(client: UpstreamClient) -> AsyncGenerator[list[bytes], None]:
    create = client.sdk.chat.completions.with_streaming_response.create
    return stream_payloads(partial(create, messages=[], model="m", stream=True), END.__eq__)


async def payloads_of(client: UpstreamClient) -> list[bytes]:
    return [payload async for payloads in stream(client) for payload in payloads]


@pytest.mark.parametrize("end_after_s", [0, 0.01])
async def test_connection_serves_one_answer_after_another(end_after_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(end_after_s)
    async with client_of(server, monkeypatch) as client:
        for _ in range(3):
            assert await payloads_of(client) == [b'{"a": 1}', END]
    assert server.connections == 1


async def test_body_that_goes_on_after_the_last_payload_is_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(None)
    async with client_of(server, monkeypatch) as client, asyncio.timeout(5):
        for _ in range(2):
            assert await payloads_of(client) == [b'{"a": 1}', END]
    assert server.connections == 2


async def test_stream_that_is_closed_half_read_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(None, [b"data: 1\n\n"])
    async with client_of(server, monkeypatch) as client, asyncio.timeout(5):
        async with aclosing(stream(client)) as payloads:
            assert await anext(payloads) == [b"1"]
        await server.closed.wait()


async def test_connection_that_breaks_in_the_middle_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with client_of(Server(0, ANSWER[:1], breaks=True), monkeypatch) as client:
        with pytest.raises(ConnectionLost):
            await payloads_of(client)


async def test_event_beyond_the_limit_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 5)
    async with client_of(Server(0), monkeypatch) as client:
        with pytest.raises(EventTooLarge):
            await payloads_of(client)


@pytest.mark.parametrize(("key", "redacted"), [("sk-0123456789", "Bad key ***."), ("short", "Bad key short.")])
async def test_key_is_redacted_unless_it_is_a_placeholder(
    key: str, redacted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    client = UpstreamClient(Settings())
    given, expected = (Failure(text, "upstream_refused", status=400) for text in (f"Bad key {key}.", redacted))
    assert client.redact(given) == expected
    await client.close()
