import gzip
from collections.abc import Iterable

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from support.asgi import ask
from tailrace_frontend.http.page_transfer import MIN_BYTES, PageTransfer

TEXT = "A line of the page's script.\n" * 200


class Site:
    """A file whose content may change, and another address."""

    def __init__(self) -> None:
        self.text = TEXT
        self.app = FastAPI()

        @self.app.get("/page.js")
        async def file() -> Response:
            return Response(self.text, headers={"Cache-Control": "no-cache", "ETag": '"by time"'})

        @self.app.get("/pieces.js")
        async def pieces() -> Response:
            parts: Iterable[str] = (self.text, "end")
            return StreamingResponse(iter(parts))

        @self.app.get("/v1/answer")
        async def answer(_: Request) -> Response:
            return Response(self.text)

        self.app.add_middleware(PageTransfer, paths=["/page.js", "/pieces.js", "/missing.js"])


@pytest.mark.parametrize("accept", ["gzip", "br, GZIP;q=0.5", "deflate, gzip, br"])
async def test_file_is_compressed_for_clients_that_accept_it(accept: str) -> None:
    response = await ask(Site().app, "GET", "/page.js", headers={"accept-encoding": accept})
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["cache-control"] == "no-cache"
    assert int(response.headers["content-length"]) == len(response.body) < len(TEXT) / 10
    assert gzip.decompress(response.body).decode() == TEXT


@pytest.mark.parametrize("accept", ["", "br", "gzip;q=0", "gzip; q=0.0", "identity"])
async def test_file_is_sent_as_it_is_to_other_clients(accept: str) -> None:
    response = await ask(Site().app, "GET", "/page.js", headers={"accept-encoding": accept})
    assert "content-encoding" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.body.decode() == TEXT


async def test_file_that_the_browser_has_is_not_sent_again_until_it_changes() -> None:
    site = Site()
    first = await ask(site.app, "GET", "/page.js", headers={"accept-encoding": "gzip"})
    etag = first.headers["etag"]
    assert etag != '"by time"'
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}'):
        again = await ask(site.app, "GET", "/page.js", headers={"if-none-match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in again.headers
    site.text += "changed"
    changed = await ask(site.app, "GET", "/page.js", headers={"if-none-match": etag, "accept-encoding": "gzip"})
    assert changed.status == 200
    assert gzip.decompress(changed.body).decode() == TEXT + "changed"


async def test_small_file_is_not_compressed() -> None:
    site = Site()
    site.text = "x" * (MIN_BYTES - 1)
    assert (
        "content-encoding" not in (await ask(site.app, "GET", "/page.js", headers={"accept-encoding": "gzip"})).headers
    )


async def test_file_that_arrives_in_pieces_is_compressed_whole() -> None:
    response = await ask(Site().app, "GET", "/pieces.js", headers={"accept-encoding": "gzip"})
    assert gzip.decompress(response.body).decode() == TEXT + "end"


async def test_answers_of_the_api_and_errors_are_not_touched() -> None:
    headers = {"accept-encoding": "gzip"}
    answer = await ask(Site().app, "GET", "/v1/answer", headers=headers)
    assert "content-encoding" not in answer.headers
    assert "etag" not in answer.headers
    missing = await ask(Site().app, "GET", "/missing.js", headers=headers)
    assert (missing.status, "etag" in missing.headers) == (404, False)
    ranged = await ask(Site().app, "GET", "/page.js", headers=headers | {"range": "bytes=0-1"})
    assert "content-encoding" not in ranged.headers
