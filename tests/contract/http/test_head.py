"""HEAD of every route that has GET, on a raw socket: no byte of a body follows, and the connection stays in step."""

import asyncio
from urllib.parse import urlsplit

import pytest
from starlette.routing import Route

from support.product import Product
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.http.api import ROUTERS

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED_FOR = (
    ("", ""),
    ("?stream=true", ""),
    ("?stream=1&starting_after=0", ""),
    ("", "Accept: text/event-stream\r\n"),
    ("", "Accept: application/x-ndjson\r\n"),
)
READ_S = 5.0
PREFIXES = {"completion_id": "chatcmpl-", "response_id": "resp_"}


def paths(generation_id: str) -> list[str]:
    """Every path that has GET, with the id of the generation in the form of its API."""
    routes = [*Frontend(Settings()).api.routes, *(route for router in ROUTERS for route in router.routes)]
    found = {each.path for each in routes if isinstance(each, Route) and "GET" in (each.methods or ())}
    return sorted(_filled(path, generation_id) for path in found)


def _filled(path: str, generation_id: str) -> str:
    for name, prefix in PREFIXES.items():
        path = path.replace(f"{{{name}}}", generation_id.replace("gen_", prefix))
    return "/".join(generation_id if part.startswith("{") else part for part in path.split("/"))


async def test_head_is_followed_by_the_next_response(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("The answer", " so far")
    ended = await product.api.create()
    writer = await product.writer(ended)
    await writer.write_text("The whole answer")
    await writer.end()
    checked = [*paths(generation_id), *paths(ended)]
    assert f"/v1/responses/{generation_id.replace('gen_', 'resp_')}" in checked
    cases = [(path, query, headers) for path in checked for query, headers in ASKED_FOR]
    wrong = [case for case in cases if not await _is_in_step(product, *case)]
    assert wrong == []


async def test_head_of_an_answer_that_is_awaited_has_the_head_of_its_get_at_once(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("The answer", " so far")
    path = f"/v1/chat/completions/chatcmpl-{generation_id[4:]}"
    async with asyncio.timeout(READ_S):
        response = await product.api.request("HEAD", path)
    await writer.end()
    of_get = await product.api.request("GET", path)
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert "content-length" not in response.headers
    late = {"content-length", "date", "x-request-id", "etag"}
    ours, theirs = ({name.lower() for name in each.headers} - late for each in (response, of_get))
    assert theirs <= ours


async def test_head_of_a_generation_does_not_wait_for_its_end(product: Product) -> None:
    generation_id = await product.api.create()
    await product.writer(generation_id)
    for query in ("wait=30", "wait=30&output=false"):
        async with asyncio.timeout(READ_S):
            response = await product.api.request("HEAD", f"/v1/generations/{generation_id}?{query}")
        assert response.status == 200


async def test_head_of_a_stream_in_the_query_is_refused(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("The answer")
    for path in (f"/v1/responses/resp_{generation_id[4:]}", f"/v1/chat/completions/chatcmpl-{generation_id[4:]}"):
        response = await product.api.request("HEAD", f"{path}?stream=true")
        assert (response.status, response.headers["allow"]) == (405, "GET")


async def _is_in_step(product: Product, path: str, query: str, headers: str) -> bool:
    """Whether a HEAD's response is a head alone, and the next request on the connection gets its own response."""
    address = urlsplit(product.api.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(READ_S):
            writer.write(f"HEAD {path}{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            rest = await reader.read()
    except (TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
    next_head, _, body = rest.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 ") and next_head.startswith(b"HTTP/1.1 200") and body == b'{"status":"ok"}'
