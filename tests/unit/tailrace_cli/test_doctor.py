"""`tailrace doctor` before servers that are no frontend behind a working proxy."""

import gzip
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tailrace.errors import InvalidRequest, Misconfigured, TailraceError, Unauthenticated, Unavailable
from tailrace.settings import Settings
from tailrace_cli.doctor import MOST_SILENCE_S, Examination, main
from tailrace_cli.frontend_client import opened_frontend
from tailrace_cli.proxy_findings import Outcome
from tailrace_cli.proxy_probe import ATTEMPTS, opened_probe
from tailrace_frontend.http.diagnostics import PARAMETERS

HELLO = {
    "version": "1", "keepalive_s": 15.0, "http_version": "1.1", "time": 1.0,
    "received": {"last-event-id": "7-7", "idempotency-key": "tailrace-doctor", "authorization": "Bearer"},
}  # fmt: skip
LIMITED = {"error": {"message": "As many as allowed.", "code": "concurrency_limit_exceeded", "param": None}}
REFUSED = {"error": {"message": "The API key is missing or wrong.", "code": "invalid_api_key", "param": None}}


def events(*frames: tuple[str, object], tail: str = "") -> bytes:
    return ("".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in frames) + tail).encode()


WHOLE = events(
    ("hello", HELLO), ("beat", {"number": 1, "at_ms": 100.0}), ("end", {"at_ms": 100.0}), tail="retry: 1\n\n"
)
STOPPED = events(("hello", HELLO), tail="retry: 1\n\n")


class Server:
    """Answers the diagnostics with these bodies, one after the other; the last one again and again."""

    def __init__(self, *bodies: bytes, status: int = 200, kind: str = "text/event-stream", packed: bytes = b"") -> None:
        self.bodies = list(bodies)
        self.asked = 0
        self.on_silence: int | None = None
        self._status, self._kind, self._packed = status, kind, packed

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/tailrace.js":
            if request.headers["accept-encoding"] == "gzip":
                return web.Response(body=self._packed, headers={"content-encoding": "gzip"})
            return web.Response(body=b"file")
        self.asked += 1
        if request.query["silence_s"] != "0" and self.on_silence is not None:
            if self.on_silence == 0:
                assert request.transport is not None
                request.transport.abort()
            return web.json_response(LIMITED, status=self.on_silence)
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return web.Response(status=self._status, body=body, headers={"content-type": self._kind})

    async def examine(self, key: str = "", silence_s: int = 0) -> Examination:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        async with TestServer(application) as server:
            settings = Settings(url=str(server.make_url("/")), api_key=key)
            async with opened_frontend(settings) as frontend, opened_probe(frontend, key) as probe:
                examination = Examination(probe, silence_s, None)
                await examination.run()
                return examination


async def test_frontend_that_stops_is_asked_again() -> None:
    server = Server(STOPPED, WHOLE, packed=gzip.compress(b"file"))
    examination = await server.examine()
    assert server.asked == 2
    assert {each.outcome for each in examination.findings} <= {Outcome.OK, Outcome.WARNING, Outcome.SKIPPED}


async def test_frontends_that_all_stop_are_reported() -> None:
    server = Server(STOPPED)
    with pytest.raises(Unavailable, match="are being stopped"):
        await server.examine()
    assert server.asked == ATTEMPTS


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"another"), b"file", gzip.compress(b"file")[:-4]],
    ids=["another", "plain", "cut"],  # the bytes hold the time
)
async def test_file_that_differs_when_it_is_compressed_is_a_fault(packed: bytes) -> None:
    examination = await Server(WHOLE, packed=packed).examine()
    assert [each.outcome for each in examination.findings if each.name == "files"] == [Outcome.FAULT]


async def test_stream_without_an_event_is_held_back() -> None:
    examination = await Server(b"", packed=gzip.compress(b"file")).examine()
    assert [each.name for each in examination.findings if each.outcome is Outcome.FAULT] == ["unbuffered"]


async def test_key_that_does_not_arrive_is_a_finding_where_there_is_one() -> None:
    missing = REFUSED | {"error": REFUSED["error"] | {"param": "authorization"}}
    server = Server(json.dumps(missing).encode(), status=401, kind="application/json")
    examination = await server.examine(key="a-key-of-mine")
    assert [(each.name, each.outcome) for each in examination.findings] == [
        ("authorization", Outcome.FAULT), ("http2", Outcome.SKIPPED),
    ]  # fmt: skip
    with pytest.raises(Unauthenticated, match="needs an API key: set TAILRACE_API_KEY"):
        await server.examine()


async def test_key_that_is_refused_is_an_error() -> None:
    for body in (json.dumps(REFUSED).encode(), gzip.compress(json.dumps(REFUSED).encode())):
        with pytest.raises(Unauthenticated, match="refuses the key"):
            await Server(body, status=401, kind="application/json").examine(key="a-key-of-mine")


@pytest.mark.parametrize(
    ("server", "error", "words"),
    [
        (Server(b"<html>", kind="text/html"), Misconfigured, "is no Tailrace frontend"),
        (Server(b"<html>", status=502, kind="text/html"), Misconfigured, "is no Tailrace frontend: it answers 502"),
        (Server(events(("hello", HELLO))[:-9] + b"\n\n"), Misconfigured, "changes the bytes"),
        (
            Server(b'{"error": {"message": "Not found.", "code": "not_found"}}', status=404, kind="application/json"),
            Misconfigured, "of an earlier version",
        ),
    ],
    ids=["a page", "a bad gateway", "changed bytes", "an earlier version"],
)  # fmt: skip
async def test_what_is_no_frontend_is_an_error(server: Server, error: type[TailraceError], words: str) -> None:
    with pytest.raises(error, match=words):
        await server.examine()


async def test_refusal_of_the_silent_stream_is_an_error_of_its_own() -> None:
    server = Server(WHOLE, packed=gzip.compress(b"file"))
    server.on_silence = 429
    with pytest.raises(TailraceError, match="As many as allowed"):
        await server.examine(silence_s=2)


@pytest.mark.parametrize("answer", [0, 502, 504])
async def test_silent_stream_that_is_cut_before_its_head_is_a_finding(answer: int) -> None:
    server = Server(WHOLE, packed=gzip.compress(b"file"))
    server.on_silence = answer
    examination = await server.examine(silence_s=2)
    assert [each.name for each in examination.findings if each.outcome is Outcome.FAULT] == ["silence"]


@pytest.mark.parametrize("silence_s", [-1, 301])
def test_silence_that_no_frontend_keeps_is_refused(silence_s: int) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 300"):
        main(Settings(), as_json=True, silence_s=silence_s)
    assert PARAMETERS["silence_s"].most == MOST_SILENCE_S
