"""Limits of the queue and of readers."""

import asyncio

import pytest

from support.api import Api, body, eventually
from support.product import Product, has_metric, running_product
from support.sse import Parser

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_full_queue_refuses_new_generations_until_there_is_room() -> None:
    async with running_product(max_queued="1") as product:
        generation_id = await product.api.create()
        async with product.nothing_stored():
            response = await product.api.post(body())
        assert response.refusal == (429, "rate_limit_exceeded")
        assert int(response.headers["retry-after"]) >= 1
        await product.api.cancel(generation_id)
        assert (await product.api.post(body())).status == 202


async def test_frontend_with_max_readers_defers_further_streams(product: Product) -> None:
    async with product.frontend(max_readers="1") as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        response = await api.events(generation_id)
        assert response.status == 200
        assert response.body.startswith(b"retry: ")
        assert Parser().feed(response.body) == []
        response = await api.events(generation_id, Accept="application/x-ndjson")
        assert response.refusal == (429, "rate_limit_exceeded")
        assert int(response.headers["retry-after"]) >= 1
        stream.cut()
        await eventually(lambda: has_metric(api, "tailrace_readers", 0))
        await api.cancel(generation_id)
        assert (await api.read(generation_id)).kinds == ["created", "done"]


@pytest.mark.parametrize("limit", ["max_readers", "max_readers_per_caller"])
async def test_streaming_create_and_get_with_wait_count_as_readers(product: Product, limit: str) -> None:
    async with product.frontend(**{limit: "1"}) as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        async with product.nothing_stored():
            response = await api.post(body(), Accept="text/event-stream")
        assert response.refusal == (429, "rate_limit_exceeded")
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


async def test_burst_of_readers_does_not_exceed_max_readers(product: Product) -> None:
    async with product.frontend(max_readers="3") as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        url = f"{api.url}/v1/generations/{generation_id}/events"
        requests = [product.http.get(url, headers={"Accept": "application/x-ndjson"}) for _ in range(20)]
        responses = await asyncio.gather(*requests)
        assert sorted(response.status for response in responses) == [200] * 3 + [429] * 17
        assert await has_metric(api, "tailrace_streams_opened_total", 3)
        for response in responses:
            response.close()
        await api.cancel(generation_id)


async def test_burst_of_streaming_creates_returns_locations_to_deferred_ones(product: Product) -> None:
    async with product.frontend(max_readers="1") as frontend:
        api = Api(product.http, frontend.url)
        url, accept = f"{api.url}/v1/generations", {"Accept": "text/event-stream"}
        responses = await asyncio.gather(*(product.http.post(url, json=body(), headers=accept) for _ in range(10)))
        assert await has_metric(api, "tailrace_streams_opened_total", 1)
        deferred = [
            response for response in responses if response.headers.get("content-length") and response.status == 200
        ]
        refused = [response for response in responses if response.status == 429]
        assert len(deferred) + len(refused) == 9
        for response in deferred:
            assert (await response.read()).startswith(b"retry: ")
            assert (await api.request("GET", response.headers["location"])).status == 200
        for response in responses:
            response.close()
