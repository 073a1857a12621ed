"""An upstream without a response, on a real worker: no server, no name, no TLS, no HTTP, a server that hangs up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api
from support.stack import Stack, stack
from tailrace_cli.embedded import free_port
from tailrace_worker.upstream.conditions import CONDITIONS, ConditionName
from tailrace_worker.upstream.retry_after import FIRST_DELAY_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETRIES = 2
CONNECT_S = 0.5
DELAYS_S = sum(FIRST_DELAY_S * 2**retry for retry in range(RETRIES))
SPARE_S = 1.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Stack]:
    async with stack(upstream_retries=str(RETRIES), upstream_connect_timeout_s=str(CONNECT_S)) as product:
        yield product


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[int, list[int]]]:
    """The port of a server, and a list with an element for each request of a generation: the worker also lists the
    models, by GET."""
    requests: list[int] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        requests.extend([1] * (first in (b"P", b"\x16")))  # POST, or the greeting of TLS
        await serve(reader, writer)

    async with await asyncio.start_server(counted, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1], requests


async def failed(running: Stack, url: str, expected: ConditionName, words: str) -> None:
    """A generation on this upstream fails as the row has it."""
    await running.point_workers_at(url)
    row = CONDITIONS[expected]
    async with aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        result = await api.wait_for_result(await api.create())
    assert (result["status"], result["error"]["code"]) == ("failed", row.code)
    assert words in result["error"]["message"]
    ran_s = result["timings"]["total"] - result["timings"]["queue"]
    tries = 1 if row.retried == "no" else 1 + RETRIES
    connecting_s = CONNECT_S * tries if expected == "connecting" else 0
    assert ran_s <= (DELAYS_S if tries > 1 else 0) + connecting_s + SPARE_S
    retried = [line for line in running.workers[0].output.splitlines() if result["id"] in line and "sent again" in line]
    assert len(retried) == tries - 1


async def test_upstream_that_does_not_run_is_asked_again(running: Stack) -> None:
    await failed(running, f"http://127.0.0.1:{free_port()}/v1", "refused", "Is the server at OPENAI_BASE_URL running?")


async def test_name_that_cannot_be_resolved_is_asked_again(running: Stack) -> None:
    await failed(running, "http://nosuchhost.invalid/v1", "unresolved", "cannot be resolved")


@pytest.mark.parametrize(
    ("scheme", "serve", "expected", "words"),
    [
        ("http", hang_up, "refused", "closed the connection without an answer"),
        ("https", greet, "certificate", "does not speak TLS"),
        ("http", greet, "no_http", "does not answer in HTTP"),
    ],
)
async def test_server_that_gives_no_response_is_asked_as_often_as_the_table_has_it(
    running: Stack, scheme: str, serve: Serve, expected: ConditionName, words: str
) -> None:
    async with server(serve) as (port, requests):
        await failed(running, f"{scheme}://127.0.0.1:{port}/v1", expected, words)
        calls = 1 if CONDITIONS[expected].retried == "no" else 1 + RETRIES
        assert len(requests) == calls or scheme == "https"  # the list of the models begins with the same greeting
