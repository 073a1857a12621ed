"""Deliveries from the outbox to a receiver on loopback. Time passes by writing when a webhook is due."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec
import openai
import pytest
from redis.asyncio import Redis

from support.hub_harness import until
from support.webhook_receiver import Received, Receiver, receiver
from tailrace import keys
from tailrace.errors import RedisFull, RedisUnavailable
from tailrace.redis.server import RedisServer
from tailrace.webhooks import Endpoint, EndpointRef, Endpoints, Outbox, Sender, Unreachable
from tailrace.webhooks.events import EVENT_TYPES
from tailrace_worker.webhook_delivery import (
    AT_ONCE,
    ENDPOINTS_AT_ONCE,
    FIRST_PAUSE_S,
    JITTER,
    LONGEST_PAUSE_S,
    RETRIED_S,
    WebhookDelivery,
    pause_after,
)

SDK = openai.OpenAI(api_key="none")
OWNER = "anna"


class Harness:
    """One worker's deliveries, and a receiver."""

    def __init__(self, redis: Redis, receiver: Receiver) -> None:
        self.redis, self.receiver = redis, receiver
        self.server = RedisServer(redis)
        self.endpoints, self.outbox = Endpoints(self.server), Outbox(self.server)
        self.delivery = WebhookDelivery(self.server, Sender(allow_private=True, timeout_s=0.5))

    async def add_endpoint(self, path: str = "/ok") -> EndpointRef:
        endpoint = await self.endpoints.add(OWNER, "billing", self.receiver.url + path, list(EVENT_TYPES))
        return EndpointRef(OWNER, endpoint.id)

    async def endpoint(self, ref: EndpointRef) -> Endpoint:
        return await self.endpoints.get(ref)

    async def note(self, ref: EndpointRef, *names: str, age_s: float = 0) -> None:
        """Note a webhook under each id, of an event that is so old."""
        created_at = await self.server.now() // 1000 - int(age_s)
        for name in names:
            event = {"type": "response.completed", "created_at": created_at, "data": {"id": "resp_1"}}
            await self.outbox.add(ref, name, json.dumps(event).encode(), 60)

    async def deliver(self, ref: EndpointRef) -> None:
        """Deliver until nothing is due."""
        self.delivery.start(ref)
        async with asyncio.timeout(10):
            await asyncio.gather(*self.delivery._running.values())

    async def due_in(self, ref: EndpointRef, name: str) -> float | None:
        """Seconds until the webhook is due; None: it does not wait."""
        due = await self.redis.zscore(keys.webhooks_due(ref.id), name)
        return None if due is None else (due - await self.server.now()) / 1000

    async def make_due(self, ref: EndpointRef) -> None:
        """As if the pauses had passed."""
        name = keys.webhooks_due(ref.id)
        if waiting := await self.redis.zrange(name, 0, -1):
            await self.redis.zadd(name, dict.fromkeys(waiting, 1))


@pytest.fixture
async def harness(redis: Redis) -> AsyncIterator[Harness]:
    async with receiver() as receiving:
        harness = Harness(redis, receiving)
        yield harness
        await harness.delivery.close()


def unwrapped(received: Received, secret: str) -> Any:
    """The event, as the receiver's SDK verifies and reads it."""
    return SDK.webhooks.unwrap(received.body, received.headers, secret=secret)


async def test_webhook_is_delivered_once_and_signed(harness: Harness) -> None:
    ref = await harness.add_endpoint()
    await harness.note(ref, "wh_1")
    for _ in range(2):
        await harness.deliver(ref)
    (received,) = harness.receiver.received
    assert received.webhook_id == "wh_1"
    event = unwrapped(received, (await harness.endpoint(ref)).secret)
    assert (event.type, event.data.id) == ("response.completed", "resp_1")
    assert await harness.due_in(ref, "wh_1") is None


async def test_webhook_carries_a_signature_of_each_valid_secret(harness: Harness) -> None:
    ref = await harness.add_endpoint()
    old = await harness.endpoint(ref)
    new = await harness.endpoints.change(ref, lambda each: each.rotated(each.updated, keep_old=True))
    await harness.note(ref, "wh_1")
    await harness.deliver(ref)
    (received,) = harness.receiver.received
    assert len(received.headers["webhook-signature"].split(" ")) == 2
    for secret in (old.secret, new.secret):
        assert unwrapped(received, secret).data.id == "resp_1"


async def test_webhook_that_is_refused_is_tried_again_under_the_same_id(harness: Harness) -> None:
    ref = await harness.add_endpoint("/fail/2")
    await harness.note(ref, "wh_1")
    for n in range(1, 4):
        await harness.deliver(ref)
        assert [each.webhook_id for each in harness.receiver.received] == ["wh_1"] * n
        await harness.make_due(ref)
    secret = (await harness.endpoint(ref)).secret
    assert {unwrapped(each, secret).data.id for each in harness.receiver.received} == {"resp_1"}
    assert len({each.body for each in harness.receiver.received}) == 1
    assert await harness.due_in(ref, "wh_1") is None


