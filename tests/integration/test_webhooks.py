"""Webhooks from the end of a generation to a receiver in a process of its own, verified by openai-python.

The log and the queue are on two servers. Each test has an endpoint of its own.
"""

import asyncio
import contextlib
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from support.api import Api, eventually
from support.logs import record as record_of
from support.queues import queue_on, submit
from support.stack import Stack, stack
from support.webhook_receiver import Received, ReceiverProcess
from tailrace import keys
from tailrace.events import Options
from tailrace.ids import new_generation_id
from tailrace.log import Log
from tailrace.redis.connection import connect
from tailrace.redis.server import RedisServer
from tailrace.webhooks.events import EVENT_TYPES
from tailrace_cli.embedded import EmbeddedServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNER = "open"
ANSWER: list[dict[str, Any]] = [{"delta": {"content": "Hi"}}, {"delta": {}, "finish_reason": "stop"}, {"done": True}]
CUT: list[dict[str, Any]] = [{"delta": {"content": "Hi"}}, {"delta": {}, "finish_reason": "length"}, {"done": True}]
REFUSED: list[dict[str, Any]] = [{"status": 400, "json": {"error": {"message": "No."}}}]
ENDLESS: list[dict[str, Any]] = [{"delta": {"content": "Hi"}}, {"hang": True}]


class Endpoint:
    """An endpoint at a path of the receiver, and what arrived there."""

    def __init__(self, product: "Product", endpoint: Any, path: str) -> None:
        self.id: str = endpoint.id
        self._secret: str = endpoint.signing_secret
        self._product = product
        self._path = path

    @property
    def received(self) -> list[Received]:
        return [each for each in self._product.receiver.received if each.path == self._path]

    def events(self) -> list[Any]:
        """What arrived, each verified and read by the SDK."""
        webhooks = self._product.sdk.webhooks
        return [webhooks.unwrap(each.body, each.headers, secret=self._secret) for each in self.received]

    async def wait_for(self, count: int) -> list[Received]:
        """Wait until so many requests arrived."""

        async def arrived() -> bool:
            return len(self.received) >= count

        await eventually(arrived)
        return self.received

    async def wait_until_nothing_waits(self) -> None:
        async def is_empty() -> bool:
            return not await self._product.redis.exists(keys.webhooks_due(self.id))

        await eventually(is_empty)

    async def make_due(self) -> None:
        """As if the pauses, or the claims of a dead worker, had passed."""
        name = keys.webhooks_due(self.id)
        for member in await self._product.redis.zrange(name, 0, -1):
            await self._product.redis.zadd(name, {member: 1}, xx=True)


class Product:
    def __init__(
        self, running: Stack, http: aiohttp.ClientSession, receiver: ReceiverProcess, queue_server: EmbeddedServer
    ) -> None:
        self.stack = running
        self.api = Api(http, running.url)
        self.receiver = receiver
        self.sdk = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        self.redis: Redis = connect(running.redis.url)
        self.queue_redis: Redis = connect(queue_server.url)
        self.log = Log(RedisServer(self.redis), 500)
        self.queue = queue_on(self.queue_redis)

    async def close(self) -> None:
        await self.sdk.close()
        await self.redis.aclose()
        await self.queue_redis.aclose()

    @contextlib.asynccontextmanager
    async def endpoint(self, kind: str = "ok", *event_types: str) -> AsyncIterator[Endpoint]:
        """An endpoint that answers as the kind of path does; it is deleted at the end of the block."""
        path = f"/{kind}/{uuid.uuid4().hex}"
        asked: Any = event_types or EVENT_TYPES
        created = await self.sdk.webhooks.create(name="test", url=self.receiver.url + path, event_types=list(asked))
        try:
            yield Endpoint(self, created, path)
        finally:
            await self.sdk.webhooks.delete(created.id)

    async def answered(self) -> str:
        """The id of a generation that a worker has completed."""
        generation_id = await self.api.create_scripted(*ANSWER)
        await self.api.wait_for_result(generation_id)
        return generation_id

    async def kill_workers(self) -> None:
        for worker in self.stack.workers:
            await worker.stop(signal.SIGKILL)

    async def start_workers(self) -> None:
        for worker in self.stack.workers:
            await worker.start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    folder: Path = tmp_path_factory.mktemp("webhooks")
    queue_server = EmbeddedServer(folder / "queue")
    queue_server.start()
    receiver = ReceiverProcess(free_port(), folder / "received")
    settings: dict[str, Any] = {"queue_url": queue_server.url, "lease_s": "0.5", "webhook_allow_private": "true"}
    try:
        await receiver.start()
        async with stack(workers=2, frontends=1, **settings) as running, aiohttp.ClientSession() as http:
            product = Product(running, http, receiver, queue_server)
            yield product
            await product.close()
            for process in (*running.workers, *running.frontends):
                assert "Traceback" not in process.output
                assert "whsec_" not in process.output
    finally:
        await receiver.stop()
        queue_server.stop()


