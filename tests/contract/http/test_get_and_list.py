"""`GET /v1/generations/{id}`, with and without `wait`, and `GET /v1/generations`."""

import asyncio
import time

import pytest

from support.api import Api, body, eventually
from support.product import UNKNOWN_ID, Product, has_metric
from support.sse import Parser, streamed_text
from tailrace import keys

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_get_returns_the_output_so_far_and_finally_all_of_it(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    generation = (await product.api.get(generation_id)).value
    assert generation["status"] == "running"
    assert generation["output"] == [{"item": 0, "type": "text", "text": "Hello"}]
    assert generation["queue_position"] is None
    await writer.write_text(" there")
    await writer.end()
    generation = (await product.api.get(generation_id)).value
    assert generation["status"] == "completed"
    assert generation["output"] == [{"item": 0, "type": "text", "text": "Hello there"}]
    assert generation["finish"] == [{"index": 0, "finish_reason": "stop"}]
    assert generation["timings"]["total"] >= 0
    assert generation["error"] is None


async def test_get_without_output_returns_where_the_generation_stands(product: Product) -> None:
    generation_id = await product.api.create()
    queued = (await product.api.get(generation_id, "?output=false")).value
    assert (queued["status"], queued["worker_running"]) == ("queued", False)
    assert queued["queue_position"] >= 1
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    running = (await product.api.get(generation_id, "?output=false")).value
    assert (running["status"], running["queue_position"]) == ("running", None)
    await writer.end()
    ended = (await product.api.get(generation_id, "?output=false&wait=5")).value
    assert ended["status"] == "completed"
    for each in (queued, running, ended):
        assert not {"request", "output"} & each.keys()
        assert each["events_url"]


async def test_output_so_far_is_continued_from_its_last_event_id(product: Product) -> None:
    generation_id = await product.api.create()
    created = (await product.api.get(generation_id)).value
    writer = await product.writer(generation_id)
    so_far = [created, (await product.api.get(generation_id)).value]
    for word in ("one ", "two ", "three "):
        await writer.write_text(word)
        so_far.append((await product.api.get(generation_id)).value)
    place = (await product.api.get(generation_id, "?output=false")).value["last_event_id"]
    assert place == so_far[-1]["last_event_id"]
    await writer.end()
    for generation in so_far:
        shown = "".join(item["text"] for item in generation["output"])
        rest = Parser().feed((await product.api.events(generation_id, Last_Event_ID=generation["last_event_id"])).body)
        assert shown + streamed_text(rest) == "one two three "
    ended = (await product.api.get(generation_id)).value["last_event_id"]
    assert (await product.api.events(generation_id, Last_Event_ID=ended)).status == 204


async def test_get_with_wait_returns_when_the_generation_has_ended(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    assert not waiting.done()
    began = time.monotonic()
    await writer.end()
    response = await waiting
    assert response.value["status"] == "completed"
    assert time.monotonic() - began < 1


async def test_get_with_wait_returns_the_current_status_on_timeout(product: Product) -> None:
    generation_id = await product.api.create()
    began = time.monotonic()
    response = await product.api.get(generation_id, "?wait=0.3")
    assert 0.3 <= time.monotonic() - began < 2
    assert response.value["status"] == "queued"


@pytest.mark.parametrize("unread", [b"", b"x" * 200_000], ids=["no body", "a body"])
async def test_get_with_wait_gives_its_place_back_when_the_client_leaves(product: Product, unread: bytes) -> None:
    generation_id = await product.api.create()
    path = f"/v1/generations/{generation_id}?wait=60"
    waiting = asyncio.create_task(product.api.request("GET", path, data=unread))
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    waiting.cancel()
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 0), timeout_s=2)
    await product.api.delete(generation_id)