async def test_each_try_has_a_new_timestamp(harness: Harness) -> None:
    """A receiver refuses one that is five minutes old."""
    ref = await harness.add_endpoint("/fail/1")
    await harness.note(ref, "wh_1", age_s=1000)
    await harness.deliver(ref)
    await asyncio.sleep(1.1)
    await harness.make_due(ref)
    await harness.deliver(ref)
    first, second = (int(each.headers["webhook-timestamp"]) for each in harness.receiver.received)
    assert first < second
    assert abs(second - await harness.server.now() / 1000) < 5


@pytest.mark.parametrize("path", ["/status/500", "/status/404", "/status/429", "/redirect", "/silent"])
async def test_whatever_is_no_2xx_is_tried_again_after_a_pause(harness: Harness, path: str) -> None:
    ref = await harness.add_endpoint(path)
    await harness.note(ref, "wh_1")
    await harness.deliver(ref)
    pause_s = await harness.due_in(ref, "wh_1")
    assert pause_s is not None
    assert FIRST_PAUSE_S * (1 - JITTER) - 2 < pause_s <= FIRST_PAUSE_S * (1 + JITTER)
    assert harness.receiver.paths == [path]


async def test_receiver_that_is_down_gets_its_webhooks_when_it_is_back(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await harness.add_endpoint()
    await harness.note(ref, "wh_1")
    with monkeypatch.context() as down:
        down.setattr(harness.delivery._sender, "send", raising(Unreachable("it does not listen")))
        await harness.deliver(ref)
    assert harness.receiver.received == []
    await harness.make_due(ref)
    await harness.deliver(ref)
    assert [each.webhook_id for each in harness.receiver.received] == ["wh_1"]


async def test_receiver_that_wants_no_more_ends_the_webhook(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    ref = await harness.add_endpoint("/status/410")
    await harness.note(ref, "wh_1")
    await harness.deliver(ref)
    assert await harness.due_in(ref, "wh_1") is None
    assert "webhook wh_1 is given up after 1 tries: status 410" in caplog.messages


@pytest.mark.parametrize(("left_s", "is_kept"), [(3600, True), (2, True), (0, False), (-3600, False)])
async def test_webhook_is_tried_for_72_hours(
    harness: Harness, caplog: pytest.LogCaptureFixture, left_s: float, is_kept: bool
) -> None:
    assert RETRIED_S == 72 * 3600
    ref = await harness.add_endpoint("/status/500")
    await harness.note(ref, "wh_1", age_s=RETRIED_S - left_s)
    await harness.deliver(ref)
    assert len(harness.receiver.received) == 1, "also where no worker ran before"
    due_in = await harness.due_in(ref, "wh_1")
    assert (due_in is not None) == is_kept
    assert due_in is None or due_in <= left_s, "the last try is at the end of them"
    assert ("webhook wh_1 is given up after 1 tries: status 500" in caplog.messages) == (not is_kept)


def test_pauses_double_up_to_six_hours() -> None:
    for tries in (1, 2, 3, 8, 13, 14, 40, 5000):
        expected = float(min(FIRST_PAUSE_S * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S))
        pauses = [pause_after(tries) for _ in range(200)]
        assert expected * (1 - JITTER) <= min(pauses) < expected < max(pauses) <= expected * (1 + JITTER)
    assert LONGEST_PAUSE_S == 6 * 3600


def test_tries_of_72_hours_are_so_many() -> None:
    at_s, tries = 0.0, 1
    while (at_s := at_s + min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S)) < RETRIED_S:
        tries += 1
    assert tries == 24


async def test_endpoint_that_was_deleted_gets_nothing(harness: Harness) -> None:
    ref = await harness.add_endpoint()
    await harness.note(ref, "wh_1", "wh_2")
    await harness.endpoints.remove(ref)
    await harness.deliver(ref)
    assert harness.receiver.received == []
    assert not [name for name in await harness.redis.keys() if ref.id.encode() in name]


async def test_url_that_was_changed_gets_what_waits(harness: Harness) -> None:
    ref = await harness.add_endpoint("/status/500")
    await harness.note(ref, "wh_1")
    await harness.deliver(ref)
    url = f"{harness.receiver.url}/ok"
    await harness.endpoints.change(ref, lambda each: msgspec.structs.replace(each, url=url))
    await harness.make_due(ref)
    await harness.deliver(ref)
    assert harness.receiver.paths == ["/status/500", "/ok"]


# Many at once


async def test_many_webhooks_are_sent_a_few_at_a_time(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = most = 0
    names = [f"wh_{n}" for n in range(5 * AT_ONCE)]
    sent: Counter[str] = Counter()

    async def send(_: str, __: str, headers: Mapping[str, str], ___: bytes) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        sent[headers["webhook-id"]] += 1
        return 200

    monkeypatch.setattr(harness.delivery._sender, "send", send)
    ref = await harness.add_endpoint()
    await harness.note(ref, *names)
    await harness.deliver(ref)
    assert most == AT_ONCE
    assert sent == Counter(names)


async def test_receiver_that_does_not_answer_delays_no_other(harness: Harness) -> None:
    silent = [await harness.add_endpoint("/silent") for _ in range(3)]
    quick = await harness.add_endpoint()
    for ref in (*silent, quick):
        await harness.note(ref, *(f"wh_{ref.id}_{n}" for n in range(2 * AT_ONCE)))
    for ref in silent:
        harness.delivery.start(ref)
    harness.delivery.start(quick)
    await until(lambda: harness.receiver.paths.count("/ok") == 2 * AT_ONCE)
    assert harness.delivery._running.keys() >= {*silent}


async def test_endpoints_beyond_the_limit_wait_for_a_turn(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, sending = asyncio.Event(), Counter[str]()

    async def send(_: str, url: str, *__: Any) -> int:
        sending[url] += 1
        await finish.wait()
        return 200

    monkeypatch.setattr(harness.delivery._sender, "send", send)
    refs = []
    for n in range(ENDPOINTS_AT_ONCE + 2):
        endpoint = await harness.endpoints.add(f"owner-{n}", "billing", f"http://127.0.0.1/{n}", list(EVENT_TYPES))
        refs.append(EndpointRef(f"owner-{n}", endpoint.id))
        await harness.note(refs[-1], f"wh_{n}")
    for ref in refs:
        harness.delivery.start(ref)
    await until(lambda: len(sending) == ENDPOINTS_AT_ONCE)
    await asyncio.sleep(0.05)
    assert len(sending) == ENDPOINTS_AT_ONCE
    finish.set()
    await until(lambda: not harness.delivery._running)
    assert len(sending) == len(refs)


async def test_endpoint_is_served_by_one_task(harness: Harness) -> None:
    ref = await harness.add_endpoint("/silent")
    await harness.note(ref, "wh_1")
    for _ in range(3):
        harness.delivery.start(ref)
    assert len(harness.delivery._running) == 1


# Failures


def raising(error: Exception) -> Callable[..., Any]:
    async def call(*_: Any) -> Any:
        raise error

    return call


@pytest.mark.parametrize("error", [RedisUnavailable(), RedisFull(), ValueError("a defect")])
async def test_error_of_redis_ends_the_task_and_leaves_the_webhook(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    ref = await harness.add_endpoint()
    await harness.note(ref, "wh_1")
    with monkeypatch.context() as failing:
        failing.setattr(harness.delivery._outbox, "remove", raising(error))
        await harness.deliver(ref)
    assert any(message.startswith(f"webhooks of {ref.id}") for message in caplog.messages)
    assert await harness.due_in(ref, "wh_1") is not None
    await harness.make_due(ref)
    await harness.deliver(ref)
    assert [each.webhook_id for each in harness.receiver.received] == ["wh_1"] * 2


async def test_refused_webhooks_are_logged_without_the_url_and_the_body(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ref = await harness.add_endpoint("/status/500?token=secret")
    await harness.note(ref, "wh_1", "wh_2")
    await harness.deliver(ref)
    assert f"webhooks of {ref.id}: 2 of 2 not accepted: status 500" in caplog.messages
    assert "secret" not in caplog.text
    assert "resp_1" not in caplog.text


async def test_answer_that_is_not_http_is_logged_without_the_url_and_the_answer(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nsecret answer\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret?token=secret"
        ref = await harness.add_endpoint()
        await harness.endpoints.change(ref, lambda each: msgspec.structs.replace(each, url=url))
        await harness.note(ref, "wh_1")
        await harness.note(ref, "wh_2", age_s=RETRIED_S + 1)
        await harness.deliver(ref)
    assert f"webhooks of {ref.id}: 2 of 2 not accepted: ClientResponseError" in caplog.messages
    assert "webhook wh_2 is given up after 1 tries: ClientResponseError" in caplog.messages
    assert "secret" not in caplog.text


# The worker stops


async def test_drain_finishes_the_tries_under_way_and_begins_no_other(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, sent = asyncio.Event(), 0

    async def send(*_: Any) -> int:
        nonlocal sent
        sent += 1
        await finish.wait()
        return 200

    monkeypatch.setattr(harness.delivery._sender, "send", send)
    ref = await harness.add_endpoint()
    await harness.note(ref, *(f"wh_{n}" for n in range(2 * AT_ONCE)))
    harness.delivery.start(ref)
    await until(lambda: sent == AT_ONCE)
    draining = asyncio.create_task(harness.delivery.drain(5))
    await asyncio.sleep(0)
    finish.set()
    await draining
    assert sent == AT_ONCE
    assert await harness.redis.zcard(keys.webhooks_due(ref.id)) == AT_ONCE
    harness.delivery.start(ref)
    assert not harness.delivery._running


async def test_drain_waits_no_longer_than_asked(harness: Harness) -> None:
    ref = await harness.add_endpoint("/silent")
    await harness.note(ref, "wh_1")
    harness.delivery.start(ref)
    await until(lambda: harness.receiver.received)
    async with asyncio.timeout(0.4):  # less than the sender's timeout
        await harness.delivery.drain(0.05)
    await harness.delivery.close()
    assert await harness.due_in(ref, "wh_1") is not None
