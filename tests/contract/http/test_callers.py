"""Who may do what: API keys, tickets, hosts and origins."""

import aiohttp
import pytest

from support.api import Api, Response, body
from support.product import CALLERS, ORIGIN, UNKNOWN_ID, Product
from support.sse import Parser, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_without_a_key_nothing_is_told(product: Product) -> None:
    generation_id = await product.anna.create()
    for caller in (product.stranger, Api(product.http, product.stranger.url, "wrong-key")):
        for told in (
            await caller.post(body()),
            await caller.list(),
            await caller.get(generation_id),
            await caller.cancel(generation_id),
            await caller.delete(generation_id),
            await caller.events(generation_id),
            await caller.get(UNKNOWN_ID),
            await caller.events(UNKNOWN_ID),
        ):
            assert told.refusal == (401, "invalid_api_key")
            assert told.headers["www-authenticate"] == "Bearer"
    assert (await product.anna.get(generation_id)).value["status"] == "queued"


async def test_somebody_elses_is_told_exactly_as_what_never_was(product: Product) -> None:
    generation_id = await product.anna.create()
    deleted = await product.anna.create()
    await product.anna.delete(deleted)
    for ask in (Api.get, Api.cancel, Api.delete, Api.events):
        unknown = await ask(product.ben, UNKNOWN_ID)
        for hers in (generation_id, deleted):
            told = await ask(product.ben, hers)
            assert told.refusal == (404, "not_found")
            assert told.body == unknown.body
            assert _names(told) == _names(unknown)
    assert (await product.anna.get(generation_id)).value["status"] == "queued"
    assert (await product.ben.list(f"?after={generation_id}")).value["data"] == []


def _names(told: Response) -> set[str]:
    return {name.lower() for name in told.headers}


async def test_a_ticket_reads_its_stream_and_nothing_else(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    path, _, ticket = url.partition("?")
    assert path == f"/v1/generations/{generation_id}/events"
    told = await product.stranger.request("GET", url, headers={"Accept": "text/event-stream"})
    assert said(Parser().feed(told.body)) == "Hello"
    last = Parser().feed(told.body)[-1].id
    assert (await product.stranger.request("GET", f"{url}&last_event_id={last}")).status == 204
    another = await product.anna.create()
    for method, elsewhere in (
        ("GET", f"/v1/generations/{another}/events"),
        ("GET", f"/v1/generations/{UNKNOWN_ID}/events"),
        ("GET", f"/v1/generations/{generation_id}"),
        ("DELETE", f"/v1/generations/{generation_id}"),
        ("POST", f"/v1/generations/{generation_id}/cancel"),
        ("GET", "/v1/generations"),
        ("POST", "/v1/generations"),
    ):
        assert (await product.stranger.request(method, f"{elsewhere}?{ticket}")).refusal == (401, "invalid_api_key")


async def test_a_ticket_is_good_on_every_node(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    async with product.frontend(**CALLERS) as node:
        assert (await Api(product.http, node.url).request("GET", url)).status == 200


async def test_a_caller_whose_key_is_withdrawn_is_cut_while_reading(product: Product) -> None:
    file = product.stack.root / "keys"
    file.write_text("anna:anna-key-1\n")
    async with product.frontend(api_keys=f"@{file}", ticket_secret="0123456789abcdef", keepalive_s="0.3") as node:
        anna = Api(product.http, node.url, "anna-key-1")
        generation_id = await anna.create()
        stream = await anna.stream(generation_id)
        await stream.until("created")
        file.write_text("ben:ben-key-22\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
        stream.cut()
        assert (await anna.get(generation_id)).refusal == (401, "invalid_api_key")
        assert (await Api(product.http, node.url, "ben-key-22").get(generation_id)).refusal == (404, "not_found")


async def test_open_mode_answers_no_other_host_and_no_other_sites_page(product: Product) -> None:
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


async def test_pages_of_known_origins_may_call_every_route(product: Product) -> None:
    generation_id = await product.completed("Hello")
    origin = {"Origin": ORIGIN}
    for told in (
        await product.api.request("POST", "/v1/generations", json=body(), headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}", headers=origin),
        await product.api.request("GET", f"/v1/generations/{UNKNOWN_ID}", headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}/events", headers=origin),
        await product.api.request("GET", f"/v1/generations/{UNKNOWN_ID}/events", headers=origin),
        await product.api.request("GET", f"/v1/generations/{generation_id}/events?last_event_id=x", headers=origin),
    ):
        assert told.headers["access-control-allow-origin"] == ORIGIN
        assert "location" in told.headers["access-control-expose-headers"].lower()
        assert "origin" in told.headers["vary"].lower()


async def test_a_preflight_is_answered_for_known_origins_only(product: Product) -> None:
    for path, method in (("", "POST"), (f"/{UNKNOWN_ID}/events", "GET"), (f"/{UNKNOWN_ID}", "DELETE")):
        asked = {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
        }
        told = await product.api.request("OPTIONS", f"/v1/generations{path}", headers=asked | {"Origin": ORIGIN})
        assert told.status == 200
        assert told.headers["access-control-allow-origin"] == ORIGIN
        assert method in told.headers["access-control-allow-methods"]
        for name in ("authorization", "content-type", "idempotency-key", "last-event-id"):
            assert name in told.headers["access-control-allow-headers"].lower()
        other = {"Origin": "https://evil.example.org"}
        told = await product.api.request("OPTIONS", f"/v1/generations{path}", headers=asked | other)
        assert told.status == 400
        assert "access-control-allow-origin" not in told.headers
