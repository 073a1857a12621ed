"""One line for each call of the API, without its query."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvicorn

from tailrace_demo.server import Server
from tailrace_frontend.http_protocol import Protocol

NAME = "tailrace_frontend.access_log"


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """404 to a path that ends with `x`, and a stream until the client leaves to one that ends with `events`."""
    status = 404 if scope["path"].endswith("x") else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    if scope["path"].endswith("events"):
        await send({"type": "http.response.body", "body": b"ping", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served() -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    server = Server(uvicorn.Config(answer, http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        async with aiohttp.ClientSession() as http:
            yield http, f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


async def call(http: aiohttp.ClientSession, method: str, url: str) -> None:
    """Wait for the head of a response, and leave."""
    async with http.request(method, url):
        pass


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == NAME and each.levelno == level]


async def test_call_is_one_line_without_its_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, NAME)
    async with served() as (http, url):
        await call(http, "POST", f"{url}/v1/generations?api_key=secret")
        await call(http, "GET", f"{url}/v1/x?ticket=secret")
        await call(http, "GET", f"{url}/api/chat/a%0Ab/c?d")
        await call(http, "GET", f"{url}/v1/generations/gen_a/events?ticket=secret")  # when the stream begins
        assert lines(caplog, logging.INFO) == [
            "POST /v1/generations 200",
            "GET /v1/x 404",
            "GET /api/chat/a%0Ab/c 200",
            "GET /v1/generations/gen_a/events 200",
        ]
    assert "secret" not in caplog.text


async def test_other_requests_are_logged_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, NAME)
    async with served() as (http, url):
        for path in ("/", "/metrics", "/docs"):
            await call(http, "GET", url + path)
        await call(http, "OPTIONS", f"{url}/v1/generations")
    assert lines(caplog, logging.INFO) == []
    assert lines(caplog, logging.DEBUG)[-1] == "OPTIONS /v1/generations 200"
    assert len(lines(caplog, logging.DEBUG)) == 4


async def test_probes_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, NAME)
    async with served() as (http, url):
        for path in ("/healthz", "/livez", "/readyz?verbose", "/startupz"):
            await call(http, "GET", url + path)
    assert lines(caplog, logging.DEBUG) == []


async def test_polls_of_the_page_are_logged_at_debug_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, NAME)
    async with served() as (http, url):
        await call(http, "GET", f"{url}/v1/generations/gen_a?output=false")
        await call(http, "GET", f"{url}/v1/generations/gen_x?output=false")  # 404
        await call(http, "GET", f"{url}/v1/generations/gen_a?output=true")
    assert lines(caplog, logging.DEBUG) == ["GET /v1/generations/gen_a 200"]
    assert lines(caplog, logging.INFO) == ["GET /v1/generations/gen_x 404", "GET /v1/generations/gen_a 200"]


async def test_log_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.WARNING, NAME)
    async with served() as (http, url):
        await call(http, "GET", f"{url}/v1/models")
    assert lines(caplog, logging.INFO) == []
