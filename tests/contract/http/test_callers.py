"""Authorization and origins: API keys, tickets, hosts, CORS."""

import asyncio
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from support.api import Api, Response, body
from support.product import CALLERS, ORIGIN, UNKNOWN_ID, Product
from support.sse import Parser, streamed_text
from tailrace_frontend.rate_limits import TURNS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_request_without_a_valid_key_is_unauthorized(product: Product) -> None:
    generation_id = await product.anna.create()
    for caller in (product.stranger, Api(product.http, product.stranger.url, "wrong-key")):
        for response in (
            await caller.post(body()),
            await caller.list(),
            await caller.get(generation_id),
            await caller.cancel(generation_id),
            await caller.delete(generation_id),
            await caller.events(generation_id),
            await caller.get(UNKNOWN_ID),
            await caller.events(UNKNOWN_ID),
        ):
            assert response.refusal == (401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
    assert (await product.anna.get(generation_id)).value["status"] == "queued"


async def test_generation_of_another_caller_is_indistinguishable_from_an_unknown_one(product: Product) -> None:
    generation_id = await product.anna.create()
    deleted = await product.anna.create()
    await product.anna.delete(deleted)
    for call in (Api.get, Api.cancel, Api.delete, Api.events):
        unknown = await call(product.ben, UNKNOWN_ID)
        for hers in (generation_id, deleted):
            response = await call(product.ben, hers)
            assert response.refusal == (404, "not_found")
            assert response.body == unknown.body
            assert _names(response) == _names(unknown)
    assert (await product.anna.get(generation_id)).value["status"] == "queued"
    assert (await product.ben.list(f"?after={generation_id}")).value["data"] == []


def _names(response: Response) -> set[str]:
    return {name.lower() for name in response.headers}


async def test_ticket_reads_its_stream_and_nothing_else(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    path, _, ticket = url.partition("?")
    assert path == f"/v1/generations/{generation_id}/events"
    response = await product.stranger.request("GET", url, headers={"Accept": "text/event-stream"})
    assert streamed_text(Parser().feed(response.body)) == "Hello"
    last = Parser().feed(response.body)[-1].id
    assert (await product.stranger.request("GET", f"{url}&last_event_id={last}")).status == 204
    another = await product.anna.create()
    for method, elsewhere in (
        ("GET", f"/v1/generations/{another}/events"),
        ("GET", f"/v1/generations/{UNKNOWN_ID}/events"),
        ("GET", f"/v1/generations/{another}"),
        ("POST", f"/v1/generations/{another}/cancel"),
        ("GET", "/v1/generations"),
        ("POST", "/v1/generations"),
    ):
        assert (await product.stranger.request(method, f"{elsewhere}?{ticket}")).refusal == (401, "invalid_api_key")
    for method, beside in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        refused = await product.stranger.request(method, f"/v1/generations/{generation_id}{beside}?{ticket}")
        assert refused.refusal == (403, "insufficient_scope")


async def test_ticket_is_valid_on_every_frontend(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    async with product.frontend(**CALLERS) as frontend:
        assert (await Api(product.http, frontend.url).request("GET", url)).status == 200


async def test_reader_whose_key_is_withdrawn_is_cut(product: Product) -> None:
    file = product.stack.root / "keys"
    file.write_text("anna:anna-key-1\n")
    async with product.frontend(api_keys=f"@{file}", ticket_secret="0123456789abcdef", keepalive_s="0.3") as frontend:
        anna = Api(product.http, frontend.url, "anna-key-1")
        generation_id = await anna.create()
        stream = await anna.stream(generation_id)
        await stream.until("created")
        file.write_text("ben:ben-key-22\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
        stream.cut()
        assert (await anna.get(generation_id)).refusal == (401, "invalid_api_key")
        assert (await Api(product.http, frontend.url, "ben-key-22").get(generation_id)).refusal == (404, "not_found")


async def test_rotated_key_ends_its_streams_and_tickets_within_a_keepalive_interval(product: Product) -> None:
    """The caller keeps its name: the streams and tickets of its new key go on."""
    file, keepalive_s = product.stack.root / "rotated-keys", 6.0
    file.write_text("anna:anna-key-1\nanna:anna-key-2\n")
    settings = {"api_keys": f"@{file}", "ticket_secret": "0123456789abcdef", "keepalive_s": str(keepalive_s)}
    async with product.frontend(**settings) as frontend:
        old, new = (Api(product.http, frontend.url, f"anna-key-{i}") for i in (1, 2))
        generation_id = await old.create()
        urls = [(await api.get(generation_id)).value["events_url"] for api in (old, new)]
        by_ticket = [await Api(product.http, frontend.url).stream(generation_id, query=_query(url)) for url in urls]
        streams = [await old.stream(generation_id), *by_ticket]
        for stream in streams:
            await stream.until("created")
        file.write_text("anna:anna-key-2\n")
        async with asyncio.timeout(keepalive_s):
            for stream in streams[:2]:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await stream.rest()
        for url, status in zip(urls, (401, 200), strict=True):
            response = await product.http.get(frontend.url + url)
            assert response.status == status
            response.close()
        await new.cancel(generation_id)
        await streams[2].rest()
        assert streams[2].kinds == ["created", "done"]
        for stream in streams[:2]:
            stream.cut()


def _query(url: str) -> str:
    return "?" + url.partition("?")[2]


async def test_ticket_in_a_header_reads_its_stream(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    path, _, ticket = url.partition("?ticket=")
    headers = {"Accept": "text/event-stream", "Authorization": f"Ticket {ticket}"}
    response = await product.stranger.request("GET", path, headers=headers)
    assert streamed_text(Parser().feed(response.body)) == "Hello"
    another = await product.anna.create()
    refused = await product.stranger.request("GET", f"/v1/generations/{another}/events", headers=headers)
    assert refused.refusal == (401, "invalid_api_key")


async def test_open_mode_refuses_other_hosts_and_other_origins(product: Product) -> None:
    generation_id = await product.api.create()
    for headers, refusal in (
        ({"Host": "example.org"}, (421, "host_refused")),
        ({"Origin": "https://evil.example.org"}, (403, "origin_refused")),
        ({"Origin": "null"}, (403, "origin_refused")),
        ({"Origin": "http://["}, (403, "origin_refused")),
    ):
        for method, path in (
            ("POST", "/v1/generations"),
            ("GET", "/v1/generations"),
            ("GET", f"/v1/generations/{generation_id}"),
            ("GET", f"/v1/generations/{generation_id}/events"),
            ("POST", f"/v1/generations/{generation_id}/cancel"),
            ("DELETE", f"/v1/generations/{generation_id}"),
        ):
            assert (
                await product.api.request(method, path, headers=headers, data=b"{}" if method == "POST" else None)
            ).refusal == refusal


async def test_cors_headers_are_sent_to_known_origins_on_every_route(product: Product) -> None:
    generation_id = await product.completed("Hello")
    origin = {"Origin": ORIGIN}
    for response in (
        await product.api.request("POST", "/v1/generations", json=body(), headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}", headers=origin),
        await product.api.request("GET", f"/v1/generations/{UNKNOWN_ID}", headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}/events", headers=origin),
        await product.api.request("GET", f"/v1/generations/{UNKNOWN_ID}/events", headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}/events?last_event_id=x", headers=origin),
    ):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "location" in response.headers["access-control-expose-headers"].lower()
        assert "origin" in response.headers["vary"].lower()


async def test_preflight_succeeds_for_known_origins_only(product: Product) -> None:
    for path, method in (("", "POST"), (f"/{UNKNOWN_ID}/events", "GET"), (f"/{UNKNOWN_ID}", "DELETE")):
        requested = {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
        }
        response = await product.api.request(
            "OPTIONS", f"/v1/generations{path}", headers=requested | {"Origin": ORIGIN}
        )
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert method in response.headers["access-control-allow-methods"]
        for name in ("authorization", "content-type", "idempotency-key", "last-event-id"):
            assert name in response.headers["access-control-allow-headers"].lower()
        other = {"Origin": "https://evil.example.org"}
        response = await product.api.request("OPTIONS", f"/v1/generations{path}", headers=requested | other)
        assert response.status == 400
        assert "access-control-allow-origin" not in response.headers


async def test_slow_uploads_of_a_caller_do_not_hold_up_its_other_requests(product: Product) -> None:
    """A frontend works on a few requests of one caller at a time. A body that is still coming is not such work."""
    head = (
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer anna-key-1\r\n"
        b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
    )
    port = int(product.anna.url.rpartition(":")[2])
    uploads = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4 * TURNS)]
    try:
        async with asyncio.timeout(5):
            for reader, writer in uploads:
                writer.write(head)
                assert (await reader.readline()).startswith(b"HTTP/1.1 100"), "the frontend waits for the body"
            assert (await product.anna.post(body())).status == 202
    finally:
        for _, writer in uploads:
            writer.close()


async def chunked(content: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for start in range(0, len(content), 2**16):
        yield content[start : start + 2**16]


async def test_body_of_unknown_length_costs_as_much_as_one_that_was_announced(product: Product) -> None:
    async with product.frontend(**CALLERS, max_requests_per_minute_per_caller="6000") as frontend:
        anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
        invalid = b'{"messages": "' + b"x" * 2**21
        answers = [await anna.request("POST", "/v1/generations", data=chunked(invalid)) for _ in range(2)]
        assert [each.refusal for each in answers] == [(400, "invalid_body"), (429, "rate_limit_exceeded")]
        assert (await ben.post(body())).status == 202


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/cancel")])
async def test_generation_that_is_read_costs_by_its_size(product: Product, method: str, path: str) -> None:
    generation_id = await product.anna.create(messages=[{"role": "user", "content": "x" * 200_000}])
    async with product.frontend(**CALLERS, max_requests_per_minute_per_caller="60") as frontend:
        anna = Api(product.http, frontend.url, "anna-key-1")
        url = f"/v1/generations/{generation_id}"
        assert (await anna.request(method, url + path)).status == 200
        assert (await anna.request("GET", f"{url}?output=false")).refusal == (429, "rate_limit_exceeded")


async def test_callers_with_a_rate_learn_what_is_left_of_it(product: Product) -> None:
    async with product.frontend(**CALLERS, max_requests_per_minute_per_caller="600") as frontend:
        anna = Api(product.http, frontend.url, "anna-key-1")
        remaining = []
        for path in ("/v1/models", "/v1/generations", "/v1/responses/resp_x"):
            headers = (await anna.request("GET", path)).headers
            assert headers["x-ratelimit-limit-requests"] == "600"
            assert re.fullmatch(r"[0-9]+\.[0-9]{3}s", headers["x-ratelimit-reset-requests"])
            remaining.append(int(headers["x-ratelimit-remaining-requests"]))
        assert 0 < remaining[-1] < remaining[0] <= 21
        stranger = await Api(product.http, frontend.url, "wrong-key").request("GET", "/v1/models")
        assert "x-ratelimit-limit-requests" not in stranger.headers
    assert "x-ratelimit-limit-requests" not in (await product.api.request("GET", "/v1/models")).headers
