from redis.asyncio import Redis

from tailrace import keys
from tailrace.model_names import MAX_NAME
from tailrace.queue import Queue
from tailrace.queue.models import EXPIRY_MS, MAX_MODELS


async def test_models_are_those_of_all_workers_in_the_order_of_the_upstream(queue: Queue) -> None:
    assert await queue.models.names() == []
    for worker in ("b", "a", "c"):
        await queue.presence.heartbeat(worker)
    await queue.models.report("b", ["qwen3:8b", "llama3.2"])
    await queue.models.report("a", ["llama3.2", "demo"])
    assert await queue.models.names() == ["llama3.2", "demo", "qwen3:8b"]
    await queue.models.report("a", ["demo"])
    assert await queue.models.names() == ["demo", "qwen3:8b", "llama3.2"]
    await queue.models.withdraw("a")
    assert await queue.models.names() == ["qwen3:8b", "llama3.2"]


async def test_models_expire_with_the_report(queue: Queue, redis: Redis) -> None:
    await queue.models.report("one", ["demo"])
    assert EXPIRY_MS - 5000 < await redis.pttl(keys.models("one")) <= EXPIRY_MS


async def test_models_are_bounded_in_number_and_length(queue: Queue) -> None:
    await queue.presence.heartbeat("one")
    await queue.models.report("one", ["", "x" * (MAX_NAME + 1), *(f"model-{i}" for i in range(MAX_MODELS + 1))])
    names = await queue.models.names()
    assert (names[0], len(names)) == ("model-0", MAX_MODELS)


async def test_failure_is_that_of_a_living_worker_until_it_stops(queue: Queue, redis: Redis) -> None:
    assert await queue.models.failure() == ""
    await queue.models.report_failure("one", "It refuses.")
    assert await queue.models.failure() == ""
    await queue.presence.heartbeat("one")
    assert await queue.models.failure() == "It refuses."
    assert EXPIRY_MS - 5000 < await redis.pttl(keys.models_failure("one")) <= EXPIRY_MS
    await queue.models.withdraw("one")
    assert await queue.models.failure() == ""
    await queue.models.report_failure("one", "It refuses.")
    await queue.models.report("one", [])
    assert await queue.models.failure() == ""
