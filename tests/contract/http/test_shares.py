"""Links by which others read one generation."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from support.api import Api, eventually
from support.product import CALLERS, UNKNOWN_ID, Product
from support.sse import streamed_text
from tailrace import keys
from tailrace.shares import MAX_SHARES_PER_CALLER

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def share(api: Api, generation_id: str, **fields: Any) -> Any:
    response = await api.request("POST", f"/v1/generations/{generation_id}/shares", json=fields)
    assert response.status == 201, response
    assert response.headers["cache-control"] == "no-store"
    return response.value


async def revoke(api: Api, generation_id: str, share_id: str) -> int:
    return (await api.request("DELETE", f"/v1/generations/{generation_id}/shares/{share_id}")).status


def query_of(link: Any) -> str:
    return "?" + str(link["events_url"]).partition("?")[2]


async def test_link_reads_its_generation_and_nothing_else(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    sibling = await product.completed("Secret", api=product.anna)
    link = await share(product.anna, generation_id)
    stream = await product.stranger.read(generation_id, query=query_of(link))
    assert streamed_text(stream.events) == "Hello"
    assert link["url"] == f"/?id={generation_id}#{query_of(link)[1:]}"
    assert (await product.stranger.events(sibling, query_of(link))).status == 401
    refused = [await refusals(product, each, link) for each in (generation_id, sibling)]
    assert refused == [{(403, "insufficient_scope")}, {(401, "invalid_api_key")}]
    assert (await product.anna.get(generation_id)).status == 200


async def refusals(product: Product, generation_id: str, link: Any) -> set[tuple[int, str | None]]:
    """How all that is not the event stream is refused to the holder of a link, in the query and in the header."""
    header = {"Authorization": f"Ticket {query_of(link).partition('=')[2]}"}
    found = set()
    for method, path in (
        ("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/shares"), ("GET", "/shares"),
        ("DELETE", f"/shares/{link['id']}"),
    ):  # fmt: skip
        path = f"/v1/generations/{generation_id}{path}"
        found.add((await product.stranger.request(method, path + query_of(link))).refusal)
        found.add((await product.stranger.request(method, path, headers=header)).refusal)
    return found


async def test_ticket_of_a_key_does_not_cancel(product: Product) -> None:
    generation_id = await product.anna.create()
    ticket = (await product.anna.get(generation_id)).value["events_url"].partition("?ticket=")[2]
    path, header = f"/v1/generations/{generation_id}/cancel", {"Authorization": f"Ticket {ticket}"}
    assert (await product.stranger.request("POST", path, headers=header)).refusal == (403, "insufficient_scope")
    assert (await product.stranger.request("POST", path)).refusal == (401, "invalid_api_key")
    forged = {"Authorization": f"Ticket {ticket}x"}
    assert (await product.stranger.request("POST", path, headers=forged)).refusal == (401, "invalid_api_key")
    with_key = await product.anna.request("POST", f"{path}?ticket={ticket}")
    assert with_key.status == 200, "the key is what counts"


async def test_link_ends_at_its_own_expiry(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    short, long = await share(product.anna, generation_id, expires_in_s=1), await share(product.anna, generation_id)
    assert short["expires_at"] - short["created_at"] == 1

    async def has_ended() -> bool:
        return (await product.stranger.events(generation_id, query_of(short))).status != 200

    await eventually(has_ended)
    assert (await product.stranger.events(generation_id, query_of(short))).refusal == (401, "invalid_api_key")
    assert (await product.stranger.events(generation_id, query_of(long))).status == 200


async def test_link_lasts_no_longer_than_the_log(product: Product) -> None:
    generation_id = await product.anna.create()
    link = await share(product.anna, generation_id, expires_in_s=30 * 24 * 3600)
    assert link["expires_at"] - link["created_at"] <= 3600 + 3600 + 60


async def test_revoked_link_ends_its_streams_on_another_frontend(product: Product) -> None:
    generation_id = await product.anna.create()
    link, other = await share(product.anna, generation_id), await share(product.anna, generation_id)
    async with product.frontend(**CALLERS, keepalive_s="120") as frontend:
        elsewhere = Api(product.http, frontend.url)
        cut = await elsewhere.stream(generation_id, query=query_of(link))
        kept = await elsewhere.stream(generation_id, query=query_of(other))
        assert await revoke(product.anna, generation_id, link["id"]) == 200
        async with asyncio.timeout(10):
            with pytest.raises(aiohttp.ClientPayloadError):
                await cut.rest()
        cut.cut()
        assert (await elsewhere.events(generation_id, query_of(link))).refusal == (401, "invalid_api_key")
        await (await product.writer(generation_id)).end()
        await kept.rest()
    listed = (await product.anna.request("GET", f"/v1/generations/{generation_id}/shares")).value["data"]
    assert [each["id"] for each in listed] == [other["id"]]
    assert await refusals(product, generation_id, link) == {(401, "invalid_api_key")}
    assert not any("ticket" in str(each) for each in listed)
    assert await revoke(product.anna, generation_id, link["id"]) == 404


async def test_others_cannot_share_or_revoke(product: Product) -> None:
    generation_id = await product.completed("Hello", api=product.anna)
    link = await share(product.anna, generation_id)
    for foreign in (generation_id, UNKNOWN_ID, "x"):
        path = f"/v1/generations/{foreign}/shares"
        assert (await product.ben.request("POST", path)).refusal == (404, "not_found")
        assert (await product.ben.request("GET", path)).refusal == (404, "not_found")
        assert await revoke(product.ben, foreign, link["id"]) == 404
    assert (await product.stranger.events(generation_id, query_of(link))).status == 200


@pytest.mark.parametrize("expires_in_s", [0, -1, 30 * 24 * 3600 + 1, "soon", None])
async def test_wrong_lifetime_is_refused(product: Product, expires_in_s: Any) -> None:
    generation_id = await product.anna.create()
    body = {"expires_in_s": expires_in_s}
    response = await product.anna.request("POST", f"/v1/generations/{generation_id}/shares", json=body)
    assert response.refusal == (400, "invalid_body")


async def test_generation_has_a_bounded_number_of_links_those_that_were_revoked_included(product: Product) -> None:
    generation_id = await product.anna.create()
    for _ in range(99):
        last = await share(product.anna, generation_id)
        await revoke(product.anna, generation_id, last["id"])
    await share(product.anna, generation_id, expires_in_s=1)
    path = f"/v1/generations/{generation_id}/shares"
    assert (await product.anna.request("POST", path)).status == 400

    async def has_room() -> bool:
        return (await product.anna.request("POST", path)).status == 201

    await eventually(has_room)
    assert (await product.anna.request("POST", path)).status == 400
    assert len((await product.anna.request("GET", path)).value["data"]) == 1
    stored = await product.log.server.execute("HLEN", keys.shares(generation_id))
    assert stored == 100, "those that have expired are removed"


async def test_caller_has_a_bounded_number_of_links(product: Product) -> None:
    counted, now = keys.shares_of("ben"), int(time.time())
    redis, first = product.log.server.client, await product.ben.create()
    await redis.zadd(counted, {f"shr_{i}": now + 900 for i in range(MAX_SHARES_PER_CALLER - 1)} | {"shr_old": now - 1})
    link = await share(product.ben, first)
    await revoke(product.ben, first, link["id"])
    one_more = await product.ben.request("POST", f"/v1/generations/{await product.ben.create()}/shares")
    assert one_more.status == 400
    assert await redis.zcard(counted) == MAX_SHARES_PER_CALLER
    assert await redis.ttl(counted) > 0
    await redis.delete(counted)
    await share(product.ben, first)


async def test_open_mode_has_no_links(product: Product) -> None:
    generation_id = await product.api.create()
    assert (await product.api.request("POST", f"/v1/generations/{generation_id}/shares")).status == 400
