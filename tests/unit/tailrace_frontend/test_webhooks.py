"""The operations on webhook endpoints without HTTP, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from redis.asyncio import Redis

from support.webhook_receiver import receiver
from tailrace import keys
from tailrace.errors import IdempotencyKeyReused, InvalidValue, NotFound, WebhookUnreachable
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace.webhooks import CreationKey, Endpoint, EndpointRef, Outbox
from tailrace_frontend.webhooks import Webhooks

URL = "https://example.org/hook"
UNKNOWN = EndpointRef("anna", "whe_" + "a" * 26)


@pytest.fixture
async def webhooks(log: Log) -> AsyncIterator[Webhooks]:
    webhooks = Webhooks(Settings(webhook_allow_private=True), log)
    yield webhooks
    await webhooks.close()


async def create(webhooks: Webhooks, url: str = URL) -> tuple[EndpointRef, Endpoint]:
    endpoint = await webhooks.create("anna", "billing", url, ["response.completed"])
    return EndpointRef("anna", endpoint.id), endpoint


async def test_list_continues_after_any_endpoint(webhooks: Webhooks) -> None:
    ids: list[str] = []
    for _ in range(5):
        ids.insert(0, (await create(webhooks))[0].id)
        await asyncio.sleep(0.002)

    async def page(limit: int, after: str | None) -> tuple[list[str], bool]:
        found, has_more = await webhooks.list("anna", limit, after)
        return [each.id for each in found], has_more

    assert await page(2, None) == (ids[:2], True)
    assert await page(2, ids[1]) == (ids[2:4], True)
    assert await page(2, ids[3]) == (ids[4:], False)
    assert await page(2, ids[4]) == ([], False)
    assert await page(5, None) == (ids, False)
    assert await page(5, UNKNOWN.id) == ([], False)


async def test_repeated_registration_gets_the_endpoint_of_the_first_one(webhooks: Webhooks) -> None:
    fields = ("anna", "billing", URL, ["response.completed"])
    for key in (CreationKey("chosen", is_given=True), CreationKey("of the body")):
        first = await webhooks.create(*fields, key)
        assert await webhooks.create(*fields, key) == first
        rotated = await webhooks.rotate_secret(EndpointRef("anna", first.id), keep_old=False)
        assert await webhooks.create(*fields, key) == rotated


async def test_key_that_comes_with_other_fields_is_refused(webhooks: Webhooks) -> None:
    key = CreationKey("chosen", is_given=True)
    first = await webhooks.create("anna", "billing", URL, ["response.completed"], key)
    for other in (("payments", URL, ["response.completed"]), ("billing", URL + "/2", ["response.completed"])):
        with pytest.raises(IdempotencyKeyReused):
            await webhooks.create("anna", *other, key)
    assert await webhooks.list("anna", 20, None) == ([first], False)


async def test_endpoint_that_was_changed_is_not_the_one_that_a_repetition_registers(webhooks: Webhooks) -> None:
    fields, key = ("anna", "billing", URL, ["response.completed"]), CreationKey("of the body")
    first = await webhooks.create(*fields, key)
    await webhooks.update(EndpointRef("anna", first.id), {"url": URL + "/2"})
    second = await webhooks.create(*fields, key)
    assert second.id != first.id
    assert await webhooks.create(*fields, key) == second


async def test_update_advances_its_time_only_where_it_changes_something(webhooks: Webhooks) -> None:
    ref, endpoint = await create(webhooks)
    await asyncio.sleep(0.002)
    for same in ({}, {"name": "billing"}, {"url": URL, "event_types": ["response.completed"]}):
        assert await webhooks.update(ref, same) == endpoint
    changed = await webhooks.update(ref, {"name": "payments"})
    assert changed.updated > endpoint.updated
    assert changed.created == endpoint.created
    assert await webhooks.get(ref) == changed


async def test_url_is_checked_when_it_is_given(log: Log) -> None:
    webhooks = Webhooks(Settings(), log)
    ref, endpoint = await create(webhooks)
    for call in (create(webhooks, "http://example.org/"), webhooks.update(ref, {"url": "https://127.0.0.1/"})):
        with pytest.raises(InvalidValue):
            await call
    assert await webhooks.list("anna", 20, None) == ([endpoint], False)


async def test_endpoint_that_does_not_exist_is_not_found(webhooks: Webhooks) -> None:
    calls: list[Any] = [
        webhooks.get(UNKNOWN), webhooks.update(UNKNOWN, {"name": "x"}), webhooks.delete(UNKNOWN),
        webhooks.rotate_secret(UNKNOWN, keep_old=False), webhooks.sample(UNKNOWN, "response.completed"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(NotFound):
            await call


async def test_deletion_takes_what_waits_with_it(webhooks: Webhooks, log: Log, redis: Redis) -> None:
    ref, _ = await create(webhooks)
    await Outbox(log.server).add(ref, "wh_1", b"{}", 60)
    await webhooks.delete(ref)
    assert await redis.keys() == [keys.webhook_known("wh_1").encode()]


async def test_sample_is_signed_by_every_valid_secret(webhooks: Webhooks) -> None:
    sdk = openai.OpenAI(api_key="none")
    async with receiver() as receiving:
        ref, first = await create(webhooks, f"{receiving.url}/status/202")
        second = await webhooks.rotate_secret(ref, keep_old=True)
        assert await webhooks.send(await webhooks.sample(ref, "generation.failed")) == 202
        (received,) = receiving.received
    assert received.event["type"] == "generation.failed"
    for endpoint in (first, second):
        sdk.webhooks.verify_signature(received.body, received.headers, secret=endpoint.secret)


async def test_sample_that_is_not_answered_is_an_error_with_the_reason(webhooks: Webhooks) -> None:
    ref, _ = await create(webhooks, "http://127.0.0.1:9/")
    sample = await webhooks.sample(ref, "response.completed")
    with pytest.raises(WebhookUnreachable, match="Connect call failed") as unreachable:
        await webhooks.send(sample)
    assert unreachable.value.status == 400