@pytest.mark.parametrize(
    ("steps", "status"), [(ANSWER, "completed"), (CUT, "incomplete"), (REFUSED, "failed"), (ENDLESS, "cancelled")]
)
async def test_end_of_a_generation_reaches_its_receiver(product: Product, steps: list[Any], status: str) -> None:
    async with product.endpoint() as endpoint:
        generation_id = await product.api.create_scripted(*steps)
        if steps is ENDLESS:
            stream = await product.api.stream(generation_id)
            await stream.until_text("Hi")
            await product.api.cancel(generation_id)
            await stream.rest()
        await endpoint.wait_for(1)
        (event,) = endpoint.events()
        assert (event.type, event.object, event.data.id) == (f"generation.{status}", "event", generation_id)
        assert (await product.api.get(generation_id)).value["status"] == status
        await endpoint.wait_until_nothing_waits()
        assert len(endpoint.received) == 1


async def test_end_of_a_background_response_reaches_its_receiver(product: Product) -> None:
    record = record_of(
        id=new_generation_id(), owner=OWNER, model="scripted", background=True, options=Options(600, 600)
    )
    request = {"model": "scripted", "script": ANSWER, "messages": [{"role": "user", "content": "?"}]}
    async with product.endpoint("ok", "response.completed") as endpoint:
        await submit(product.log, product.queue, record, request)
        await endpoint.wait_for(1)
        (event,) = endpoint.events()
        assert event.type == "response.completed"
        assert event.data.id == "resp_" + record.id.removeprefix("gen_")


async def test_endpoints_get_what_they_ask_for(product: Product) -> None:
    async with (
        product.endpoint("ok", "generation.completed") as asking,
        product.endpoint("ok", "generation.failed", "response.completed") as other,
    ):
        generation_id = await product.answered()
        await asking.wait_for(1)
        assert [event.data.id for event in asking.events()] == [generation_id]
        assert other.received == []


async def test_generations_at_once_are_each_delivered_once(product: Product) -> None:
    async with product.endpoint() as endpoint:
        ids = await asyncio.gather(*(product.answered() for _ in range(50)))
        await endpoint.wait_for(50)
        await endpoint.wait_until_nothing_waits()
        assert Counter(event.data.id for event in endpoint.events()) == Counter(ids)
        assert len({each.webhook_id for each in endpoint.received}) == 50


async def test_cancel_that_races_with_the_end_is_one_webhook(product: Product) -> None:
    async with product.endpoint() as endpoint:

        async def race() -> str:
            generation_id = await product.api.create_scripted({"tokens": {"count": 5, "rate": 200}}, *ANSWER)
            await asyncio.sleep(0.01)
            await asyncio.gather(*(product.api.cancel(generation_id) for _ in range(2)))
            return generation_id

        ids = [await race() for _ in range(20)]
        await endpoint.wait_for(len(ids))
        await endpoint.wait_until_nothing_waits()
        types = {event.data.id: event.type for event in endpoint.events()}
        assert types.keys() == {*ids}
        assert len(endpoint.received) == len(ids)
        for generation_id in ids:
            status = (await product.api.get(generation_id)).value["status"]
            assert types[generation_id] == f"generation.{status}"


