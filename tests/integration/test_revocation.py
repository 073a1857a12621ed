"""A revocation ends the open streams of 200 readers on three frontends, and no other stream.

`TAILRACE_KEEPALIVE_S` is so long that no stream checks its key by itself. The time that it takes is logged
(`--log-cli-level=INFO`); the requirement is a second, and the bound here is generous, because test machines are shared.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api
from support.product import Product, running_product
from support.sse import Stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

READERS = 200
BOUND_S = 15.0
SETTINGS = {
    "api_keys": "ops:key-of-operator;scopes=admin", "ticket_secret": "0123456789abcdef", "keepalive_s": "300",
}  # fmt: skip

logger = logging.getLogger(__name__)

Revoke = Callable[[], Awaitable[Any]]


class Fleet:
    """Three frontends, and a generation of a caller that is being read."""

    def __init__(self, product: Product, urls: list[str]) -> None:
        self.product = product
        self.urls = urls
        self.ops = Api(product.http, urls[0], "key-of-operator")

    async def new_key(self, caller: str) -> Any:
        return (await self.ops.request("POST", "/v1/admin/keys", json={"caller": caller})).value

    async def readers(self, generation_id: str, key: str, query: str = "") -> list[Stream]:
        """200 open streams, over all frontends."""
        apis = [Api(self.product.http, url, key or None) for url in self.urls]
        streams = [apis[number % len(apis)].stream(generation_id, query=query) for number in range(READERS)]
        return await asyncio.gather(*streams)


async def ended_after(stream: Stream, began: float) -> float:
    """Seconds until the stream was cut."""
    async with asyncio.timeout(BOUND_S):
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await stream.rest()
    stream.cut()
    return time.monotonic() - began


async def measured(streams: list[Stream], revoke: Revoke) -> list[float]:
    """After how many seconds each stream ended, counted from before the revocation was sent."""
    began = time.monotonic()
    waiting = [asyncio.create_task(ended_after(stream, began)) for stream in streams]
    response = await revoke()
    assert response.status == 200, response
    return sorted(await asyncio.gather(*waiting))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Fleet]:
    async with running_product() as product, contextlib.AsyncExitStack() as stack:
        frontends = [await stack.enter_async_context(product.frontend(**SETTINGS)) for _ in range(3)]
        connector = aiohttp.TCPConnector(limit=0)
        product.http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Fleet(product, [frontend.url for frontend in frontends])


@pytest.mark.parametrize("kind", ["key", "block", "ticket", "share"])
async def test_revocation_ends_the_streams_of_all_frontends(fleet: Fleet, kind: str) -> None:
    caller = f"zoe-{kind}"
    key, other = await fleet.new_key(caller), await fleet.new_key("other")
    zoe = Api(fleet.product.http, fleet.urls[0], key["key"])
    generation_id = await zoe.create()
    ticket = (await zoe.get(generation_id)).value["events_url"].partition("?")[2]
    share = (await zoe.request("POST", f"/v1/generations/{generation_id}/shares")).value
    kept_id = await Api(fleet.product.http, fleet.urls[0], other["key"]).create()
    kept = await Api(fleet.product.http, fleet.urls[1], other["key"]).stream(kept_id)
    query = {"ticket": f"?{ticket}", "share": "?" + share["events_url"].partition("?")[2]}.get(kind, "")
    streams = await fleet.readers(generation_id, "" if query else key["key"], query)
    asked = {"generation": generation_id, "ticket": ticket.partition("=")[2]}
    revocations: dict[str, Revoke] = {
        "key": lambda: fleet.ops.request("DELETE", f"/v1/admin/keys/{key['id']}"),
        "block": lambda: fleet.ops.request("PUT", f"/v1/admin/blocks/{caller}"),
        "ticket": lambda: fleet.ops.request("POST", "/v1/admin/revocations", json=asked),
        "share": lambda: zoe.request("DELETE", f"/v1/generations/{generation_id}/shares/{share['id']}"),
    }
    times = [round(1000 * seconds) for seconds in await measured(streams, revocations[kind])]
    logger.info("%s: p50 %d ms, p99 %d ms, last %d ms", kind, times[100], times[197], times[-1])
    await (await fleet.product.writer(kept_id)).end()
    await kept.rest()
    assert kept.kinds[-1] == "done"
    kept.cut()
