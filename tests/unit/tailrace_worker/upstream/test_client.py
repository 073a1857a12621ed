"""The client to the upstream: connections that are used again, streams that are closed, a key that is redacted."""

import asyncio
import gzip
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.events import Failure
from tailrace.settings import Settings
from tailrace_worker.upstream import client as module
from tailrace_worker.upstream.client import UpstreamClient, stream_payloads
from tailrace_worker.upstream.errors import (
    ConnectionLost,
    NotSent,
    Unreadable,
    condition_of,
    failure_from_exception,
)  # fmt: skip
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


class RawServer:
    """Answers every request with these bytes and closes the connection."""

    def __init__(self, *answer: bytes, status: str = "200 OK", headers: str = "") -> None:
        self.requests: list[bytes] = []
        self._head = f"HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n".encode()
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(head := await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            for each in (self._head, *self._answer):
                writer.write(each)
                await writer.drain()
                await asyncio.sleep(0.002)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def client_of(server: Server | RawServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UpstreamClient]:
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
    monkeypatch.setattr(module, "DRAIN_S", 60.0)  # the end comes for certain; on a busy machine not within 50 ms
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


async def test_body_that_ends_inside_a_chunk_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RawServer(b"b\r\ndata: one\n\n\r\n", b"5\r\nab", headers="transfer-encoding: chunked\r\n")
    async with client_of(server, monkeypatch) as client:
        payloads = stream(client)
        assert await anext(payloads) == [b"one"]
        with pytest.raises(ConnectionLost):
            await anext(payloads)


async def test_event_beyond_the_limit_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 5)
    async with client_of(Server(0), monkeypatch) as client:
        with pytest.raises(EventTooLarge):
            await payloads_of(client)


COMPLETION = b'{"object":"chat.completion","choices":[{"message":{"content":"Hi"}}]}'
ERROR = b'{"error":{"message":"Busy"}}'


@pytest.mark.parametrize(
    ("reads", "payloads"),
    [
        ([COMPLETION], [COMPLETION]),
        ([b"\n \xef\xbb", b"\xbf\r\n", COMPLETION[:1], COMPLETION[1:30], COMPLETION[30:]], [COMPLETION]),
        ([ERROR], [ERROR]),
        ([b"[", ERROR, b"]\n"], [ERROR]),
        ([b'{"object":"error","message":"No."}'], [b'{"object":"error","message":"No."}']),
        ([], []),
        ([b"\n\n"], []),
        ([b"\xef\xbb", b"\xbfda", b"ta: 1\n\n"], [b"1"]),
        ([b"d", b"ata: 1\n\n"], [b"1"]),
        ([b": ping\n\n", b"data: 1\n\n"], [b"1"]),
        ([b"nonsense\n", b"data: 1\n\n"], [b"1"]),
        ([b"data: 1"], [b"1"]),
        ([b": ping\n\n"], []),
    ],
)
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/html"])
async def test_body_decides_whether_it_is_a_stream(
    monkeypatch: pytest.MonkeyPatch, reads: list[bytes], payloads: list[bytes], content_type: str
) -> None:
    async with client_of(RawServer(*reads, headers=f"content-type: {content_type}\r\n"), monkeypatch) as client:
        assert await payloads_of(client) == payloads


@pytest.mark.parametrize(
    ("reads", "headers", "words"),
    [
        ([b"\n<!DOCTYPE html>"], "", "is HTML"),
        ([b"Internal Server Error"], "", "is neither a stream nor JSON: 'Internal Server Error'"),
        ([b"{not json"], "", "is neither a stream nor JSON"),
        ([b'{"status":"ok"}'], "", "is JSON without an answer"),
        ([b'{"detail":"Not Found"}'], "", "is JSON without an answer: Not Found"),
        ([b"[1]"], "", "is JSON without an answer"),
        ([b"[[[["] * 10, "", "is neither a stream nor JSON"),
        ([b"garbage"], "content-encoding: gzip\r\n", "cannot be decompressed"),
        ([b'{"choices":[]', b" " * 100], "", "is JSON of more than 100 bytes"),
    ],
)
async def test_body_that_is_no_answer_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, reads: list[bytes], headers: str, words: str
) -> None:
    monkeypatch.setattr(module, "MAX_EVENT_BYTES", 100)
    async with client_of(RawServer(*reads, headers=headers), monkeypatch) as client:
        with pytest.raises(Unreadable, match=re.escape(words)):
            await payloads_of(client)


class Body(httpx2.AsyncByteStream):
    def __init__(self, reads: Sequence[bytes]) -> None:
        self._reads = reads

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for each in self._reads:
            yield each


async def outcome_of(reads: Sequence[bytes]) -> list[bytes] | str:
    """The payloads of a body, or the error that it is."""

    @asynccontextmanager
    async def send() -> AsyncIterator[Any]:
        yield SimpleNamespace(http_response=httpx2.Response(200, stream=Body(reads)))

    try:
        return [payload async for payloads in stream_payloads(send, END.__eq__) for payload in payloads]
    except Unreadable as error:
        return str(error)[:20]


LINES = (b"data: 1", b"data: 2\n", b": ping", b"id: 1", b"event: x", b"\r", b"\xef\xbb\xbf", b" ", b"d", b"og", b"<p>",
         b"{", b"}", b"[", b"]", COMPLETION, ERROR, b"retry: 1", b"\x00\xff", b"data: [DONE]\n\ndata: 3")  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=6), st.sampled_from([b"", b"\n", b"\n\n"]), st.data())
