"""Webhook endpoints through openai-python's `client.webhooks`, against a running frontend and a receiver."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import openai
import pytest
import pytest_asyncio

from support.api import Api, Response
from support.hub_harness import until
from support.product import Product, running_product
from support.webhook_receiver import Receiver, receiver
from tailrace.webhooks.endpoints import MAX_ENDPOINTS
from tailrace.webhooks.events import EVENT_TYPES, GENERATION, RESPONSE, event_kind
from tailrace_frontend.webhooks import SAMPLES

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "https://example.org/hook"
UNKNOWN = "whe_" + "a" * 26
COMPLETED: Final = "response.completed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    """Two frontends; the one with keys may send to loopback, where the receivers are."""
    async with running_product(webhook_allow_private="true") as product:
        yield product


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiving() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


def client_of(api: Api, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=key, max_retries=0)


@pytest_asyncio.fixture(loop_scope="module")
async def anna(product: Product) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK of a caller, who has no endpoints."""
    async with client_of(product.anna, "anna-key-1") as client:
        async for endpoint in client.webhooks.list():
            await client.webhooks.delete(endpoint.id)
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def ben(product: Product) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(product.ben, "ben-key-22") as client:
        yield client


async def create(client: openai.AsyncOpenAI, url: str = URL, **fields: Any) -> Any:
    return await client.webhooks.create(**{"name": "billing", "url": url, "event_types": [COMPLETED], **fields})


async def test_endpoint_is_registered_with_a_secret_that_is_shown_once(anna: openai.AsyncOpenAI) -> None:
    began = int(time.time())
    endpoint = await create(anna, event_types=[COMPLETED, "response.failed", COMPLETED])
    assert endpoint.object == "webhook_endpoint"
    assert endpoint.signing_secret.startswith("whsec_")
    assert endpoint.signing_secret_hint == f"whsec_...{endpoint.signing_secret[-4:]}"
    assert (endpoint.name, endpoint.url) == ("billing", URL)
    assert endpoint.event_types == [COMPLETED, "response.failed"]
    assert began - 1 <= endpoint.created_at == endpoint.updated_at <= time.time() + 1
    raw = await anna.webhooks.with_raw_response.retrieve(endpoint.id)
    assert raw.parse().model_dump() == endpoint.model_dump(exclude={"signing_secret"})
    assert endpoint.signing_secret not in raw.text


def retry(count: int) -> dict[str, Any]:
    """The header that the SDK sends with its own repetitions."""
    return {"extra_headers": {"x-stainless-retry-count": str(count)}}


async def test_registration_whose_answer_was_lost_is_found_by_the_repetition_of_the_sdk(
    product: Product, anna: openai.AsyncOpenAI, ben: openai.AsyncOpenAI
) -> None:
    """The first answer is cut off; the SDK repeats the request by itself."""
    cut = 0

    async def lose(_: Any) -> None:
        nonlocal cut
        cut += 1
        if cut == 1:
            raise httpx2.ReadError("connection reset")

    async with openai.DefaultAsyncHttpxClient(event_hooks={"response": [lose]}) as losing:
        client = client_of(product.anna, "anna-key-1").with_options(http_client=losing, max_retries=2)
        endpoint = await create(client)
    assert cut == 2
    assert [each.id async for each in anna.webhooks.list()] == [endpoint.id]
    assert await create(anna, **retry(1)) == endpoint
    for other in (await create(ben, **retry(1)), await create(anna, name="other", **retry(1))):
        assert other.id != endpoint.id
        assert other.signing_secret != endpoint.signing_secret


async def test_registration_that_is_no_repetition_is_another_endpoint(anna: openai.AsyncOpenAI) -> None:
    first, second = await create(anna), await create(anna)
    assert first.id != second.id
    assert (await create(anna, **retry(1))).id == second.id


async def test_registration_is_known_by_its_idempotency_key(anna: openai.AsyncOpenAI) -> None:
    key: dict[str, Any] = {"extra_headers": {"Idempotency-Key": "deploy-7"}}
    first = await create(anna, **key)
    assert await create(anna, **key) == first
    with pytest.raises(openai.BadRequestError) as refused:
        await create(anna, name="other", **key)
    assert refused.value.code == "idempotency_key_reused"
    await anna.webhooks.delete(first.id)
    assert (await create(anna, **key)).id != first.id


