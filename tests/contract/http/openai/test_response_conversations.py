"""`/v1/responses`: conversations, input items, and the size of a prompt."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from support.product import Product
from support.responses import Responses, generation_id_of
from support.stored_log import expire
from tailrace.translation import chat_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

SYSTEM = {"role": "system", "content": "Be."}
QUESTION = {"role": "user", "content": "Hello?"}


@pytest.fixture
def responses(product: Product) -> Responses:
    return Responses(product.api)


async def turn(product: Product, responses: Responses, answer: str, **fields: Any) -> str:
    """The id of a response that has ended with this answer."""
    response_id = await responses.create(**fields)
    writer = await product.writer(generation_id_of(response_id))
    await writer.write_text(answer)
    await writer.end()
    return response_id


async def messages_of(product: Product, response_id: str) -> Any:
    """What the upstream of this response gets."""
    state = await product.log.state(generation_id_of(response_id))
    return chat_request(state.record.api, await product.log.request(state.record.id))["messages"]


async def test_conversation_goes_on_from_the_previous_response(product: Product, responses: Responses) -> None:
    first = await turn(product, responses, "Hi.", instructions="Be.")
    second = await turn(product, responses, "Well.", previous_response_id=first, input="How are you?")
    third = await responses.create(previous_response_id=second, input=[{"role": "user", "content": "And now?"}])
    assert await messages_of(product, third) == [
        QUESTION,
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "How are you?"},
        {"role": "assistant", "content": "Well."},
        {"role": "user", "content": "And now?"},
    ]
    assert (await responses.get(third)).value["previous_response_id"] == second


async def test_conversation_stays_when_its_beginning_is_deleted(product: Product, responses: Responses) -> None:
    first = await turn(product, responses, "Hi.")
    second = await turn(product, responses, "Well.", previous_response_id=first, input="How are you?")
    await responses.delete(first)
    third = await responses.create(previous_response_id=second, input="And now?")
    assert len(await messages_of(product, third)) == 5


async def test_conversation_goes_on_from_a_native_generation(product: Product, responses: Responses) -> None:
    generation_id = await product.completed("Hi.", messages=[SYSTEM, QUESTION])
    response_id = await responses.create(
        previous_response_id=generation_id.replace("gen_", "resp_"), input="How are you?"
    )
    assert await messages_of(product, response_id) == [
        SYSTEM, QUESTION, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "How are you?"},
    ]  # fmt: skip


async def test_conversation_does_not_go_on_from_what_was_not_to_be_stored(
    product: Product, responses: Responses
) -> None:
    first = await turn(product, responses, "Hi.", store=False)
    response = await responses.post(background=True, previous_response_id=first)
    assert response.refusal == (400, "previous_response_not_found")


async def test_conversation_does_not_go_on_from_a_running_response(product: Product, responses: Responses) -> None:
    first = await responses.create()
    response = await responses.post(background=True, previous_response_id=first)
    assert (response.status, response.error["param"]) == (400, "previous_response_id")


async def test_conversation_of_another_caller_is_not_there(product: Product) -> None:
    anna, ben = Responses(product.anna), Responses(product.ben)
    first = await anna.create()
    await anna.cancel(first)
    assert (await ben.post(background=True, previous_response_id=first)).refusal == (400, "previous_response_not_found")


async def test_references_lead_to_items_of_earlier_responses(product: Product, responses: Responses) -> None:
    first = await turn(product, responses, "Hi.")
    answer = (await responses.get(first)).value["output"][0]
    asked = (await responses.items(first)).value["data"][0]
    references = [{"type": "item_reference", "id": each["id"]} for each in (asked, answer)]
    second = await responses.create(input=[*references, {"role": "user", "content": "How are you?"}])
    assert await messages_of(product, second) == [
        QUESTION, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "How are you?"},
    ]  # fmt: skip


async def test_conversation_has_the_limit_of_a_body(product: Product) -> None:
    async with product.frontend(max_body_bytes="2000") as small:
        responses = Responses(type(product.api)(product.http, small.url))
        first = await turn(product, responses, "x" * 1500)
        response = await responses.post(background=True, previous_response_id=first, input="y" * 1500)
    assert response.refusal == (413, "request_too_large")


# repetitions


@pytest_asyncio.fixture(loop_scope="module", params=["previous_response_id", "item_reference"])
async def continued(request: pytest.FixtureRequest, product: Product, responses: Responses) -> tuple[str, Any]:
    """A response that has ended, and the fields of a request that depends on it."""
    first = await turn(product, responses, "Hi.")
    if request.param == "previous_response_id":
        return first, {"previous_response_id": first, "input": "How are you?"}
    item = (await responses.items(first)).value["data"][0]
    return first, {"input": [{"type": "item_reference", "id": item["id"]}]}


KEY, FIRST, AGAIN = "idempotency-key", {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}


@pytest.mark.parametrize("has_key", [True, False])
@pytest.mark.parametrize("fate", ["deleted", "expired"])
async def test_repetition_gets_its_response_although_what_it_continues_is_gone(
    product: Product, responses: Responses, continued: tuple[str, Any], has_key: bool, fate: str
) -> None:
    first, fields = continued
    headers = [{KEY: first}] * 2 if has_key else [FIRST, AGAIN]
    second = await turn(product, responses, "Well.", headers=headers[0], **fields)
    if fate == "deleted":
        await responses.delete(first)
    else:
        await expire(product.log.server.client, generation_id_of(first))
    response = await responses.post(background=True, headers=headers[1], **fields)
    assert (response.status, response.value["id"]) == (200, second)
    assert response.value["output"][0]["content"][0]["text"] == "Well."
    assert (await responses.post(background=True, headers=FIRST, **fields)).status in (400, 404)


async def test_repetition_gets_its_response_while_that_waits(
    product: Product, responses: Responses, continued: tuple[str, Any]
) -> None:
    first, fields = continued
    created = await responses.post(background=True, headers={KEY: first}, **fields)
    await responses.delete(first)
    again = await responses.post(background=True, headers={KEY: first}, **fields)
    assert (again.status, again.value) == (200, created.value)
    assert len(await messages_of(product, again.value["id"])) in (1, 3)


async def test_repetitions_of_a_continuation_at_the_same_time_are_one_response(
    responses: Responses, continued: tuple[str, Any]
) -> None:
    first, fields = continued
    answers = await asyncio.gather(*(responses.post(background=True, headers={KEY: first}, **fields) for _ in range(8)))
    assert len({answer.value["id"] for answer in answers}) == 1


async def test_key_of_a_continuation_is_refused_with_another_body_also_when_its_beginning_is_gone(
    product: Product, responses: Responses, continued: tuple[str, Any]
) -> None:
    first, fields = continued
    await turn(product, responses, "Well.", headers={KEY: first}, **fields)
    await responses.delete(first)
    response = await responses.post(background=True, headers={KEY: first}, **(fields | {"temperature": 0.5}))
    assert response.refusal == (400, "idempotency_key_reused")


async def test_key_of_a_continuation_that_was_refused_may_be_used_again(product: Product, responses: Responses) -> None:
    first = await responses.create()
    fields: Any = {"headers": {KEY: first}, "background": True, "previous_response_id": first}
    assert (await responses.post(**fields)).refusal[0] == 400
    writer = await product.writer(generation_id_of(first))
    await writer.end()
    assert (await responses.post(**fields)).status == 200


# input items


async def test_input_items_are_a_page_of_the_input(responses: Responses) -> None:
    asked = [{"role": "user", "content": f"{number}"} for number in range(5)]
    response_id = await responses.create(input=asked)
    newest = (await responses.items(response_id)).value
    assert [item["content"][0]["text"] for item in newest["data"]] == ["4", "3", "2", "1", "0"]
    assert newest["object"] == "list"
    assert (newest["first_id"], newest["last_id"]) == (newest["data"][0]["id"], newest["data"][-1]["id"])
    assert newest["has_more"] is False
    first = (await responses.items(response_id, "?limit=2&order=asc")).value
    second = (await responses.items(response_id, f"?limit=2&order=asc&after={first['last_id']}")).value
    assert [item["content"][0]["text"] for item in first["data"] + second["data"]] == ["0", "1", "2", "3"]
    assert second["has_more"] is True


async def test_input_items_have_the_whole_conversation(product: Product, responses: Responses) -> None:
    first = await turn(product, responses, "Hi.")
    second = await responses.create(previous_response_id=first, input="How are you?")
    items = (await responses.items(second, "?order=asc")).value["data"]
    assert [(item["role"], item["content"][0]["text"]) for item in items] == [
        ("user", "Hello?"), ("assistant", "Hi."), ("user", "How are you?"),
    ]  # fmt: skip
    assert len({item["id"] for item in items}) == 3


async def test_input_items_of_a_native_generation_are_its_messages(product: Product, responses: Responses) -> None:
    generation_id = await product.api.create(messages=[SYSTEM, QUESTION])
    items = (await responses.items(generation_id.replace("gen_", "resp_"), "?order=asc")).value["data"]
    assert [item["role"] for item in items] == ["system", "user"]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=101", "?order=random", "?after=msg_unknown", "?include[]=everything"]
)
async def test_malformed_page_is_refused(responses: Responses, query: str) -> None:
    response_id = await responses.create()
    assert (await responses.items(response_id, query)).status == 400


# the size of a prompt


async def test_size_of_a_prompt_is_estimated(product: Product, responses: Responses) -> None:
    async with product.nothing_stored():
        small = (await responses.post("/input_tokens", input="Hello?")).value
        tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
        large = (await responses.post("/input_tokens", input="Hello? " * 100, tools=tools)).value
    assert small == {"object": "response.input_tokens", "input_tokens": 2, "estimated": True}
    assert large["input_tokens"] > 175


async def test_size_of_a_prompt_includes_the_conversation(product: Product, responses: Responses) -> None:
    first = await turn(product, responses, "Hi. " * 100)
    counted = (await responses.post("/input_tokens", previous_response_id=first, input="And?")).value
    assert counted["input_tokens"] > 100


async def test_size_of_a_prompt_that_cannot_be_carried_is_refused(responses: Responses) -> None:
    response = await responses.post("/input_tokens", conversation="conv_1")
    assert response.refusal == (400, "unsupported_parameter")
