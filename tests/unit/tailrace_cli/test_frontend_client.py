"""How commands find a frontend, and what they report of an address where none is."""

import socket
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tailrace.errors import Misconfigured, TailraceError, Unavailable
from tailrace.settings import Settings
from tailrace_cli.data_dir import forget_frontend_url, write_frontend_url
from tailrace_cli.frontend_client import address_of, checked, opened_frontend, rows_of

JSON = "application/json"
ANSWERS: dict[str, tuple[int, str, bytes]] = {
    "/page": (200, "text/html", b"<html>"),
    "/elsewhere": (307, "text/plain", b""),
    "/list": (200, JSON, b"[]"),
    "/missing": (404, "text/plain", b"not here"),
    "/strange": (500, JSON, b'{"error": "of another form"}'),
    "/teapot": (418, JSON, b'{"error": {"message": "I am a teapot.", "code": null}}'),
    "/away": (503, JSON, b'{"error": {"message": "Redis is away.", "code": "unavailable"}}'),
}


async def answer(request: web.Request) -> web.StreamResponse:
    if request.path == "/cut":
        assert request.transport is not None
        request.transport.abort()
    if request.path == "/half":
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b': ping\r\n\r\nid: 1\r\ndata: {}\r\n\r\nevent: snapshot\r\ndata: {"n"')
        assert request.transport is not None
        request.transport.abort()
        return response
    status, kind, body = ANSWERS[request.path]
    location = {"location": "https://elsewhere.example.org/"} if status == 307 else {}
    return web.Response(status=status, headers={"content-type": kind, **location}, body=body)


async def error_at(path: str) -> TailraceError:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server, opened_frontend(Settings(url=str(server.make_url("")))) as frontend:
        with pytest.raises(TailraceError) as raised:
            await frontend.get(path)
        return raised.value


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/page", "is no Tailrace frontend: it answers 200 text/html"),
        ("/elsewhere", "it answers 307 text/plain and sends elsewhere (https://elsewhere.example.org/)"),
        ("/list", "is no Tailrace frontend: it answers 200 application/json"),
        ("/missing", "is no Tailrace frontend: it answers 404 text/plain"),
        ("/strange", "is no Tailrace frontend: it answers 500"),
    ],
)
async def test_server_that_is_no_frontend_is_named(path: str, problem: str) -> None:
    error = await error_at(path)
    assert isinstance(error, Misconfigured)
    assert problem in error.message


@pytest.mark.parametrize(
    ("path", "problem"), [("/teapot", "I am a teapot."), ("/away", ": Redis is away."), ("/cut", "was lost: ")]
)
async def test_failure_of_a_frontend_is_its_message(path: str, problem: str) -> None:
    assert problem in (await error_at(path)).message


@pytest.mark.parametrize("key", ["a\nb", "“quoted”", "a\tb"])
async def test_key_that_a_header_cannot_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_API_KEY has a character") as raised:
        async with opened_frontend(Settings(url="http://127.0.0.1:1", api_key=key)):
            pass
    assert key not in raised.value.message


async def test_stream_that_breaks_off_has_its_whole_events() -> None:
    app = web.Application()
    app.router.add_get("/half", answer)
    async with TestServer(app) as server, opened_frontend(Settings(url=str(server.make_url("")))) as frontend:
        events = frontend.events("/half")
        assert await anext(events) == ("message", {})
        with pytest.raises(Unavailable, match="was lost"):
            await anext(events)


async def test_port_without_a_program_is_named_and_where_dev_was_looked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with opened_frontend(Settings(port=port, data_dir=tmp_path)) as frontend:
        with pytest.raises(Unavailable) as raised:
            await frontend.get("/")
    assert raised.value.message == (
        f"http://127.0.0.1:{port} does not answer: Connection refused. No `tailrace dev` runs in {tmp_path}; "
        "--url names a frontend"
    )


async def test_address_of_https_where_none_is_spoken_is_explained() -> None:
    app = web.Application()
    async with TestServer(app) as server:
        url = str(server.make_url("")).replace("http:", "https:")
        async with opened_frontend(Settings(url=url)) as frontend:
            with pytest.raises(Unavailable, match=r"does not answer: [A-Z_]*(SSL|HTTP|VERSION|RECORD)") as raised:
                await frontend.get("/")
    assert "Operation not permitted" not in raised.value.message


def test_address_is_the_given_one_else_that_of_dev_else_that_of_the_settings(tmp_path: Path) -> None:
    assert address_of(Settings(data_dir=tmp_path, host="0.0.0.0", port=81))[0] == "http://127.0.0.1:81"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        write_frontend_url(tmp_path, url)
        assert address_of(Settings(data_dir=tmp_path)) == (url, "")
        assert address_of(Settings(data_dir=tmp_path, url="https://llm.example.org"))[0] == "https://llm.example.org"
    assert address_of(Settings(data_dir=tmp_path))[0] != url, "a `tailrace dev` that was killed leaves its address"
    forget_frontend_url(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        (" https://llm.example.org/tailrace/v1 ", "https://llm.example.org/tailrace"),
        ("http://[::1]:8080/v1/", "http://[::1]:8080"),
    ],
)
def test_address_may_end_as_that_of_an_sdk(given: str, url: str) -> None:
    assert checked(given) == url


@pytest.mark.parametrize(
    "given",
    ["127.0.0.1:8080", "ftp://host", "http://", "http://host:port", "http://me:pw@host", "http://h/?x=1", "http://["],
)
def test_text_that_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(Misconfigured, match="no address of a frontend"):
        checked(given)


def test_answer_without_rows_is_none_of_a_frontend() -> None:
    assert rows_of({"data": [1]}) == [1]
    with pytest.raises(Misconfigured, match="none of a Tailrace frontend"):
        rows_of({"data": None})
