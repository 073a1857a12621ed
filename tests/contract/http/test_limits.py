"""Limits of the queue and of readers."""

import asyncio

import pytest

from support.api import Api, body, eventually
from support.product import Product, has_metric, running_product
from support.sse import Parser

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_where_the_queue_is_full_more_is_refused_until_there_is_room() -> None:
    async with running_product(max_queued="1") as product:
        generation_id = await product.api.create()
        async with product.nothing_stored():
            told = await product.api.post(body())
        assert told.refusal == (429, "rate_limit_exceeded")
        assert int(told.headers["retry-after"]) >= 1
        await product.api.cancel(generation_id)
        assert (await product.api.post(body())).status == 202


async def test_beyond_its_readers_a_frontend_sends_streams_elsewhere(product: Product) -> None:
    async with product.frontend(max_readers="1") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        told = await api.events(generation_id)
        assert told.status == 200
        assert told.body.startswith(b"retry: ")
        assert Parser().feed(told.body) == []
        told = await api.events(generation_id, Accept="application/x-ndjson")
        assert told.refusal == (429, "rate_limit_exceeded")
        assert int(told.headers["retry-after"]) >= 1
        stream.cut()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        await api.cancel(generation_id)
        assert (await api.read(generation_id)).kinds == ["created", "done"]


@pytest.mark.parametrize("limit", ["max_readers", "max_readers_per_caller"])
async def test_whoever_follows_a_log_counts_as_a_reader_and_is_refused_as_one(product: Product, limit: str) -> None:
    async with product.frontend(**{limit: "1"}) as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        async with product.nothing_stored():
            told = await api.post(body(), Accept="text/event-stream")
        assert told.refusal == (429, "rate_limit_exceeded")
        assert (await api.get(generation_id, "?wait=20")).refusal == (429, "rate_limit_exceeded")
        assert (await api.get(generation_id)).status == 200
        stream.cut()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        waiting = asyncio.create_task(api.get(generation_id, "?wait=20"))
        await eventually(lambda: has_metric(api, "tailrace_readers", 1))
        assert (await api.events(generation_id, Accept="application/x-ndjson")).status == 429
        await api.cancel(generation_id)
        assert (await waiting).value["status"] == "cancelled"
        assert (await api.get(generation_id, "?wait=20")).status == 200


async def test_of_a_burst_no_more_are_served_than_may_be(product: Product) -> None:
    async with product.frontend(max_readers="3") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        url = f"{api.url}/v1/generations/{generation_id}/events"
        asked = [product.http.get(url, headers={"Accept": "application/x-ndjson"}) for _ in range(20)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 17
        assert await has_metric(api, "tailrace_streams_opened_total", 3)
        for answer in answers:
            answer.close()
        await api.cancel(generation_id)


async def test_of_a_burst_of_new_streams_those_that_find_no_place_learn_where_their_log_is(product: Product) -> None:
    async with product.frontend(max_readers="1") as node:
        api = Api(product.http, node.url)
        url, accept = f"{api.url}/v1/generations", {"Accept": "text/event-stream"}
        answers = await asyncio.gather(*(product.http.post(url, json=body(), headers=accept) for _ in range(10)))
        assert await has_metric(api, "tailrace_streams_opened_total", 1)
        deferred = [answer for answer in answers if answer.headers.get("content-length") and answer.status == 200]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(deferred) + len(refused) == 9
        for answer in deferred:
            assert (await answer.read()).startswith(b"retry: ")
            assert (await api.request("GET", answer.headers["location"])).status == 200
        for answer in answers:
            answer.close()
