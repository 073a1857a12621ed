"""`/v1/responses`: create, get, stream, cancel, delete. There is no worker: tests write the logs."""

import asyncio
from typing import Any

import pytest
from openai.types.responses import Response as ResponseModel

from support.api import Response, eventually
from support.chat_api import fail, kept_alive
from support.product import UNKNOWN_ID, Product
from support.responses import Frames, Responses, body, frames_of, generation_id_of
from tailrace.events import Failure
from tailrace.failures import failure

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUIRED = {
    "id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id",
    "instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p",
    "presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens",
    "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
UNKNOWN = UNKNOWN_ID.replace("gen_", "resp_")


@pytest.fixture
def responses(product: Product) -> Responses:
    return Responses(product.api)


async def completed(product: Product, responses: Responses, *texts: str, **fields: Any) -> str:
    """The id of a background response that has ended with these texts."""
    response_id = await responses.create(**fields)
    writer = await product.writer(generation_id_of(response_id))
    await writer.write_text(*texts)
    await writer.end()
    return response_id


def whole(response: Response) -> Any:
    """The Response, which has every field."""
    assert response.status == 200, response
    value = response.value
    assert value.keys() >= REQUIRED
    ResponseModel.model_validate(value, strict=True)
    return value


# create


async def test_background_response_is_returned_at_once(product: Product, responses: Responses) -> None:
    response = await responses.post(background=True, instructions="Be.", metadata={"a": "b"})
    value = whole(response)
    assert (value["status"], value["output"], value["background"]) == ("queued", [], True)
    assert (value["instructions"], value["metadata"], value["model"]) == ("Be.", {"a": "b"}, "demo")
    generation_id = response.headers["x-tailrace-generation"]
    assert value["id"] == generation_id.replace("gen_", "resp_")
    native = (await product.api.get(generation_id)).value
    assert native["request"] == body(background=True, instructions="Be.", metadata={"a": "b"})


async def test_background_response_streams_from_its_creation(product: Product, responses: Responses) -> None:
    async with product.http.post(
        f"{responses.api.url}/v1/responses", json=body(background=True, stream=True)
    ) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        generation_id = response.headers["x-tailrace-generation"]
        begun = await response.content.readuntil(b"\n\n")
        assert b'"status":"queued"' in begun
        writer = await product.writer(generation_id)
        await writer.write_text("Hello", " there")
        await writer.end()
        frames = frames_of(Response(200, response.headers, begun + await response.read()))
    assert frames.types[:4] == ["created", "queued", "in_progress", "output_item.added"]
    assert frames.types[-1] == "completed"
    assert frames.is_whole
    assert [event["sequence_number"] for event in frames.events] == list(range(len(frames.events)))


async def test_foreground_response_is_returned_at_its_end(product: Product, responses: Responses) -> None:
    waiting = asyncio.create_task(responses.post(model="foreground-1"))
    writer = await product.writer(await newest(product, "foreground-1"))
    await writer.write_text("Hello")
    await writer.end()
    value = whole(await waiting)
    assert (value["status"], value["background"]) == ("completed", False)
    assert value["output"][0]["content"][0]["text"] == "Hello"
    assert value["usage"]["total_tokens"] == 0


async def test_foreground_response_streams(product: Product, responses: Responses) -> None:
    waiting = asyncio.create_task(responses.post(model="foreground-2", stream=True))
    writer = await product.writer(await newest(product, "foreground-2"))
    await writer.write_text("Hello")
    await writer.end()
    frames = frames_of(await waiting)
    assert frames.types[:2] == ["created", "in_progress"]
    assert frames.is_whole


async def newest(product: Product, model: str) -> str:
    """The id of the generation with that model, once there is one."""

    async def found() -> str | None:
        listed = (await product.api.list("?limit=20")).value["data"]
        return next((each["id"] for each in listed if each["model"] == model), None)

    generation_id: str = await eventually(found)
    return generation_id


@pytest.mark.parametrize(
    ("fields", "refusal", "param"),
    [
        ({"model": None}, (400, "invalid_value"), "model"),
        ({"input": None}, (400, "missing_required_parameter"), "input"),
        ({"input": 3}, (400, "invalid_value"), "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, (400, "invalid_value"),
         "input[0].content[0].text"),
        ({"conversation": "conv_1"}, (400, "unsupported_parameter"), "conversation"),
        ({"prompt": {"id": "p"}}, (400, "unsupported_parameter"), "prompt"),
        ({"truncation": "auto"}, (400, "unsupported_parameter"), "truncation"),
        ({"max_tokens": 3}, (400, "unsupported_parameter"), "max_tokens"),
        ({"tools": [{"type": "web_search"}]}, (400, "unsupported_parameter"), "tools[0].type"),
        ({"input": [{"type": "compaction", "id": "c", "encrypted_content": "x"}]}, (400, "unsupported_parameter"),
         "input[0]"),
        ({"include": ["everything"]}, (400, "invalid_value"), "include[0]"),
        ({"previous_response_id": UNKNOWN}, (400, "previous_response_not_found"), "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "msg_theirs"}]}, (404, None), "input"),
    ],
)  # fmt: skip
async def test_request_that_cannot_be_carried_is_refused_by_name(
    product: Product, responses: Responses, fields: Any, refusal: Any, param: str
) -> None:
    async with product.nothing_stored():
        response = await responses.post(background=True, **fields)
    assert response.refusal == refusal
    assert response.error["param"] == param
    assert response.error["type"] == "invalid_request_error"


async def test_missing_model_is_named(product: Product) -> None:
    response = await product.api.request("POST", "/v1/responses", json={"input": "Hello?"})
    assert response.refusal == (400, "missing_required_parameter")
    assert response.error["message"] == "Missing required parameter: 'model'."


async def test_response_that_is_not_stored_is_kept_for_ten_minutes(product: Product, responses: Responses) -> None:
    kept = await product.log.state(generation_id_of(await responses.create()))
    unstored = await product.log.state(generation_id_of(await responses.create(store=False)))
    assert kept.record.store
    assert not unstored.record.store
    assert unstored.record.options.retention_s == 600 < kept.record.options.retention_s


async def test_idempotency_key_leads_to_the_same_response(responses: Responses) -> None:
    headers = {"Idempotency-Key": "once-more"}
    first, again = [await responses.post(background=True, headers=headers) for _ in range(2)]
    assert first.value == again.value
    other = await responses.post(background=True, headers=headers, input="Goodbye?")
    assert other.refusal == (400, "idempotency_key_reused")


# get


async def test_get_returns_the_response_as_it_stands(product: Product, responses: Responses) -> None:
    response_id = await responses.create()
    assert whole(await responses.get(response_id))["status"] == "queued"
    writer = await product.writer(generation_id_of(response_id))
    await writer.write_text("Hello")
    running = whole(await responses.get(response_id))
    assert running["status"] == "in_progress"
    assert running["output"][0]["status"] == "in_progress"
    assert running["output"][0]["content"][0]["text"] == "Hello"
    await writer.write_text(" there")
    await writer.end()
    ended = await responses.get(response_id, "?starting_after=3&include[]=message.output_text.logprobs")
    assert whole(ended)["output"][0]["content"][0]["text"] == "Hello there"
    assert ended.value["status"] == "completed"
    assert ended.headers["x-tailrace-generation"] == generation_id_of(response_id)


async def test_get_shows_a_native_generation_as_a_response(product: Product, responses: Responses) -> None:
    generation_id = await product.completed("Hello", temperature=0.5)
    value = whole(await responses.get(generation_id.replace("gen_", "resp_")))
    assert (value["status"], value["temperature"]) == ("completed", 0.5)
    assert value["output"][0]["content"][0]["text"] == "Hello"


async def test_get_shows_a_failed_response_and_why(product: Product, responses: Responses) -> None:
    response_id = await responses.create()
    writer = await product.writer(generation_id_of(response_id))
    await writer.end("failed", Failure("The upstream failed.", "upstream_error"))
    value = whole(await responses.get(response_id))
    assert value["status"] == "failed"
    assert value["error"] == {
        "code": "server_error", "message": "The upstream failed.", "type": "server_error", "param": None,
    }  # fmt: skip
    frames = await responses.stream(response_id)
    assert frames.types[-2:] == ["error", "failed"]
    assert frames.is_whole


IDS = [UNKNOWN, "resp_", "resp_x", UNKNOWN_ID, UNKNOWN_ID.replace("gen_", "chatcmpl-"), "x" * 300, "%00", "é"]


@pytest.mark.parametrize("response_id", IDS)
async def test_unknown_and_malformed_ids_are_answered_alike(responses: Responses, response_id: str) -> None:
    for answer in (
        await responses.get(response_id),
        await responses.get(response_id, "?stream=true"),
        await responses.cancel(response_id),
        await responses.delete(response_id),
        await responses.items(response_id),
    ):
        assert answer.refusal == (404, None)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["message"].startswith("Response with id '")
        assert answer.error["message"].endswith("' not found.")


async def test_foreign_and_deleted_ids_are_answered_like_unknown_ones(product: Product) -> None:
    anna, ben = Responses(product.anna), Responses(product.ben)
    response_id = await anna.create()
    foreign = await ben.get(response_id)
    assert (await anna.delete(response_id)).status == 200
    deleted, unknown = await anna.get(response_id), await anna.get(UNKNOWN)
    assert {foreign.status, deleted.status, unknown.status} == {404}
    text = unknown.error["message"].replace(UNKNOWN, response_id)
    assert foreign.error == deleted.error == unknown.error | {"message": text}


@pytest.mark.parametrize(
    "query", ["?stream=maybe", "?stream=true&starting_after=x", "?include[]=everything", "?include=everything"]
)
async def test_malformed_query_is_refused(product: Product, responses: Responses, query: str) -> None:
    response_id = await completed(product, responses, "Hello")
    assert (await responses.get(response_id, query)).status == 400


# resume


async def test_stream_behind_every_number_is_exactly_the_rest(product: Product, responses: Responses) -> None:
    response_id = await completed(product, responses, "Hello", " there", "\u2028", ".")
    full = await responses.stream(response_id)
    async with product.frontend() as other:
        elsewhere = Responses(type(responses.api)(product.http, other.url))
        for number in range(len(full.events)):
            rest = await elsewhere.stream(response_id, f"&starting_after={number}")
            assert full.frames[: number + 1] + rest.frames == full.frames


@pytest.mark.parametrize("number", [-1, -99])
async def test_stream_behind_a_negative_number_is_the_whole(
    product: Product, responses: Responses, number: int
) -> None:
    response_id = await completed(product, responses, "Hello")
    assert await responses.stream(response_id, f"&starting_after={number}") == await responses.stream(response_id)


@pytest.mark.parametrize("number", [1000, 10**30])
async def test_stream_behind_the_end_of_an_ended_response_is_the_end(
    product: Product, responses: Responses, number: int
) -> None:
    response_id = await completed(product, responses, "Hello")
    assert (await responses.stream(response_id, f"&starting_after={number}")).frames == [b"data: [DONE]"]


async def test_stream_behind_a_number_goes_on_live(product: Product, responses: Responses) -> None:
    response_id = await responses.create()
    writer = await product.writer(generation_id_of(response_id))
    await writer.write_text("Hello")
    streams = [asyncio.create_task(responses.stream(response_id, query)) for query in ("", "&starting_after=4")]
    await asyncio.sleep(0.2)
    await writer.write_text(" there")
    await writer.end()
    full, rest = await asyncio.gather(*streams)
    assert full.frames[5:] == rest.frames
    assert rest.is_whole


async def test_stream_of_a_foreground_response_may_be_read_again(product: Product, responses: Responses) -> None:
    generation_id = await product.completed("Hello")
    frames = await responses.stream(generation_id.replace("gen_", "resp_"))
    assert frames.types[0] == "created"
    assert frames.is_whole


async def test_stream_pads_deltas_where_the_client_asks_for_it(product: Product, responses: Responses) -> None:
    response_id = await completed(product, responses, "Hello", " there, all of you")
    plain, padded = (
        await responses.stream(response_id),
        await responses.stream(response_id, "&include_obfuscation=true"),
    )
    deltas = [event for event in padded.events if event["type"].endswith(".delta")]
    assert {len(event["delta"] + event.pop("obfuscation")) % 16 for event in deltas} == {0}
    assert without_padding(padded) == plain.events


def without_padding(frames: Frames) -> list[Any]:
    return [{name: value for name, value in event.items() if name != "obfuscation"} for event in frames.events]


# cancel and delete


async def test_cancel_ends_a_background_response_once(product: Product, responses: Responses) -> None:
    response_id = await responses.create()
    writer = await product.writer(generation_id_of(response_id))
    await writer.write_text("Hello")
    cancelled = whole(await responses.cancel(response_id))
    assert (cancelled["status"], cancelled["incomplete_details"]) == ("cancelled", None)
    assert cancelled["output"][0]["status"] == "incomplete"
    assert whole(await responses.cancel(response_id)) == cancelled == whole(await responses.get(response_id))
    frames = await responses.stream(response_id)
    assert frames.types[-1] == "incomplete"
    assert frames.events[-1]["response"]["status"] == "cancelled"
    assert frames.is_whole


async def test_cancel_of_an_ended_response_changes_nothing(product: Product, responses: Responses) -> None:
    response_id = await completed(product, responses, "Hello")
    before = whole(await responses.get(response_id))
    assert whole(await responses.cancel(response_id)) == before


async def test_cancel_of_a_foreground_response_is_refused(product: Product, responses: Responses) -> None:
    waiting = asyncio.create_task(responses.post(model="foreground-3"))
    generation_id = await newest(product, "foreground-3")
    response = await responses.cancel(generation_id.replace("gen_", "resp_"))
    assert (response.status, response.error["param"]) == (400, "response_id")
    assert response.error["message"] == "Cannot cancel a synchronous response."
    await product.api.cancel(generation_id)
    assert whole(await waiting)["status"] == "cancelled"


async def test_delete_answers_as_openai_does_and_leaves_nothing(product: Product, responses: Responses) -> None:
    response_id = await completed(product, responses, "Hello")
    response = await responses.delete(response_id)
    assert response.value == {"id": response_id, "object": "response", "deleted": True}
    assert response.headers["x-tailrace-generation"] == generation_id_of(response_id)
    assert (await responses.delete(response_id)).status == 404
    assert (await responses.get(response_id)).status == 404


async def test_delete_cancels_a_running_response(product: Product, responses: Responses) -> None:
    response_id = await responses.create()
    writer = await product.writer(generation_id_of(response_id))
    reading = asyncio.create_task(product.api.read(writer.generation_id))
    await writer.write_text("Hello")
    assert (await responses.delete(response_id)).status == 200
    assert (await reading).events[-1].kind in ("done", "gone")


async def test_failure_after_the_status_is_the_failed_response(product: Product) -> None:
    """An SDK takes a body with the status 200 for a Response: it must be one."""
    async with kept_alive(product, b" ", "/v1/responses", body()) as (response, generation_id):
        await fail(product, generation_id, failure("upstream_error"))
        answer = ResponseModel.model_validate_json(await response.read(), strict=True)
    assert (answer.status, answer.output) == ("failed", [])
    assert answer.error is not None


async def test_waiting_client_learns_that_its_response_was_deleted(product: Product, responses: Responses) -> None:
    waiting = asyncio.create_task(responses.post(model="deleted"))
    generation_id = await newest(product, "deleted")
    assert (await responses.delete(generation_id.replace("gen_", "resp_"))).status == 200
    answer = await waiting
    assert answer.status == 404 or answer.value["status"] == "cancelled", "read between the cancel and the deletion"
