"""Cancel, delete and expiry, and ids that never existed."""

import asyncio

import pytest

from support.api import Api, Response, eventually
from support.product import UNKNOWN_ID, Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_cancel_ends_it_also_again_and_also_when_it_has_ended(product: Product) -> None:
    generation_id = await product.api.create()
    for _ in range(2):
        told = await product.api.cancel(generation_id)
        assert (told.status, told.value["status"]) == (200, "cancelled")
    ended = await product.completed("Hello")
    told = await product.api.cancel(ended)
    assert (told.status, told.value["status"]) == (200, "completed")
    assert (await product.api.read(ended)).kinds.count("done") == 1


async def test_cancelled_while_it_waits_it_leaves_the_queue(product: Product) -> None:
    generation_id = await product.api.create()
    state = await product.log.state(generation_id)
    assert await product.is_enqueued(state.job_id)
    await product.api.cancel(generation_id)
    assert not await product.is_enqueued(state.job_id)
    stream = await product.api.read(generation_id)
    assert stream.kinds == ["created", "done"]
    assert stream.events[-1].value["status"] == "cancelled"


async def test_cancelled_by_many_at_once_it_ends_once(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    told = await asyncio.gather(*(product.api.cancel(generation_id) for _ in range(10)))
    assert {(answer.status, answer.value["status"]) for answer in told} == {(200, "cancelled")}
    stream = await product.api.read(generation_id)
    assert stream.kinds.count("done") == 1
    assert stream.text == "Hello"


async def test_what_is_deleted_is_gone_on_every_route_and_its_readers_are_told(product: Product) -> None:
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    told = await product.api.delete(generation_id)
    assert (told.status, told.value) == (200, {"id": generation_id, "deleted": True})
    await stream.rest()
    assert stream.events[-1].kind in ("gone", "done")
    for answer in (
        await product.api.get(generation_id),
        await product.api.cancel(generation_id),
        await product.api.delete(generation_id),
        await product.api.events(generation_id),
        await product.api.events(generation_id, Last_Event_ID="1-1"),
    ):
        assert answer.refusal == (410, "deleted")
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_after_its_retention_it_is_gone_and_says_expired(product: Product) -> None:
    generation_id = await product.completed("Hello", tailrace={"retention_s": 1})
    assert (await product.api.get(generation_id)).status == 200
    gone = await eventually(lambda: _gone(product.api, generation_id))
    assert gone.refusal == (410, "expired")
    assert (await product.api.events(generation_id)).refusal == (410, "expired")
    assert generation_id not in [each["id"] for each in (await product.api.list("?limit=100")).value["data"]]


async def _gone(api: Api, generation_id: str) -> Response | None:
    told = await api.get(generation_id)
    return told if told.status == 410 else None


async def test_what_never_was_is_not_found_on_any_route(product: Product) -> None:
    for generation_id in (
        UNKNOWN_ID,
        "gen_",
        "x",
        "%2e%2e",
        "gen_%61" + "a" * 25,
        "%00",
        "%0d%0a",
        "a" * 500,
        "*",
        "~",
    ):
        path = f"/v1/generations/{generation_id}"
        for method, where in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events")):
            told = await product.api.request(method, path + where, headers={"Accept": "text/event-stream"})
            assert told.refusal == (404, "not_found")
