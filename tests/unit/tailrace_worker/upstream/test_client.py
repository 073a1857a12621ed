"""The way to the upstream; and what is told of its errors: its words about the request, never ours about ourselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest

from tailrace.settings import Settings
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT, DIALECTS
from tailrace_worker.upstream.errors import ConnectionLost, EmptyAnswer, failure_from_exception

REQUEST = httpx2.Request("POST", "http://upstream/v1/chat/completions", headers={"Authorization": "Bearer sk-secret"})


def status_error(status: int, body: object) -> openai.APIStatusError:
    kind = {401: openai.AuthenticationError, 403: openai.PermissionDeniedError, 429: openai.RateLimitError}
    made = kind.get(status, openai.InternalServerError if status >= 500 else openai.BadRequestError)
    return made("sk-secret in the message", response=httpx2.Response(status, request=REQUEST), body=body)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (status_error(401, {"message": "bad key sk-secret"}), "upstream_auth"),
        (status_error(403, {"message": "key sk-secret may not"}), "upstream_auth"),
        (status_error(429, {"message": "slow down"}), "upstream_rate_limited"),
        (status_error(500, {"message": "stack trace"}), "upstream_error"),
        (openai.APITimeoutError(REQUEST), "upstream_timeout"),
        (openai.APIConnectionError(request=REQUEST), "upstream_unreachable"),
        (ConnectionLost("ReadError"), "upstream_unreachable"),
        (EmptyAnswer(), "upstream_empty"),
        (TimeoutError(), "upstream_timeout"),
        (ValueError("too large"), "upstream_unreadable"),
        (RuntimeError("sk-secret"), "internal_error"),
    ],
)
def test_every_error_has_a_code_and_no_secret(error: Exception, code: str) -> None:
    failure = failure_from_exception(error)
    assert failure.code == code
    assert "sk-secret" not in failure.message


def test_what_the_upstream_says_of_the_request_is_told() -> None:
    body = {"message": "The context is too long.", "code": "context_length_exceeded", "type": "invalid_request_error"}
    failure = failure_from_exception(status_error(400, body))
    assert (failure.message, failure.code) == (body["message"], body["code"])


@pytest.mark.parametrize("body", [None, "text", [], {"message": None}, {"message": {"odd": 1}}, {"message": "\ud83d"}])
def test_an_odd_body_is_still_a_message(body: object) -> None:
    failure = failure_from_exception(status_error(400, body))
    assert failure.message.encode()


class Server:
    """Says two payloads to whoever asks, and the end of HTTP so much later; None: never."""

    def __init__(self, end_after_s: float | None) -> None:
        self.connections = 0
        self._end_after_s = end_after_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                record = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(record.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for event in (b'data: {"said": 1}\n\n', b"data: [DONE]\n\n"):
                    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                if self._end_after_s is None:
                    await reader.read()
                    break
                await asyncio.sleep(self._end_after_s)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def asked(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UpstreamClient]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        upstream = UpstreamClient(Settings())
        yield upstream
        await upstream.close()


async def payloads_of(upstream: UpstreamClient) -> list[bytes]:
    stream = DIALECTS[DEFAULT_DIALECT].open(upstream, {"model": "m", "messages": []})
    return [payload async for payloads in stream for payload in payloads]


@pytest.mark.parametrize("end_after_s", [0, 0.01])
async def test_one_answer_after_another_comes_over_the_same_connection(
    end_after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(end_after_s)
    async with asked(server, monkeypatch) as upstream:
        for _ in range(3):
            assert await payloads_of(upstream) == [b'{"said": 1}', b"[DONE]"]
    assert server.connections == 1


async def test_an_upstream_that_does_not_end_after_its_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(None)
    async with asked(server, monkeypatch) as upstream, asyncio.timeout(5):
        for _ in range(2):
            assert await payloads_of(upstream) == [b'{"said": 1}', b"[DONE]"]
    assert server.connections == 2