# Failures


async def test_receiver_that_refuses_gets_the_same_webhook_again(product: Product) -> None:
    """In real time: a sweeper enqueues the job once the first pause has passed."""
    async with product.endpoint("fail/1") as endpoint:
        await product.answered()
        first, second = await endpoint.wait_for(2)
        assert first.webhook_id == second.webhook_id
        assert first.body == second.body
        assert int(first.headers["webhook-timestamp"]) + 3 <= int(second.headers["webhook-timestamp"])
        assert len(endpoint.events()) == 2
        await endpoint.wait_until_nothing_waits()


async def test_receiver_that_was_down_gets_its_webhooks_when_it_is_back(product: Product) -> None:
    async with product.endpoint() as endpoint:
        await product.receiver.stop()
        ids = [await product.answered() for _ in range(3)]
        await product.receiver.start()
        await endpoint.make_due()
        await endpoint.wait_for(3)
        assert {event.data.id for event in endpoint.events()} == {*ids}
        await endpoint.wait_until_nothing_waits()


async def test_worker_that_is_killed_during_a_delivery_is_replaced(product: Product) -> None:
    async with product.endpoint("silent") as endpoint:
        await product.answered()
        await endpoint.wait_for(1)
        await product.kill_workers()
        await endpoint.make_due()
        await product.start_workers()
        first, second = await endpoint.wait_for(2)
        assert first.webhook_id == second.webhook_id
        assert len(endpoint.events()) == 2


async def test_end_without_workers_is_delivered_by_the_next_one(product: Product) -> None:
    async with product.endpoint() as endpoint:
        await product.kill_workers()
        generation_id = await product.api.create()
        assert (await product.api.cancel(generation_id)).value["status"] == "cancelled"
        await product.queue_redis.flushall()
        await product.start_workers()
        await endpoint.wait_for(1)
        assert [(event.type, event.data.id) for event in endpoint.events()] == [("generation.cancelled", generation_id)]


async def test_queue_that_was_flushed_loses_no_webhook(product: Product) -> None:
    async with product.endpoint() as endpoint:
        await product.receiver.stop()
        ids = [await product.answered() for _ in range(3)]
        await product.queue_redis.flushall()
        later = await product.answered()
        await product.receiver.start()
        await endpoint.make_due()
        await endpoint.wait_for(4)
        assert {event.data.id for event in endpoint.events()} == {*ids, later}


async def test_log_that_went_back_delivers_again_under_the_same_id(product: Product) -> None:
    async with product.endpoint("fail/1") as endpoint:
        await product.answered()
        await endpoint.wait_for(1)
        names = await product.redis.keys(f"*:{endpoint.id}") + [keys.WEBHOOKS_PENDING]
        before = {name: await product.redis.dump(name) for name in names}
        await endpoint.make_due()
        await endpoint.wait_until_nothing_waits()
        for name, value in before.items():
            await product.redis.restore(name, 0, value, replace=True)
        await endpoint.make_due()
        received = await endpoint.wait_for(3)
        assert len({(each.webhook_id, each.body) for each in received}) == 1


async def test_rotation_between_two_tries_signs_the_second_with_the_new_secret(product: Product) -> None:
    async with product.endpoint("fail/1") as endpoint:
        await product.answered()
        await endpoint.wait_for(1)
        secret = (await product.sdk.webhooks.rotate_secret(endpoint.id)).signing_secret
        await endpoint.make_due()
        _, second = await endpoint.wait_for(2)
        assert product.sdk.webhooks.unwrap(second.body, second.headers, secret=secret).object == "event"


async def test_endpoint_that_was_deleted_gets_no_further_try(product: Product) -> None:
    async with product.endpoint("status/500") as endpoint:
        await product.answered()
        await endpoint.wait_for(1)
    assert not [name for name in await product.redis.keys("*whe_*") if endpoint.id.encode() in name]
    await product.answered()
    assert len(endpoint.received) == 1
