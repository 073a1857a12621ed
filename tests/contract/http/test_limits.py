"""Limits of the queue and of readers."""

import asyncio

import pytest

from support.api import Api, body, eventually
from support.product import CALLERS, UNKNOWN_ID, Product, has_metric, running_product
from support.sse import Parser
from tailrace import keys

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


@pytest.mark.parametrize(
    ("limit", "code"),
    [("max_readers", "rate_limit_exceeded"), ("max_readers_per_caller", "concurrency_limit_exceeded")],
)
async def test_streaming_create_and_get_with_wait_count_as_readers(product: Product, limit: str, code: str) -> None:
    async with product.frontend(**{limit: "1"}) as frontend:
        api = Api(product.http, frontend.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        async with product.nothing_stored():
            response = await api.post(body(), Accept="text/event-stream")
        assert response.refusal == (429, code)
        assert (await api.get(generation_id, "?wait=20")).refusal == (429, code)
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


async def test_caller_beyond_a_limit_is_refused_with_its_code_and_another_is_served(product: Product) -> None:
    many = "1000000"
    for unfinished, stored, requests, code in (
        ("1", many * 2, many, "concurrency_limit_exceeded"),
        (many, str(1024**2), many, "storage_limit_exceeded"),
        (many, many * 2, "60", "rate_limit_exceeded"),
    ):
        limits = {
            "max_unfinished_per_caller": unfinished, "max_stored_bytes_per_caller": stored,
            "max_requests_per_minute_per_caller": requests,
        }  # fmt: skip
        async with product.frontend(**CALLERS, **limits) as frontend:
            anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
            created = await anna.post(body(user="x" * 1_000_000))
            assert created.status == 202
            response = await anna.post(body(user="x" * 100_000))
            assert response.refusal == (429, code)
            assert int(response.headers["retry-after"]) >= 1
            assert response.error["type"] == "rate_limit_exceeded"
            other = (await ben.post(body())).value["id"]
            # Through another frontend: this one may not serve the caller any more.
            await product.anna.delete(created.value["id"])
            await product.ben.delete(other)
            await product.log.server.client.delete(keys.owed("anna"))


async def test_caller_who_sends_too_many_requests_of_any_kind_is_refused(product: Product) -> None:
    async with product.frontend(**CALLERS, max_requests_per_minute_per_caller="2") as frontend:
        anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
        assert (await anna.get(UNKNOWN_ID)).status == 404
        requests = anna.get(UNKNOWN_ID), anna.cancel(UNKNOWN_ID), anna.delete(UNKNOWN_ID), anna.list()
        assert [each.status for each in await asyncio.gather(*requests)] == [429] * 4
        assert (await ben.list()).status == 200


async def test_long_list_costs_as_much_as_several_requests(product: Product) -> None:
    async with product.frontend(**CALLERS, max_requests_per_minute_per_caller="30") as frontend:
        anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
        assert [(await anna.list("?limit=100")).status, (await anna.list()).status] == [200, 429]
        assert [(await ben.list("?limit=1")).status, (await ben.list()).status] == [200, 200]


async def test_model_outside_the_list_is_refused_like_an_unknown_one(product: Product) -> None:
    async with product.frontend(**CALLERS, models="demo,llama*", models_per_caller="ben=demo") as frontend:
        anna, ben = (Api(product.http, frontend.url, key) for key in ("anna-key-1", "ben-key-22"))
        for api, model, status in ((anna, "llama3:8b", 202), (anna, "gpt-4o", 404), (ben, "demo", 202),
                                   (ben, "llama3:8b", 404)):  # fmt: skip
            response = await api.post(body(model=model))
            assert response.status == status
            if status == 404:
                assert response.refusal == (404, "model_not_found")
                assert response.error["param"] == "model"
