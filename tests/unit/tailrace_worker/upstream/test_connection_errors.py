"""Each way in which a connection fails, on real sockets: the transport reports all of them as timeouts."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest

from tailrace.settings import Settings
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.connection_errors import MAX_CAUSES, causes, connection_condition
from tailrace_worker.upstream.errors import UPSTREAM_ERRORS, failure_from_exception

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def failing(monkeypatch: pytest.MonkeyPatch, url: str) -> tuple[str, str, str]:
    """Code and message of a request to this address, and what the log has beside them."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-tests")
    client = UpstreamClient(Settings(upstream_connect_timeout_s=0.3))
    create = client.sdk.chat.completions.with_streaming_response.create
    try:
        async with create(model="demo", messages=[], stream=True):
            raise AssertionError("the upstream answered")
    except UPSTREAM_ERRORS as error:
        failure = failure_from_exception(error)
        return failure.code, failure.message, client.describe(error)
    finally:
        await client.close()


@asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve_quietly, "127.0.0.1", 0, ssl=tls)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def read_head(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    await writer.drain()


async def test_refused_connection_asks_whether_the_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    code, message, logged = await failing(monkeypatch, "http://127.0.0.1:1/v1")
    assert code == "upstream_unreachable"
    assert message == "The upstream refuses connections. Is the server at OPENAI_BASE_URL running?"
    assert logged.startswith("http://127.0.0.1:1/v1: Cannot connect")


async def test_address_in_the_log_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, logged = await failing(monkeypatch, "http://user:password@127.0.0.1:1/v1?key=secret")
    assert logged.startswith("http://127.0.0.1:1/v1")
    assert "password" not in logged
    assert "secret" not in logged


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://nosuchhost.invalid/v1", "name of the upstream's host cannot be resolved"),
        ("ftp://127.0.0.1/v1", "OPENAI_BASE_URL is not the address of an upstream"),
        ("127.0.0.1:11434/v1", "OPENAI_BASE_URL is not the address of an upstream"),
        ("http://127.0.0.1:999999/v1", "OPENAI_BASE_URL is not the address of an upstream"),
    ],
)
async def test_wrong_address_names_the_setting(monkeypatch: pytest.MonkeyPatch, url: str, words: str) -> None:
    code, message, _ = await failing(monkeypatch, url)
    assert code == "upstream_unreachable"
    assert words in message
    assert "OPENAI_BASE_URL" in message


@pytest.mark.parametrize("serve", [read_head, reset])
async def test_connection_that_the_upstream_closes_is_no_timeout(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    async with server(serve) as port:
        code, message, _ = await failing(monkeypatch, f"http://127.0.0.1:{port}/v1")
    assert code == "upstream_unreachable"
    assert "closed the connection" in message


async def test_connection_that_is_not_accepted_in_time_names_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    listening, waiting = socket.socket(), []
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(4):  # the backlog is full then: the kernel answers no further connection
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listening.getsockname())
    code, message, _ = await failing(monkeypatch, f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    assert code == "upstream_timeout"
    assert "TAILRACE_UPSTREAM_CONNECT_TIMEOUT_S" in message
    for each in (listening, *waiting):
        each.close()


async def test_server_without_tls_or_http_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(greet) as port:
        code, message, _ = await failing(monkeypatch, f"https://127.0.0.1:{port}/v1")
        assert code == "upstream_unreachable"
        assert "does not speak TLS" in message
        code, message, _ = await failing(monkeypatch, f"http://127.0.0.1:{port}/v1")
        assert code == "upstream_unreadable"
        assert "does not answer in HTTP" in message


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_certificate_that_is_not_accepted_is_named(
    monkeypatch: pytest.MonkeyPatch, self_signed: ssl.SSLContext
) -> None:
    async with server(read_head, self_signed) as port:
        code, message, logged = await failing(monkeypatch, f"https://127.0.0.1:{port}/v1")
    assert code == "upstream_unreachable"
    assert "certificate is not accepted" in message
    assert "self-signed" in logged


def test_error_without_a_known_cause_keeps_its_kind() -> None:
    request = openai.APITimeoutError(None).request  # type: ignore[arg-type]
    assert connection_condition(openai.APITimeoutError(request)).name == "connecting"
    assert connection_condition(openai.APIConnectionError(request=request)).name == "refused"


def test_causes_of_a_circle_end() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__context__, other.__context__ = other, error
    assert len(list(causes(error))) == MAX_CAUSES