async def test_endpoints_are_listed_in_pages_newest_first(anna: openai.AsyncOpenAI) -> None:
    ids = [(await create(anna, name=str(n))).id for n in range(5)]
    page = await anna.webhooks.list(limit=2)
    assert [each.id for each in page.data] == ids[:2:-1]
    assert page.has_more
    assert [each.id async for each in anna.webhooks.list(limit=2)] == ids[::-1]
    assert [each.id async for each in anna.webhooks.list(after=ids[2])] == ids[1::-1]
    assert (await anna.webhooks.list(after=UNKNOWN)).data == []


async def test_list_names_its_first_and_last_id(product: Product, anna: openai.AsyncOpenAI) -> None:
    empty = (await product.anna.request("GET", "/v1/webhook_endpoints")).value
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    ids = [(await create(anna)).id for _ in range(2)]
    value = (await product.anna.request("GET", "/v1/webhook_endpoints")).value
    assert [value["last_id"], value["first_id"]] == ids
    assert "signing_secret" not in value["data"][0]


async def test_update_changes_the_given_fields_alone(anna: openai.AsyncOpenAI) -> None:
    endpoint = await create(anna)
    renamed = await anna.webhooks.update(endpoint.id, name="payments")
    assert (renamed.name, renamed.url, renamed.event_types) == ("payments", URL, [COMPLETED])
    moved = await anna.webhooks.update(endpoint.id, url=URL + "/2", event_types=["response.cancelled"])
    assert (moved.name, moved.url, moved.event_types) == ("payments", URL + "/2", ["response.cancelled"])
    assert (await anna.webhooks.retrieve(endpoint.id)) == moved
    assert moved.signing_secret_hint == endpoint.signing_secret_hint


async def test_update_that_changes_nothing_keeps_its_time(product: Product, anna: openai.AsyncOpenAI) -> None:
    endpoint = await create(anna)
    stored = await product.log.server.execute("HGET", "tailrace:{webhooks}:endpoints:anna", endpoint.id)
    await anna.webhooks.update(endpoint.id, name="billing", url=URL)
    await anna.webhooks.update(endpoint.id)
    assert await product.log.server.execute("HGET", "tailrace:{webhooks}:endpoints:anna", endpoint.id) == stored


async def test_endpoint_that_was_deleted_is_gone(anna: openai.AsyncOpenAI) -> None:
    endpoint = await create(anna)
    deleted = await anna.webhooks.delete(endpoint.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (endpoint.id, "webhook_endpoint.deleted", True)
    for call in (anna.webhooks.retrieve, anna.webhooks.delete):
        with pytest.raises(openai.NotFoundError):
            await call(endpoint.id)


async def test_event_types_are_those_that_can_be_registered(anna: openai.AsyncOpenAI) -> None:
    types = await anna.webhooks.event_types.list()
    assert (types.object, types.data) == ("list", list(EVENT_TYPES))
    assert (await create(anna, event_types=types.data)).event_types == types.data


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (
            "/api/chat",
            {"id": "c1", "messages": [{"id": "u1", "role": "user", "parts": []}], "model": "demo"},
            GENERATION,
        ),
        ("/v1/generations", {"messages": [{"role": "user", "content": "Hi"}], "model": "demo"}, GENERATION),
        ("/v1/responses", {"input": "Hi", "model": "demo", "background": True}, RESPONSE),
    ],
)
async def test_kind_of_the_event_follows_from_the_route(product: Product, path: str, body: Any, kind: str) -> None:
    headers = {"Authorization": "Bearer anna-key-1"}
    async with product.http.post(product.anna.url + path, json=body, headers=headers) as response:
        generation_id = response.headers.get("x-tailrace-generation") or (await response.json())["id"]
    assert event_kind((await product.log.state(generation_id)).record) == kind


# The secret


async def sent_to(anna: openai.AsyncOpenAI, receiving: Receiver, endpoint_id: str) -> Any:
    """What the endpoint receives as a sample now."""
    receiving.received.clear()
    await anna.webhooks.test(endpoint_id, event_type=COMPLETED)
    (received,) = receiving.received
    return received


