"""`GET /v1/generations/{id}`, with and without `wait`, and `GET /v1/generations`."""

import asyncio
import time

import pytest

from support.api import Api, eventually
from support.product import UNKNOWN_ID, Product, has_metric
from tailrace import keys

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_get_tells_the_output_so_far_and_in_the_end_all_of_it(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    told = (await product.api.get(generation_id)).value
    assert told["status"] == "running"
    assert told["output"] == [{"item": 0, "type": "text", "text": "Hello"}]
    assert told["queue_position"] is None
    await writer.write_text(" there")
    await writer.end()
    told = (await product.api.get(generation_id)).value
    assert told["status"] == "completed"
    assert told["output"] == [{"item": 0, "type": "text", "text": "Hello there"}]
    assert told["finish"] == [{"index": 0, "finish_reason": "stop"}]
    assert told["timings"]["total"] >= 0
    assert told["error"] is None


async def test_get_with_wait_answers_when_it_has_ended(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    assert not waiting.done()
    began = time.monotonic()
    await writer.end()
    told = await waiting
    assert told.value["status"] == "completed"
    assert time.monotonic() - began < 1


async def test_get_with_wait_answers_as_it_is_when_the_time_is_up(product: Product) -> None:
    generation_id = await product.api.create()
    began = time.monotonic()
    told = await product.api.get(generation_id, "?wait=0.3")
    assert 0.3 <= time.monotonic() - began < 2
    assert told.value["status"] == "queued"


async def test_get_with_wait_ends_when_it_is_deleted(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    await product.api.delete(generation_id)
    told = await waiting  # what runs is cancelled first: it may answer then, or find that it is gone
    assert told.status == 410 or told.value["status"] == "cancelled"


async def test_the_list_is_newest_first_and_goes_on_after_an_id(product: Product) -> None:
    caller = Api(product.http, product.anna.url, "ben-key-22")
    ids = []
    for _ in range(5):
        ids.append(await caller.create())
        await asyncio.sleep(0.002)  # told apart by the millisecond
    newest = ids[::-1]
    first = (await caller.list("?limit=2")).value
    assert first["object"] == "list"
    assert [each["id"] for each in first["data"]] == newest[:2]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (newest[0], newest[1], True)
    second = (await caller.list(f"?limit=3&after={first['last_id']}")).value
    assert [each["id"] for each in second["data"]] == newest[2:5]
    everything = (await caller.list("?limit=100")).value
    assert not everything["has_more"]
    assert [each["id"] for each in everything["data"]][:5] == newest


async def test_the_list_tells_in_short(product: Product) -> None:
    await product.completed("Hello")
    (told,) = (await product.api.list("?limit=1")).value["data"]
    assert told.keys() == {"id", "object", "status", "model", "created_at", "events_url"}


async def test_the_list_holds_only_the_callers_own(product: Product) -> None:
    hers, his = await product.anna.create(), await product.ben.create()
    listed = {
        name: [each["id"] for each in (await caller.list()).value["data"]]
        for name, caller in (("anna", product.anna), ("ben", product.ben))
    }
    assert hers in listed["anna"]
    assert hers not in listed["ben"]
    assert his in listed["ben"]


async def test_an_empty_list_is_a_list(product: Product) -> None:
    told = (await product.api.list(f"?after={UNKNOWN_ID}")).value
    assert told == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_what_has_expired_vanishes_from_the_list_and_hides_nothing_behind_it(product: Product) -> None:
    async with product.frontend(api_keys="eve:eve-key-333", ticket_secret="0123456789abcdef") as node:
        eve = Api(product.http, node.url, "eve-key-333")
        old = [await eve.create() for _ in range(12)]
        await asyncio.sleep(0.002)
        redis = product.log.server.client
        brief = [await eve.create(tailrace={"retention_s": 1}) for _ in range(115)]
        for generation_id in brief:
            await redis.delete(
                keys.state(generation_id), keys.log(generation_id)
            )  # as Redis does when their time has come
        told = (await eve.list("?limit=10")).value
        assert len(told["data"]) == 10
        assert told["has_more"]
        assert {each["id"] for each in told["data"]} < set(old)
        rest = (await eve.list(f"?limit=10&after={told['last_id']}")).value
        assert len(rest["data"]) == 2
        assert await redis.zcard(keys.owned("eve")) == 12


@pytest.mark.parametrize(
    "query",
    ["?", "?&&", "?=", "?limit", "?unknown=1", "?limit=5&limit=7", "?%zz", "?after", "?limit=5&x=%ff"],
)
async def test_junk_in_a_query_does_no_harm(product: Product, query: str) -> None:
    assert (await product.api.list(query)).status in (200, 400, 404)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=1e9", "limit"),
        ("?limit=%00", "limit"),
        ("?limit=101", "limit"),
    ],
)
async def test_a_limit_out_of_range_is_refused_by_name(product: Product, query: str, param: str) -> None:
    told = await product.api.list(query)
    assert told.status == 400
    assert told.error["param"] == param


@pytest.mark.parametrize("after", ["x", "%00", "gen_", "gen_%61", "'"])
async def test_a_place_in_the_list_that_is_no_id_is_not_found(product: Product, after: str) -> None:
    assert (await product.api.list(f"?after={after}")).refusal == (404, "not_found")
