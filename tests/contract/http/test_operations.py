"""Documentation, health, readiness and metrics; unknown routes, unknown methods and malformed HTTP."""

import asyncio
import json
import signal
import time
from typing import Any

import pytest

from support.api import Api, eventually
from support.product import UNKNOWN_ID, Product, has_metric, metrics
from support.stack import Frontend
from tailrace_cli.embedded import free_port
from tailrace_frontend.server import OPERATIONS_CONNECTIONS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_documentation_lists_every_route_and_needs_no_other_server(product: Product) -> None:
    paths = (await product.api.request("GET", "/openapi.json")).value["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} >= {
        ("/v1/generations", "post"),
        ("/v1/generations", "get"),
        ("/v1/generations/{generation_id}", "get"),
        ("/v1/generations/{generation_id}", "delete"),
        ("/v1/generations/{generation_id}/cancel", "post"),
        ("/v1/generations/{generation_id}/events", "get"),
        ("/healthz", "get"),
        ("/livez", "get"),
        ("/startupz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }
    docs = await product.api.request("GET", "/docs")
    assert docs.status == 200
    assert b"https://" not in docs.body


async def test_examples_of_the_reference_are_accepted(product: Product) -> None:
    """*Try it out* at `/docs` sends them."""
    document = (await product.api.request("GET", "/openapi.json")).value

    def example(path: str) -> Any:
        return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]

    created = await product.api.request("POST", "/v1/generations", json=example("/v1/generations"))
    assert created.status == 202
    answer = await product.api.request("POST", "/v1/responses", json=example("/v1/responses") | {"background": True})
    assert answer.status == 200
    counted = await product.api.request(
        "POST", "/v1/responses/input_tokens", json=example("/v1/responses/input_tokens")
    )
    assert counted.status == 200


async def test_examples_of_the_reference_name_the_default_model(product: Product) -> None:
    async with product.frontend(model="llama3.2") as frontend:
        document = (await Api(product.http, frontend.url).request("GET", "/openapi.json")).body
    assert document.count(b'"model":"llama3.2"') == 7
    assert b'"model":"demo"' not in document


async def test_reference_has_the_icon_of_the_page(product: Product) -> None:
    docs = await product.api.request("GET", "/docs")
    assert b'href="/favicon.svg"' in docs.body


async def test_metrics_are_plain_text(product: Product) -> None:
    response = await product.api.request("GET", "/metrics")
    document = (await product.api.request("GET", "/openapi.json")).value
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == [
        response.headers["content-type"]
    ]


@pytest.mark.parametrize("path", ["/", "/page.css", "/healthz", "/readyz", "/metrics", "/docs", "/v1/generations"])
async def test_head_has_the_headers_of_get_and_no_body(product: Product, path: str) -> None:
    got, head = [await product.api.request(method, path) for method in ("GET", "HEAD")]
    assert (head.status, head.body) == (200, b"")
    changing = {"date", "x-request-id", "content-length", "transfer-encoding"}
    assert {name: value for name, value in head.headers.items() if name.lower() not in changing} == {
        name: value for name, value in got.headers.items() if name.lower() not in changing
    }
    assert (await product.api.request("GET", "/healthz")).status == 200, "the connection is in step"


async def test_head_of_a_stream_is_refused(product: Product) -> None:
    generation_id = await product.api.create()
    response = await product.api.request("HEAD", f"/v1/generations/{generation_id}/events")
    assert (response.status, response.headers["allow"]) == (405, "GET")


async def test_page_is_sent_compressed_and_once(product: Product) -> None:
    response = await product.api.request("GET", "/page.js", headers={"accept-encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert int(response.headers["content-length"]) < len(response.body) / 2
    etag = response.headers["etag"]
    again = await product.api.request("GET", "/page.js", headers={"if-none-match": etag})
    assert (again.status, again.body) == (304, b"")


async def test_unknown_address_is_a_page_in_a_browser(product: Product) -> None:
    accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    response = await product.api.request("GET", "/nothing", headers=accept)
    assert (response.status, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b"/nothing" in response.body
    unknown = await product.api.request("GET", f"/v1/generations/{UNKNOWN_ID}", headers=accept)
    assert unknown.refusal == (404, "not_found"), "the API answers in JSON"


async def test_page_has_security_headers(product: Product) -> None:
    response = await product.api.request("GET", "/")
    assert response.status == 200
    assert response.headers["content-security-policy"].startswith("default-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
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
async def test_unknown_route_is_not_found(product: Product, path: str) -> None:
    assert (await product.api.request("GET", path)).refusal == (404, "not_found")


async def test_unknown_method_is_refused_with_the_allowed_ones(product: Product) -> None:
    for path, allowed in (
        ("/v1/generations", {"GET", "HEAD", "POST"}),
        (f"/v1/generations/{UNKNOWN_ID}", {"GET", "HEAD", "DELETE"}),
        (f"/v1/generations/{UNKNOWN_ID}/cancel", {"POST"}),
        (f"/v1/generations/{UNKNOWN_ID}/events", {"GET"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/metrics", {"GET", "HEAD"}),
    ):
        response = await product.api.request("PATCH", path)
        assert response.refusal == (405, "method_not_allowed")
        assert set(response.headers["allow"].split(", ")) == allowed


async def test_frontend_is_healthy_and_ready(product: Product) -> None:
    for path in ("/healthz", "/livez", "/startupz"):
        assert (await product.api.request("GET", path)).value == {"status": "ok"}
    response = await product.api.request("GET", "/readyz")
    assert (response.status, response.value["status"]) == (200, "ok")


async def test_readiness_names_a_wrong_eviction_policy(product: Product) -> None:
    redis = product.log.server.client
    await redis.config_set("maxmemory-policy", "allkeys-lru")

    async def is_refused() -> bool:
        response = await product.api.request("GET", "/readyz")
        return response.status == 503 and "maxmemory-policy is allkeys-lru" in response.error["message"]

    try:
        await eventually(is_refused, 5)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    await eventually(lambda: _is_ready(product), 5)


async def _is_ready(product: Product) -> bool:
    return (await product.api.request("GET", "/readyz")).status == 200


@pytest.mark.parametrize(("name", "value"), [("appendonly", "no"), ("maxmemory", "0")])
async def test_readiness_warns_without_persistence_and_without_a_limit(product: Product, name: str, value: str) -> None:
    redis = product.log.server.client
    before = (await redis.config_get(name))[name]

    async def is_warned() -> bool:
        response = await product.api.request("GET", "/readyz")
        assert response.status == 200
        return name in str(response.value["warnings"])

    await redis.config_set(name, value)
    try:
        await eventually(is_warned, 5)
    finally:
        await redis.config_set(name, before)


async def test_readiness_and_metrics_ask_redis_once_a_second_however_often_they_are_requested(
    product: Product,
) -> None:
    redis = product.log.server.client

    async def calls(*names: str) -> int:
        stats = await redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in names)

    own, info, began = await calls("zcard", "zcount"), await calls("info"), time.monotonic()
    for _ in range(100):
        await product.api.request("GET", "/readyz")
        await product.api.request("GET", "/metrics")
    took = time.monotonic() - began
    assert await calls("zcard", "zcount") - own <= 2 * (took + 2)
    # Beside these two, the sweepers and this test ask for INFO: about a dozen times a second with a lease of 0.5 s.
    assert await calls("info") - info <= (took + 1) * 30


async def test_headers_that_nothing_reads_change_no_answer_and_take_no_time(product: Product) -> None:
    for value in ("bytes=x", "bytes=0-1"):
        response = await product.api.request("GET", "/", headers={"Range": value, "If-Range": "x"})
        assert response.status == 200
    began = time.monotonic()
    response = await product.api.request("GET", "/healthz", headers={"Cookie": 'a="' + "\\" * 60_000 + '"'})
    assert response.value == {"status": "ok"}
    assert time.monotonic() - began < 2  # parsed, 6.6 s


async def test_operations_may_have_an_address_of_their_own(product: Product) -> None:
    port = free_port()
    async with product.frontend(operations_address=f"127.0.0.1:{port}") as frontend:
        api, operations = Api(product.http, frontend.url), Api(product.http, f"http://127.0.0.1:{port}")
        for path in ("/readyz", "/metrics"):
            assert (await api.request("GET", path)).refusal == (404, "not_found")
            assert (await operations.request("GET", path)).status == 200
        for one in (api, operations):
            for path in ("/healthz", "/livez", "/startupz"):
                assert (await one.request("GET", path)).value == {"status": "ok"}
        for path in ("/", "/v1/generations", "/docs", "/openapi.json"):
            assert (await operations.request("GET", path)).refusal == (404, "not_found")
        assert (await operations.request("POST", "/readyz")).refusal == (405, "method_not_allowed")
        generation_id = await api.create()
        assert (await metrics(operations))["tailrace_generations_created_total"] == 1
        await api.cancel(generation_id)
        frontend.send(signal.SIGTERM)
        assert await frontend.wait() == 0


async def test_operations_on_an_address_of_their_own_have_the_limits_of_clients(product: Product) -> None:
    port = free_port()
    async with product.frontend(operations_address=f"127.0.0.1:{port}"):
        operations = Api(product.http, f"http://127.0.0.1:{port}")
        assert (await operations.request("GET", "/healthz?" + "a" * 5000)).refusal == (431, "head_too_large")
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(OPERATIONS_CONNECTIONS + 1)]
        first, _ = connections[0]
        assert await asyncio.wait_for(first.read(), 5) == b""
        assert (await operations.request("GET", "/healthz")).status == 200
        for _, writer in connections:
            writer.close()


async def test_readiness_names_a_subscriber_connection_that_stays_down(product: Product) -> None:
    redis = product.log.server.client
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    await redis.execute_command("ACL", "SETUSER", "default", "-ssubscribe")
    try:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: _is_refused(product.api))
        await stream.rest()
    finally:
        await redis.execute_command("ACL", "SETUSER", "default", "+ssubscribe")
    assert stream.parser.comments == ["Redis is unavailable"]
    await eventually(lambda: has_metric(product.api, "tailrace_subscriber_connected", 1))
    assert (await product.api.request("GET", "/readyz")).status == 200
    await product.api.cancel(generation_id)


async def _is_refused(api: Api) -> bool:
    """Whether the frontend is not ready; until then it only warns."""
    response = await api.request("GET", "/readyz")
    subject = str(response.value["warnings"]) if response.status == 200 else response.error["message"]
    assert response.status == 200 or "subscriber connection" in subject
    return response.status == 503


async def test_metrics_count_generations_streams_and_readers(product: Product) -> None:
    async with product.frontend() as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        figures = await metrics(api)
        assert figures["tailrace_generations_created_total"] == 1
        assert figures["tailrace_streams_opened_total"] == 1
        assert (figures["tailrace_readers"], figures["tailrace_live_logs"]) == (1, 1)
        assert figures["tailrace_subscriber_connected"] == 1
        assert figures["tailrace_generations_waiting"] >= 1
        assert figures["tailrace_oldest_wait_seconds"] > 0
        assert figures["tailrace_workers"] == 0
        stream.cut()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        assert await has_metric(api, "tailrace_live_logs", 0)
        await api.cancel(generation_id)
        await api.read(generation_id, stream.parser.last_id)
        assert await has_metric(api, "tailrace_resumes_total", 1)


async def _raw(frontend: Frontend, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of the response to bytes that are sent as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")),
            0,
        )
        content = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return head, content


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
async def test_invalid_cursor_header_is_refused_whatever_its_bytes(product: Product, lines: bytes) -> None:
    generation_id = await product.completed("Hello")
    path = f"/v1/generations/{generation_id}/events".encode()
    head, content = await _raw(
        product.stack.frontends[0], b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(content)["error"].keys() == {"message", "type", "param", "code"}


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
async def test_malformed_http_gets_a_4xx_with_an_error_object(product: Product, sent: bytes) -> None:
    async with product.nothing_stored():
        head, content = await _raw(product.stack.frontends[0], sent)
    assert head.startswith(b"HTTP/1.1 4")
    assert json.loads(content)["error"].keys() == {"message", "type", "param", "code"}
