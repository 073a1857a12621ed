import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from tailrace import keys
from tailrace.webhooks import EndpointRef, Outbox
from tailrace.webhooks import outbox as outbox_module

REF, OTHER = EndpointRef("anna", "whe_1"), EndpointRef("ben", "whe_2")
BODY = b'{"type":"response.completed","created_at":1}'


async def claimed(outbox: Outbox, ref: EndpointRef = REF, count: int = 10) -> list[tuple[str, int]]:
    """Ids and tries of what a worker claims."""
    return [(each.id, each.tries) for each in await outbox.claim(ref, count)]


async def expire_claims(redis: Redis, ref: EndpointRef = REF) -> None:
    """As if `CLAIM_S` had passed."""
    name = keys.webhooks_due(ref.id)
    for member in await redis.zrange(name, 0, -1):
        await redis.zadd(name, {member: 1})


async def test_webhook_is_due_at_once_with_its_body(outbox: Outbox) -> None:
    assert await outbox.add(REF, "wh_1", BODY, 60)
    assert await outbox.due() == [REF]
    (webhook,) = await outbox.claim(REF, 10)
    assert (webhook.id, webhook.body, webhook.tries) == ("wh_1", BODY, 1)
    assert abs(webhook.now - await outbox._server.now()) < 5000


async def test_webhook_that_is_known_is_not_noted_again(redis: Redis, outbox: Outbox) -> None:
    assert await outbox.add(REF, "wh_1", BODY, 60)
    assert not await outbox.add(REF, "wh_1", BODY, 60)
    await outbox.claim(REF, 10)
    await outbox.remove(REF, "wh_1")
    assert not await outbox.add(REF, "wh_1", BODY, 60), "it has been delivered"
    assert await claimed(outbox) == []
    assert 0 < await redis.pttl(keys.webhook_known("wh_1")) <= 60_000


async def test_webhook_that_is_claimed_is_due_for_no_other_worker(outbox: Outbox) -> None:
    for n in range(5):
        await outbox.add(REF, f"wh_{n}", BODY, 60)
    pages = await asyncio.gather(*(claimed(outbox, count=2) for _ in range(4)))
    assert sorted(each for page in pages for each in page) == [(f"wh_{n}", 1) for n in range(5)]
    assert await outbox.due() == []


async def test_webhook_of_a_worker_that_died_is_due_again_and_the_try_counts(redis: Redis, outbox: Outbox) -> None:
    await outbox.add(REF, "wh_1", BODY, 60)
    await outbox.claim(REF, 10)
    await expire_claims(redis)
    assert await outbox.due() == [REF]
    assert await claimed(outbox) == [("wh_1", 2)]


async def test_webhook_that_was_deferred_is_due_then(outbox: Outbox) -> None:
    await outbox.add(REF, "wh_1", BODY, 60)
    (webhook,) = await outbox.claim(REF, 10)
    await outbox.defer(REF, "wh_1", webhook.now + 60_000)
    assert (await outbox.due(), await claimed(outbox)) == ([], [])
    await outbox.defer(REF, "wh_1", webhook.now)
    assert (await outbox.due(), await claimed(outbox)) == ([REF], [("wh_1", 2)])


async def test_endpoint_without_webhooks_leaves_nothing_behind(redis: Redis, outbox: Outbox) -> None:
    await outbox.add(REF, "wh_1", BODY, 60)
    await outbox.claim(REF, 10)
    await outbox.remove(REF, "wh_1")
    assert await claimed(outbox) == []
    await outbox.defer(REF, "wh_1", 1)
    assert await redis.keys() == [keys.webhook_known("wh_1").encode()]


async def test_endpoint_that_is_forgotten_leaves_nothing_behind(redis: Redis, outbox: Outbox) -> None:
    for n in range(3):
        await outbox.add(REF, f"wh_{n}", BODY, 60)
    await outbox.add(OTHER, "wh_of_ben", BODY, 60)
    (webhook, *_) = await outbox.claim(REF, 1)
    await outbox.forget(REF)
    await outbox.defer(REF, webhook.id, 1)
    assert await outbox.due() == [OTHER]
    assert [name for name in await redis.keys() if b"whe_1" in name] == []


async def test_endpoint_that_accepts_nothing_keeps_so_many_webhooks(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_WAITING", 2)
    caplog.set_level(logging.WARNING)
    assert [await outbox.add(REF, f"wh_{n}", BODY, 60) for n in range(3)] == [True, True, False]
    assert "webhook wh_2 is dropped: 2 wait at endpoint whe_1" in caplog.messages
    assert await outbox.add(OTHER, "wh_2", BODY, 60), "the other endpoint has room"


async def test_webhook_is_noted_and_claimed_on_a_server_without_room(
    outbox: Outbox, fill_memory: Callable[[], Awaitable[None]]
) -> None:
    await fill_memory()
    assert await outbox.add(REF, "wh_1", BODY, 60)
    assert await claimed(outbox) == [("wh_1", 1)]
    await outbox.remove(REF, "wh_1")
    assert await claimed(outbox) == []
    assert await outbox.claim_sweep(1000), "each process sweeps then"


async def test_one_process_sweeps_in_a_period(outbox: Outbox) -> None:
    assert [await outbox.claim_sweep(100) for _ in range(3)] == [True, False, False]
    await asyncio.sleep(0.15)
    assert await outbox.claim_sweep(100)