async def test_body_is_the_same_however_it_is_cut(lines: list[bytes], between: bytes, data: st.DataObject) -> None:
    body = between.join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    reads = [body[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert await outcome_of(reads) == await outcome_of([body])


async def test_compressed_stream_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = gzip.compress(b"".join(ANSWER))
    server = RawServer(body[:5], body[5:], headers="content-encoding: gzip\r\n")
    async with client_of(server, monkeypatch) as client:
        assert await payloads_of(client) == [b'{"a": 1}', END]


async def test_other_tasks_run_while_a_compressed_stream_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    comments = b":\n" * 1024 * 1024 * 4
    server = RawServer(gzip.compress(comments + b"".join(ANSWER)), headers="content-encoding: gzip\r\n")
    async with client_of(server, monkeypatch) as client, aclosing(stream(client)) as payloads:
        monkeypatch.setattr(module, "TURN_BYTES", 1024)
        task = asyncio.create_task(take_turns())
        assert await anext(payloads) == [b'{"a": 1}', END]
        task.cancel()
    assert turns >= len(comments) / 1024


async def test_stream_that_was_compressed_several_times_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = gzip.compress(gzip.compress(b"".join(ANSWER)))
    async with client_of(RawServer(body, headers="content-encoding: gzip, gzip\r\n"), monkeypatch) as client:
        with pytest.raises(Unreadable, match="is compressed several times"):
            await payloads_of(client)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    server = RawServer(status=status, headers="location: /v1/elsewhere\r\ncontent-length: 0\r\n")
    async with client_of(server, monkeypatch) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await payloads_of(client)
    assert raised.value.status_code == int(status[:3])
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_sdk_retries_nothing(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    server = RawServer(status=status, headers="content-length: 0\r\nretry-after-ms: 1\r\n")
    async with client_of(server, monkeypatch) as client:
        with pytest.raises(openai.APIStatusError):
            await payloads_of(client)
    assert len(server.requests) == 1


@pytest.mark.parametrize("key", ["sk-abcdefghijklmnop\n", "sk-abcdefgh ключ", "sk-ünicode-secret"])
async def test_key_that_no_header_can_have_is_not_sent_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server = RawServer(b"data: [DONE]\n\n")
    async with client_of(server, monkeypatch) as client:
        with pytest.raises(NotSent) as raised:
            await payloads_of(client)
        described = client.describe(raised.value)
    assert server.requests == []
    reason = failure_from_exception(raised.value)
    assert (condition_of(raised.value), reason.code) == ("not_sent", "upstream_unreachable")
    assert "OPENAI_API_KEY" in reason.message
    assert not re.search("abc|ünicode|ключ|[кü]|xfc|u043", reason.message + described)


@pytest.mark.parametrize(("key", "redacted"), [("sk-0123456789", "Bad key ***."), ("short", "Bad key short.")])
async def test_key_is_redacted_unless_it_is_a_placeholder(
    key: str, redacted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    client = UpstreamClient(Settings())
    given, expected = (Failure(text, "upstream_refused", status=400) for text in (f"Bad key {key}.", redacted))
    assert client.redact(given) == expected
    await client.close()


@pytest.mark.parametrize(
    ("answered", "sent"),
    [
        ("Incorrect API key provided: sk-se***rker.", "Incorrect API key provided: ***."),
        ("Incorrect API key provided: sk-se****************rker. See x", "Incorrect API key provided: ***. See x"),
        ("key 'sk-s...rker'", "key '***'"),
        ("key …rker", "key ***"),
        (
            "Rate limit reached in organization org-abcdefgh123 on tokens",
            "Rate limit reached in organization *** on tokens",
        ),
        ("Project proj_abcdefgh123", "Project ***"),
        ("Wait... a worker is ***busy***", "Wait... a worker is ***busy***"),
        ("sk-another is refused", "sk-another is refused"),
        ("sk-other***sk-sec***rker", "***"),
        ("sk-sec....rker", "***"),
        ("a" * 16_000, "a" * 16_000),
        ("…".join("a" * 8000), "…".join("a" * 8000)),
    ],
)
async def test_failure_quotes_no_part_of_the_key_and_no_account(
    monkeypatch: pytest.MonkeyPatch, answered: str, sent: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-worker")
    client = UpstreamClient(Settings())
    assert client.redact(Failure(answered, "upstream_refused")).message == sent
    await client.close()


async def test_details_of_a_failure_quote_no_key_however_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-secret-of-the-worker"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    client = UpstreamClient(Settings())
    details = {"raw": f"key {key}", "n": 7, "tried": [{key: [key, None, "sk-se***rker", "fine"]}]}
    shown = client.redact(Failure("No.", "upstream_error", details=details))
    assert shown.details == {"raw": "key ***", "n": 7, "tried": [{"***": ["***", None, "***", "fine"]}]}
    await client.close()


@pytest.mark.parametrize(
    ("answered", "logged"),
    [
        ("Incorrect API key provided: sk-secret-of-the-worker.", "Incorrect API key provided: ***"),
        ("Incorrect API key provided: sk-se***rker. See https://x", "Incorrect API key provided: *** See https://x"),
        ("key sk-another of yours", "key *** of yours"),
        ("ends in 'rker'", "ends in ***"),
        ("The model `x`\n does not exist.", "The model `x` does not exist."),
    ],
)
async def test_description_of_an_error_quotes_no_part_of_a_key(
    monkeypatch: pytest.MonkeyPatch, answered: str, logged: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://u:p@127.0.0.1:1/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-worker")
    client = UpstreamClient(Settings())
    response = httpx2.Response(401, request=httpx2.Request("POST", "http://127.0.0.1:1/v1"))
    error = openai.AuthenticationError("401", response=response, body={"message": answered})
    assert client.describe(error) == f"http://127.0.0.1:1/v1: {logged}"
    assert client.describe(TimeoutError()) == "http://127.0.0.1:1/v1"
    await client.close()
