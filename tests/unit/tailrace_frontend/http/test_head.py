from typing import Any

import pytest
from fastapi import FastAPI

from support.asgi import ask
from tailrace_frontend.http.head import HeadAsGet, has_head


def application() -> FastAPI:
    api = FastAPI()

    @api.get("/thing")
    async def thing() -> dict[str, Any]:
        return {"some": "body"}

    @api.get("/thing/events")
    async def events() -> None: ...

    api.add_middleware(HeadAsGet)
    return api


async def test_head_has_the_status_and_headers_of_get_without_the_body() -> None:
    got, head = [await ask(application(), method, "/thing") for method in ("GET", "HEAD")]
    assert (head.status, head.body, dict(head.headers)) == (200, b"", dict(got.headers))
    assert int(head.headers["content-length"]) == len(got.body)
    assert (await ask(application(), "HEAD", "/nothing")).status == 404


async def test_head_of_a_stream_is_not_a_get() -> None:
    assert (await ask(application(), "HEAD", "/thing/events")).status == 405


@pytest.mark.parametrize(
    ("path", "has"),
    [("/", True), ("/v1/generations", True), ("/v1/generations/x/events", False), ("/api/chat/x/stream", False),
     ("/events/x", True), ("", True)],
)  # fmt: skip
def test_streams_have_no_head(path: str, has: bool) -> None:
    assert has_head(path) is has