async def test_secret_that_was_rotated_signs_alone(anna: openai.AsyncOpenAI, receiving: Receiver) -> None:
    endpoint = await create(anna, f"{receiving.url}/ok")
    rotated = await anna.webhooks.rotate_secret(endpoint.id)
    assert rotated.signing_secret != endpoint.signing_secret
    assert rotated.signing_secret_hint != endpoint.signing_secret_hint
    received = await sent_to(anna, receiving, endpoint.id)
    anna.webhooks.verify_signature(received.body, received.headers, secret=rotated.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        anna.webhooks.verify_signature(received.body, received.headers, secret=endpoint.signing_secret)


async def test_secret_that_was_rotated_with_overlap_signs_beside_the_old_one(
    anna: openai.AsyncOpenAI, receiving: Receiver
) -> None:
    endpoint = await create(anna, f"{receiving.url}/ok")
    rotated = await anna.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    received = await sent_to(anna, receiving, endpoint.id)
    for secret in (rotated.signing_secret, endpoint.signing_secret):
        anna.webhooks.verify_signature(received.body, received.headers, secret=secret)


# Samples


async def test_sample_is_sent_and_verified(anna: openai.AsyncOpenAI, receiving: Receiver) -> None:
    endpoint = await create(anna, f"{receiving.url}/ok")
    receiving.received.clear()
    result = await anna.webhooks.test(endpoint.id, event_type="response.failed")
    assert (result.object, result.success, result.status_code) == ("webhook_endpoint.test", True, 200)
    assert (result.webhook_endpoint_id, result.event_type) == (endpoint.id, "response.failed")
    (received,) = receiving.received
    event = anna.webhooks.unwrap(received.body, received.headers, secret=endpoint.signing_secret)
    assert event.type == "response.failed"
    assert event.id.startswith("evt_")
    assert event.data.id.startswith("resp_")
    assert abs(event.created_at - time.time()) < 60


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_sample_reports_the_status_of_the_receiver(
    anna: openai.AsyncOpenAI, receiving: Receiver, status: int
) -> None:
    path = "/redirect" if status == 302 else f"/status/{status}"
    endpoint = await create(anna, receiving.url + path)
    assert (await anna.webhooks.test(endpoint.id, event_type=COMPLETED)).status_code == status


async def test_sample_to_a_receiver_that_does_not_answer_is_an_error(anna: openai.AsyncOpenAI) -> None:
    endpoint = await create(anna, "http://127.0.0.1:9/")
    with pytest.raises(openai.BadRequestError) as refused:
        await anna.webhooks.test(endpoint.id, event_type=COMPLETED)
    assert refused.value.code == "webhook_unreachable"
    assert "Connect call failed" in refused.value.message


async def test_samples_that_are_not_answered_delay_no_other_request_of_the_caller(
    product: Product, anna: openai.AsyncOpenAI, ben: openai.AsyncOpenAI
) -> None:
    """A foreign server decides how long a sample takes."""
    async with receiver() as silent:
        url = f"{silent.url}/silent"
        hers, his = (await create(anna, url)).id, (await create(ben, url)).id
        under_way = [asyncio.create_task(anna.webhooks.test(hers, event_type=COMPLETED)) for _ in range(SAMPLES)]
        await until(lambda: len(silent.received) == SAMPLES)
        async with asyncio.timeout(2):
            await product.anna.create()
        with pytest.raises(openai.RateLimitError) as refused:
            await anna.webhooks.test(hers, event_type=COMPLETED)
        assert refused.value.code == "concurrency_limit_exceeded"
        under_way.append(asyncio.create_task(ben.webhooks.test(his, event_type=COMPLETED)))
        await until(lambda: len(silent.received) == SAMPLES + 1)
    ended = await asyncio.gather(*under_way, return_exceptions=True)
    assert [getattr(each, "code", each) for each in ended] == ["webhook_unreachable"] * (SAMPLES + 1)
    async with receiver() as running:
        await anna.webhooks.update(hers, url=f"{running.url}/ok")
        assert (await anna.webhooks.test(hers, event_type=COMPLETED)).status_code == 200


# Refusals


async def test_endpoint_of_another_caller_is_indistinguishable_from_an_unknown_one(
    product: Product, anna: openai.AsyncOpenAI, ben: openai.AsyncOpenAI
) -> None:
    endpoint = await create(anna)
    assert endpoint.id not in [each.id async for each in ben.webhooks.list()]
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("POST", "", {"name": "x"}), ("DELETE", "", None), ("POST", "/rotate_secret", {}),
        ("POST", "/test", {"event_type": COMPLETED}),
    ]  # fmt: skip
    for method, path, body in calls:
        hers, unknown = [
            await product.ben.request(method, f"/v1/webhook_endpoints/{each}{path}", json=body)
            for each in (endpoint.id, UNKNOWN)
        ]
        assert hers.refusal == unknown.refusal == (404, "not_found")
        assert hers.body.replace(endpoint.id.encode(), b"") == unknown.body.replace(UNKNOWN.encode(), b"")
    assert (await anna.webhooks.retrieve(endpoint.id)).name == "billing"


async def test_id_that_is_none_is_not_found(product: Product) -> None:
    for odd in ("whe_", "x", "%00", "%F0%9F%92%A9", "whe_" + "A" * 26, "a" * 500):
        assert (await product.anna.request("GET", f"/v1/webhook_endpoints/{odd}")).refusal == (404, "not_found")


