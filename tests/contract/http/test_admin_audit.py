"""Following the audit, on two frontends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api
from support.product import Product
from support.sse import Stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/admin/audit/events"
SETTINGS = {
    "api_keys": "ops:key-of-operator;scopes=admin,eve:key-of-viewer;scopes=admin:view,tom:key-of-tom-1",
    "ticket_secret": "0123456789abcdef",
    "keepalive_s": "300",  # no stream reads, or checks its key, by itself
}


class Two(NamedTuple):
    """Two frontends."""

    product: Product
    first: str
    second: str

    def api(self, key: str, url: str = "") -> Api:
        return Api(self.product.http, url or self.second, key)

    @property
    def ops(self) -> Api:
        return self.api("key-of-operator", self.first)

    async def follow(self, key: str = "key-of-viewer", query: str = "", **headers: str) -> Stream:
        given = {"authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.product.http.get(self.second + PATH + query, headers=given)
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return Stream(response)

    async def block(self, caller: str) -> None:
        assert (await self.ops.request("PUT", f"/v1/admin/blocks/{caller}")).status == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(product: Product) -> AsyncIterator[Two]:
    async with product.frontend(**SETTINGS) as first, product.frontend(**SETTINGS) as second:
        yield Two(product, first.url, second.url)


def acts(stream: Stream) -> list[str]:
    return [event.value["target"] for event in stream.events if event.value["action"] == "block_caller"]


async def until_first_frame(stream: Stream) -> None:
    while not stream.parser.last_id:
        assert await stream._read()


async def until_act(stream: Stream, target: str) -> None:
    number = 1
    while target not in acts(stream):
        await stream.until("entry", number)
        number = len(stream.events) + 1


async def test_act_on_one_frontend_is_sent_by_another(two: Two) -> None:
    await two.block("before")
    stream = await two.follow()
    await until_first_frame(stream)
    await two.block("after")
    await until_act(stream, "after")
    assert acts(stream) == ["after"]
    (entry,) = [event for event in stream.events if event.value["target"] == "after"]
    assert entry.id == entry.value["id"]
    listed = (await two.ops.request("GET", "/v1/admin/audit?limit=1000")).value["data"]
    assert entry.value in listed
    stream.cut()


@pytest.mark.parametrize("place", ["header", "query"])
async def test_follower_continues_after_its_cursor(two: Two, place: str) -> None:
    stream = await two.follow()
    await until_first_frame(stream)
    stream.cut()
    names = [f"{place}-{number}" for number in range(20)]
    for name in names:
        await two.block(name)
    cursor = stream.parser.last_id
    again = await (
        two.follow(last_event_id=cursor) if place == "header" else two.follow(query=f"?last_event_id={cursor}")
    )
    await until_act(again, names[-1])
    assert acts(again) == names
    ids = [event.id for event in again.events]
    assert len(set(ids)) == len(ids)
    again.cut()


async def test_followers_need_the_scope_of_viewers_and_a_cursor(two: Two) -> None:
    assert (await two.api("key-of-tom-1").request("GET", PATH)).refusal == (403, "insufficient_scope")
    assert (await two.api("wrong-key").request("GET", PATH)).refusal == (401, "invalid_api_key")
    refused = await two.api("key-of-viewer").request("GET", PATH, headers={"last-event-id": "x"})
    assert refused.refusal == (400, "invalid_cursor")
    entries = (await two.ops.request("GET", "/v1/admin/audit?limit=1000")).value["data"]
    lines = {(each["who"], each["outcome"]) for each in entries if each["action"] == "follow_audit"}
    assert lines == {
        ("eve", "ok"), ("tom", "insufficient_scope"), ("", "invalid_api_key"), ("eve", "invalid_cursor"),
    }  # fmt: skip


async def test_revoked_key_ends_its_follower(two: Two) -> None:
    given: dict[str, Any] = {"caller": "una", "scopes": ["admin:view"]}
    key = (await two.ops.request("POST", "/v1/admin/keys", json=given)).value
    stream, kept = await two.follow(key["key"]), await two.follow()
    await until_first_frame(stream)
    await two.ops.request("DELETE", f"/v1/admin/keys/{key['id']}")
    async with asyncio.timeout(10):
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
    stream.cut()
    await two.block("later")
    await until_act(kept, "later")
    kept.cut()


async def test_follower_of_a_stopping_frontend_is_asked_to_come_back(two: Two) -> None:
    async with two.product.frontend(**SETTINGS) as frontend:
        stream = await two._replace(second=frontend.url).follow()
        await until_first_frame(stream)
        await frontend.stop()
        await stream.rest()
        stream.cut()
        assert stream.parser.retry
