"""Documentation, health, readiness, metrics; routes, methods and bytes that HTTP does not know."""

import asyncio
import json

import pytest

from support.api import Api, eventually
from support.product import UNKNOWN_ID, Product, has_metric, metrics
from support.stack import Frontend

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_documentation_lists_every_route_and_needs_no_other_server(product: Product) -> None:
    paths = (await product.api.request("GET", "/openapi.json")).value["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} >= {
        ("/v1/generations", "post"),
        ("/v1/generations", "get"),
        ("/v1/generations/{generation_id}", "get"),
        ("/v1/generations/{generation_id}", "delete"),
        ("/v1/generations/{generation_id}/cancel", "post"),
        ("/v1/generations/{generation_id}/events", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }
    docs = await product.api.request("GET", "/docs")
    assert docs.status == 200
    assert b"https://" not in docs.body


async def test_the_page_comes_with_headers_that_keep_it_safe(product: Product) -> None:
    told = await product.api.request("GET", "/")
    assert told.status == 200
    assert told.headers["content-security-policy"].startswith("default-src 'self'")
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.headers["referrer-policy"] == "no-referrer"
    assert (await product.api.request("GET", "/tailrace.js")).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/generations/",
        "/v1//generations",
        "/V1/generations",
        f"/v1/generations/{UNKNOWN_ID}/",
        f"/v1/generations/{UNKNOWN_ID}/events/x",
        f"/v1/generations/{UNKNOWN_ID}/nothing",
        "/%2e%2e/etc/passwd",
        "/page/page.js",
    ],
)
async def test_what_is_no_route_is_not_found(product: Product, path: str) -> None:
    assert (await product.api.request("GET", path)).refusal == (404, "not_found")


async def test_a_method_that_is_not_there_is_refused_with_all_that_are(product: Product) -> None:
    for path, allowed in (
        ("/v1/generations", {"GET", "POST"}),
        (f"/v1/generations/{UNKNOWN_ID}", {"GET", "DELETE"}),
        (f"/v1/generations/{UNKNOWN_ID}/cancel", {"POST"}),
        (f"/v1/generations/{UNKNOWN_ID}/events", {"GET"}),
        ("/healthz", {"GET"}),
        ("/metrics", {"GET"}),
    ):
        told = await product.api.request("PATCH", path)
        assert told.refusal == (405, "method_not_allowed")
        assert set(told.headers["allow"].split(", ")) == allowed


async def test_it_is_healthy_and_ready(product: Product) -> None:
    assert (await product.api.request("GET", "/healthz")).value == {"status": "ok"}
    told = await product.api.request("GET", "/readyz")
    assert (told.status, told.value["status"]) == (200, "ok")


async def test_with_the_wrong_eviction_policy_it_is_not_ready_and_names_it(product: Product) -> None:
    redis = product.log.server.client
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        told = await product.api.request("GET", "/readyz")
        assert told.refusal == (503, "unavailable")
        assert "maxmemory-policy is allkeys-lru" in told.error["message"]
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert (await product.api.request("GET", "/readyz")).status == 200


async def test_without_persistence_it_is_ready_and_warns(product: Product) -> None:
    redis = product.log.server.client
    await redis.config_set("appendonly", "no")
    try:
        told = await product.api.request("GET", "/readyz")
        assert told.status == 200
        assert "appendonly" in str(told.value["warnings"])
    finally:
        await redis.config_set("appendonly", "yes")


async def test_the_metrics_count_what_happens(product: Product) -> None:
    async with product.frontend() as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        figures = await metrics(api)
        assert figures["tailrace_generations_created_total"] == 1
        assert figures["tailrace_streams_opened_total"] == 1
        assert (figures["tailrace_readers"], figures["tailrace_live_logs"]) == (1, 1)
        assert figures["tailrace_subscriber_connected"] == 1
        assert figures["tailrace_queued"] >= 1
        assert figures["tailrace_workers"] == 0
        stream.cut()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        assert await has_metric(api, "tailrace_live_logs", 0)
        await api.cancel(generation_id)
        await api.read(generation_id, stream.parser.last_id)
        assert await has_metric(api, "tailrace_streams_resumed_total", 1)


async def _raw(frontend: Frontend, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        record = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in record.split(b"\r\n") if line.lower().startswith(b"content-length:")),
            0,
        )
        told = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return record, told


@pytest.mark.parametrize(
    "lines",
    [
        b"Last-Event-ID: 1-\x002",
        b"Last-Event-ID: 1-2\x00",
        b"Last-Event-ID: 1-2\rX: y",
        b"Last-Event-ID: \xff\xfe",
        b"Last-Event-ID: 1-2\r\nLast-Event-ID: 1-2",
        b"Last-Event-ID: 1-2\r\nlast-event-id: 3-4",
        b"Last-Event-ID: 1-2,1-2",
        b"Last-Event-ID: " + b"9" * 20_000 + b"-1",
    ],
    ids=lambda lines: repr(lines[:32]),
)
async def test_a_header_that_is_no_cursor_is_refused_whatever_its_bytes(product: Product, lines: bytes) -> None:
    generation_id = await product.completed("Hello")
    path = f"/v1/generations/{generation_id}/events".encode()
    record, told = await _raw(
        product.stack.frontends[0], b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n"
    )
    assert record.startswith(b"HTTP/1.1 400 ")
    assert json.loads(told)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/generations/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/%ff%fe/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/%c3%28 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[/v1/generations HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET /v1/generations HTTP/1.1\r\nHost: localhost\r\nOrigin: http://]\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:60]),
)
async def test_whatever_comes_over_the_line_is_a_clear_4xx(product: Product, sent: bytes) -> None:
    async with product.nothing_stored():
        record, told = await _raw(product.stack.frontends[0], sent)
    assert record.startswith(b"HTTP/1.1 4")
    assert json.loads(told)["error"].keys() == {"message", "type", "param", "code"}
