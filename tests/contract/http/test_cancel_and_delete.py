"""Cancel and delete; expired and unknown generations."""

import asyncio

import pytest

from support.api import Api, Response, eventually
from support.product import UNKNOWN_ID, Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_cancel_is_idempotent_and_leaves_a_final_status(product: Product) -> None:
    generation_id = await product.api.create()
    for _ in range(2):
        response = await product.api.cancel(generation_id)
        assert (response.status, response.value["status"]) == (200, "cancelled")
    ended = await product.completed("Hello")
    response = await product.api.cancel(ended)
    assert (response.status, response.value["status"]) == (200, "completed")
    assert (await product.api.read(ended)).kinds.count("done") == 1


async def test_cancel_of_a_queued_generation_removes_its_job(product: Product) -> None:
    generation_id = await product.api.create()
    state = await product.log.state(generation_id)
    assert await product.is_enqueued(state.job_id)
    await product.api.cancel(generation_id)
    assert not await product.is_enqueued(state.job_id)
    stream = await product.api.read(generation_id)
    assert stream.kinds == ["created", "done"]
    assert stream.events[-1].value["status"] == "cancelled"


async def test_concurrent_cancels_write_one_done(product: Product) -> None:
    generation_id = await product.api.create()
    writer = await product.writer(generation_id)
    await writer.write_text("Hello")
    responses = await asyncio.gather(*(product.api.cancel(generation_id) for _ in range(10)))
    assert {(response.status, response.value["status"]) for response in responses} == {(200, "cancelled")}
    stream = await product.api.read(generation_id)
    assert stream.kinds.count("done") == 1
    assert stream.text == "Hello"


async def test_deleted_generation_is_gone_on_every_route_and_for_its_readers(product: Product) -> None:
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    response = await product.api.delete(generation_id)
    assert (response.status, response.value) == (200, {"id": generation_id, "deleted": True})
    await stream.rest()
    assert stream.events[-1].kind in ("gone", "done")
    for response in (
        await product.api.get(generation_id),
        await product.api.cancel(generation_id),
        await product.api.delete(generation_id),
        await product.api.events(generation_id),
        await product.api.events(generation_id, Last_Event_ID="1-1"),
    ):
        assert response.refusal == (410, "deleted")
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_expired_generation_is_gone(product: Product) -> None:
    generation_id = await product.completed("Hello", tailrace={"retention_s": 1})
    assert (await product.api.get(generation_id)).status == 200
    gone = await eventually(lambda: _gone(product.api, generation_id))
    assert gone.refusal == (410, "expired")
    assert (await product.api.events(generation_id)).refusal == (410, "expired")
    assert generation_id not in [each["id"] for each in (await product.api.list("?limit=100")).value["data"]]


async def _gone(api: Api, generation_id: str) -> Response | None:
    response = await api.get(generation_id)
    return response if response.status == 410 else None


async def test_unknown_generation_is_not_found_on_any_route(product: Product) -> None:
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
            response = await product.api.request(method, path + where, headers={"Accept": "text/event-stream"})
            assert response.refusal == (404, "not_found")