async def test_request_without_a_valid_key_is_unauthorized(product: Product) -> None:
    for method, path in (
        ("GET", "/v1/webhook_endpoints"), ("POST", "/v1/webhook_endpoints"), ("GET", "/v1/webhook_event_types"),
        ("GET", f"/v1/webhook_endpoints/{UNKNOWN}"), ("DELETE", f"/v1/webhook_endpoints/{UNKNOWN}"),
    ):  # fmt: skip
        assert (await product.stranger.request(method, path)).refusal == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"url": "http://10.0.0.1#x"}, "url"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://" + "a" * 3000}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": "response.completed"}, "event_types"),
        ({"event_types": ["batch.completed"]}, "event_types.0"),
        ({"enabled": True}, "enabled"),
    ],
)
async def test_body_that_is_invalid_names_the_field(product: Product, changes: Any, param: str) -> None:
    body = {"name": "billing", "url": URL, "event_types": [COMPLETED]} | changes
    response = await product.anna.request("POST", "/v1/webhook_endpoints", json=body)
    assert response.refusal == (400, "invalid_value")
    assert response.error["param"] == param


@pytest.mark.parametrize("missing", ["name", "url", "event_types"])
async def test_body_without_a_field_names_it(product: Product, missing: str) -> None:
    body: dict[str, Any] = {"name": "billing", "url": URL, "event_types": [COMPLETED]}
    del body[missing]
    response = await product.anna.request("POST", "/v1/webhook_endpoints", json=body)
    assert (response.refusal, response.error["param"]) == ((400, "missing_required_parameter"), missing)


@pytest.mark.parametrize("data", [b"{", b"[]", b"null", b'{"name": "\xff"}'])
async def test_body_that_is_no_object_is_refused(product: Product, data: bytes) -> None:
    response = await product.anna.request("POST", "/v1/webhook_endpoints", data=data)
    assert response.refusal == (400, "invalid_body")


async def test_body_that_is_empty_lacks_its_fields(product: Product) -> None:
    """A POST without a body is one for `rotate_secret`, whose fields are all optional."""
    response = await product.anna.request("POST", "/v1/webhook_endpoints")
    assert (response.refusal, response.error["param"]) == ((400, "missing_required_parameter"), "name")


async def test_body_that_is_too_large_is_refused(product: Product) -> None:
    response = await product.anna.request("POST", "/v1/webhook_endpoints", data=b'{"name": "' + b"a" * 70_000 + b'"}')
    assert response.refusal == (413, "request_too_large")


async def test_method_that_a_path_does_not_have_names_the_others(product: Product) -> None:
    async def allow(path: str) -> tuple[int, str]:
        response: Response = await product.anna.request("PATCH", path)
        return response.status, response.headers["allow"]

    assert await allow("/v1/webhook_endpoints") == (405, "GET, HEAD, POST")
    assert await allow(f"/v1/webhook_endpoints/{UNKNOWN}") == (405, "DELETE, GET, HEAD, POST")


async def test_caller_has_a_limited_number_of_endpoints(anna: openai.AsyncOpenAI, ben: openai.AsyncOpenAI) -> None:
    for _ in range(MAX_ENDPOINTS):
        await create(anna)
    with pytest.raises(openai.BadRequestError, match=str(MAX_ENDPOINTS)):
        await create(anna)
    await create(ben)


async def test_frontend_by_default_refuses_private_addresses(receiving: Receiver) -> None:
    """Registered while that was allowed, an endpoint is not sent to afterwards."""
    async with running_product() as product:
        for url in (receiving.url, "https://127.0.0.1/", "https://localhost/", "http://example.org/"):
            body = {"name": "billing", "url": url, "event_types": [COMPLETED]}
            response = await product.anna.request("POST", "/v1/webhook_endpoints", json=body)
            assert (response.refusal, response.error["param"]) == ((400, "invalid_value"), "url")
        async with client_of(product.anna, "anna-key-1") as client:
            endpoint = await create(client)
            server, name = product.log.server, "tailrace:{webhooks}:endpoints:anna"
            stored = await server.execute("HGET", name, endpoint.id)
            moved = stored.replace(URL.encode(), f"{receiving.url}/ok".encode())
            await server.execute("HSET", name, endpoint.id, moved)
            receiving.received.clear()
            with pytest.raises(openai.BadRequestError, match="no public address"):
                await client.webhooks.test(endpoint.id, event_type=COMPLETED)
    assert receiving.received == []