async def test_get_with_wait_returns_when_the_generation_is_deleted(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    await eventually(lambda: has_metric(product.api, "tailrace_readers", 1))
    await product.api.delete(generation_id)
    response = await waiting  # delete cancels first: the response shows either state
    assert response.status == 410 or response.value["status"] == "cancelled"


async def test_list_is_newest_first_and_continues_after_an_id(product: Product) -> None:
    caller = Api(product.http, product.anna.url, "ben-key-22")
    ids = []
    for _ in range(5):
        ids.append(await caller.create())
        await asyncio.sleep(0.002)  # the list is ordered by the millisecond of creation
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


async def test_generation_names_the_one_that_it_continues(product: Product) -> None:
    first = await product.api.create()
    second = await product.api.create(tailrace={"previous": first})
    rows = {row["id"]: row.get("previous") for row in (await product.api.list("?limit=100")).value["data"]}
    assert (rows[first], rows[second]) == (None, first)
    for query in ("", "?output=false"):
        assert (await product.api.get(second, query)).value["previous"] == first
    for wrong in ("", "gen_x", f"{first}x", f"x{first}", 1):
        assert (await product.api.post(body(tailrace={"previous": wrong}))).status == 400


async def test_list_contains_summaries(product: Product) -> None:
    await product.completed("Hello")
    (summary,) = (await product.api.list("?limit=1")).value["data"]
    assert summary.keys() == {
        "id",
        "object",
        "status",
        "model",
        "created_at",
        "events_url",
        "preview",
        "tokens",
        "attempt",
    }


async def test_list_row_has_a_preview_and_the_output_tokens_of_the_usage(product: Product) -> None:
    message = {"role": "user", "content": "  Why is\n the sky blue? " + "x" * 200}
    generation_id = await product.api.create(messages=[message, {"role": "assistant", "content": "Because"}])
    writer = await product.writer(generation_id)
    (row,) = (await product.api.list("?limit=1")).value["data"]
    assert row["preview"] == ("Why is the sky blue? " + "x" * 200)[:80]
    assert row["tokens"] is None
    await writer.finish(usage={"prompt_tokens": 3, "completion_tokens": 383})
    (row,) = (await product.api.list("?limit=1")).value["data"]
    assert (row["status"], row["tokens"]) == ("completed", 383)


async def test_get_without_output_has_the_progress_of_the_answer(product: Product) -> None:
    generation_id = await product.api.create()
    fields = ("attempt", "worker", "readers", "expires_at")
    queued = (await product.api.get(generation_id, "?output=false")).value
    assert [queued.get(name) for name in fields] == [0, None, 0, None]
    writer = await product.writer(generation_id)
    reading = asyncio.create_task(product.api.read(generation_id))
    await eventually(lambda: has_readers(product, generation_id, 1))
    running = (await product.api.get(generation_id, "?output=false")).value
    assert [running.get(name) for name in fields] == [1, "log-", 1, None]
    await writer.end()
    await reading
    await eventually(lambda: has_readers(product, generation_id, 0))
    ended = (await product.api.get(generation_id, "?output=false")).value
    assert time.time() + 3590 < ended["expires_at"] < time.time() + 3610
    assert "expires_at" not in running


async def has_readers(product: Product, generation_id: str, count: int) -> bool:
    return bool((await product.api.get(generation_id, "?output=false")).value["readers"] == count)


async def test_list_contains_only_generations_of_the_caller(product: Product) -> None:
    hers, his = await product.anna.create(), await product.ben.create()
    listed = {
        name: [each["id"] for each in (await caller.list()).value["data"]]
        for name, caller in (("anna", product.anna), ("ben", product.ben))
    }
    assert hers in listed["anna"]
    assert hers not in listed["ben"]
    assert his in listed["ben"]


async def test_list_may_be_empty(product: Product) -> None:
    page = (await product.api.list(f"?after={UNKNOWN_ID}")).value
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_list_skips_expired_generations_and_continues_behind_them(product: Product) -> None:
    async with product.frontend(api_keys="eve:eve-key-333", ticket_secret="0123456789abcdef") as frontend:
        eve = Api(product.http, frontend.url, "eve-key-333")
        old = [await eve.create() for _ in range(12)]
        await asyncio.sleep(0.002)
        redis = product.log.server.client
        brief = [await eve.create(tailrace={"retention_s": 1}) for _ in range(115)]
        for generation_id in brief:
            await redis.delete(
                keys.state(generation_id), keys.log(generation_id)
            )  # as Redis does when the retention is over
        page = (await eve.list("?limit=10")).value
        assert len(page["data"]) == 10
        assert page["has_more"]
        assert {each["id"] for each in page["data"]} < set(old)
        rest = (await eve.list(f"?limit=10&after={page['last_id']}")).value
        assert len(rest["data"]) == 2
        assert await redis.zcard(keys.owned("eve")) == 12


@pytest.mark.parametrize(
    "query",
    ["?", "?&&", "?=", "?limit", "?unknown=1", "?limit=5&limit=7", "?%zz", "?after", "?limit=5&x=%ff"],
)
async def test_list_tolerates_malformed_queries(product: Product, query: str) -> None:
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
async def test_list_refuses_a_limit_out_of_range_by_name(product: Product, query: str, param: str) -> None:
    response = await product.api.list(query)
    assert response.status == 400
    assert response.error["param"] == param


@pytest.mark.parametrize("after", ["x", "%00", "gen_", "gen_%61", "'"])
async def test_list_after_an_invalid_id_is_not_found(product: Product, after: str) -> None:
    assert (await product.api.list(f"?after={after}")).refusal == (404, "not_found")
