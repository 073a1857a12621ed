"""`view=json`: the answer as a JSON value while it is written, whole and as a stream."""

import json
from typing import Any

import pytest

from support.api import Response
from support.product import UNKNOWN_ID, Product
from tailrace.events import Format

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON_MODE: dict[str, Any] = {"response_format": {"type": "json_object"}}
NDJSON = "application/x-ndjson; charset=utf-8"


def lines_of(response: Response) -> list[dict[str, Any]]:
    assert response.status == 200
    assert response.headers["content-type"] == NDJSON
    return [json.loads(line) for line in response.body.splitlines() if line]


async def test_value_so_far_is_answered_while_it_is_written(product: Product) -> None:
    generation_id = await product.api.create(**JSON_MODE)
    assert (await product.api.get(generation_id, "?view=json")).value["value"] is None
    writer = await product.writer(generation_id)
    await writer.write_text('{"city": "Par')
    running = (await product.api.get(generation_id, "?view=json")).value
    assert running == {
        "id": generation_id, "object": "generation.value", "status": "running", "value": {"city": "Par"},
        "is_complete": False, "refusal": None, "error": None, "format": None,
        "last_event_id": running["last_event_id"],
    }  # fmt: skip
    await writer.write_text('is"}')
    whole = (await product.api.get(generation_id, "?view=json")).value
    assert (whole["value"], whole["is_complete"], whole["status"]) == ({"city": "Paris"}, True, "running")
    await writer.end(format=Format(parsed=True, valid=True))
    ended = (await product.api.get(generation_id, "?view=json")).value
    assert (ended["value"], ended["is_complete"]) == ({"city": "Paris"}, True)
    assert ended["format"] == {"parsed": True, "valid": True}
    assert (await product.api.get(generation_id)).value["format"] == {"parsed": True, "valid": True}


async def test_last_event_of_the_value_continues_it(product: Product) -> None:
    generation_id = await product.api.create(**JSON_MODE)
    writer = await product.writer(generation_id)
    await writer.write_text('[1, "tw')
    cursor = (await product.api.get(generation_id, "?view=json")).value["last_event_id"]
    await writer.write_text('o"]')
    await writer.end()
    lines = lines_of(await product.api.events(generation_id, "?view=json", last_event_id=cursor))
    assert [line["value"] for line in lines] == [[1, "two"]]
    assert lines[-1]["done"]["status"] == "completed"
    ended = await product.api.events(generation_id, "?view=json", last_event_id=lines[-1]["id"])
    assert ended.status == 204


async def test_lines_are_the_same_whatever_the_client_accepts(product: Product) -> None:
    generation_id = await product.completed('{"a": [1, 2]}', **JSON_MODE)
    for accept in ("*/*", "application/x-ndjson", "text/event-stream", "text/plain"):
        (line,) = lines_of(await product.api.events(generation_id, "?view=json", Accept=accept))
        assert (line["value"], line["is_complete"]) == ({"a": [1, 2]}, True)


async def test_live_lines_follow_the_value(product: Product) -> None:
    generation_id = await product.api.create(**JSON_MODE)
    writer = await product.writer(generation_id)
    url = f"{product.api.url}/v1/generations/{generation_id}/events?view=json"
    async with product.http.get(url) as response:
        values = []
        for text in ('{"a": "x', "y", '"}'):
            await writer.write_text(text)
            values.append(json.loads(await response.content.readline()))
        await writer.end()
        values.append(json.loads(await response.content.readline()))
    assert [(each["value"], each["is_complete"]) for each in values] == [
        ({"a": "x"}, False), ({"a": "xy"}, False), ({"a": "xy"}, True), ({"a": "xy"}, True),
    ]  # fmt: skip


async def test_responses_format_is_recognised(product: Product) -> None:
    body = {"model": "demo", "input": "Hello?", "background": True, "text": {"format": {"type": "json_object"}}}
    created = (await product.api.request("POST", "/v1/responses", json=body)).value
    generation_id = created["id"].replace("resp_", "gen_")
    assert (await product.api.get(generation_id, "?view=json")).value["value"] is None


@pytest.mark.parametrize("path", ["?view=json", "/events?view=json"])
async def test_generation_without_json_has_no_value(product: Product, path: str) -> None:
    generation_id = await product.completed("Hello")
    refused = await product.api.request("GET", f"/v1/generations/{generation_id}{path}")
    assert refused.refusal == (400, "invalid_value")
    assert refused.error["param"] == "view"
    assert "response_format" in refused.error["message"]


async def test_other_view_is_refused(product: Product) -> None:
    generation_id = await product.completed("{}", **JSON_MODE)
    for path in ("?view=xml", "/events?view=xml"):
        refused = await product.api.request("GET", f"/v1/generations/{generation_id}{path}")
        assert (refused.status, refused.error["param"]) == (400, "view")
    assert (await product.api.events(generation_id, "?view=")).headers["content-type"].startswith("text/event-stream")


async def test_value_belongs_to_its_owner(product: Product) -> None:
    generation_id = await product.completed("{}", api=product.anna, **JSON_MODE)
    for path in ("?view=json", "/events?view=json"):
        assert (await product.ben.request("GET", f"/v1/generations/{generation_id}{path}")).status == 404
        assert (await product.stranger.request("GET", f"/v1/generations/{generation_id}{path}")).status == 401
        assert (await product.anna.request("GET", f"/v1/generations/{UNKNOWN_ID}{path}")).status == 404


async def test_text_that_is_no_json_is_an_error_beside_no_value(product: Product) -> None:
    generation_id = await product.completed("Sure! {}", **JSON_MODE)
    value = (await product.api.get(generation_id, "?view=json")).value
    assert (value["value"], value["is_complete"]) == (None, False)
    assert value["error"]
