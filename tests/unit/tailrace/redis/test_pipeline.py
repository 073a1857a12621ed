"""One shared connection: replies in order, errors as values, and the loss of the connection."""

import asyncio
import random
import re

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from system.injectors import link
from tailrace.redis import pipeline as pipeline_module
from tailrace.redis.connection import connect
from tailrace.redis.pipeline import Pipeline
from tailrace_cli.embedded import EmbeddedServer


@pytest.fixture
def pipeline(redis: Redis) -> Pipeline:
    return Pipeline(redis)


async def test_concurrent_callers_get_their_own_replies(pipeline: Pipeline) -> None:
    batches = [[("ECHO", f"{caller}-{i}") for i in range(caller % 7 + 1)] for caller in range(200)]
    replies = await asyncio.gather(*map(pipeline.execute, batches))
    assert replies == [[text.encode() for _, text in batch] for batch in batches]


async def test_error_is_the_reply_of_its_own_command(pipeline: Pipeline) -> None:
    first, error, last = await pipeline.execute([("ECHO", "a"), ("XADD", "k"), ("ECHO", "b")])
    assert (first, last) == (b"a", b"b")
    assert isinstance(error, ResponseError)


async def test_cancelled_caller_takes_no_other_replies(pipeline: Pipeline) -> None:
    await pipeline.execute([("PING",)])
    cancelled = asyncio.create_task(pipeline.execute([("ECHO", "a")]))
    other = asyncio.create_task(pipeline.execute([("ECHO", "b")]))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await other == [b"b"]


async def test_lost_connection_fails_every_waiting_call_and_is_replaced(pipeline: Pipeline, redis: Redis) -> None:
    await pipeline.execute([("PING",)])
    waiting = [asyncio.create_task(pipeline.execute([("BLPOP", "nothing", 60)])) for _ in range(3)]
    while not (await redis.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.01)
    blocked = re.findall(rb"id=(\d+) .* cmd=blpop", await redis.execute_command("CLIENT", "LIST"))
    await redis.client_kill_filter(_id=blocked[0].decode())
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, RedisConnectionError)
    assert await pipeline.execute([("ECHO", "a")]) == [b"a"]


async def test_batches_of_one_turn_write_nothing_after_the_connection_is_lost(
    pipeline: Pipeline, valkey: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server closes the connection between two turns: the second write fails, and the others follow in its turn."""
    [own] = await pipeline.execute([("CLIENT", "ID")])
    waiting = [asyncio.create_task(pipeline.execute([("ECHO", "a")])) for _ in range(20)]
    with BlockingRedis.from_url(valkey.url) as blocking:  # the loop does not run meanwhile
        blocking.client_kill_filter(_id=str(own))
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, RedisConnectionError)
    assert [record.message for record in caplog.records] == []


async def test_connection_that_swallows_everything_is_given_up(
    valkey: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "COMMAND_TIMEOUT_S", 0.3)
    async with link(valkey.port, random.Random()) as line, connect(f"redis://127.0.0.1:{line.port}/0") as redis:
        pipeline = Pipeline(redis)
        await pipeline.execute([("PING",)])
        line.black_hole = True
        waiting = [pipeline.execute([("ECHO", "a")]) for _ in range(2)]
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, RedisTimeoutError | RedisConnectionError)
        line.black_hole = False
        assert await pipeline.execute([("ECHO", "b")]) == [b"b"]


async def test_connection_that_no_call_uses_is_closed_and_opened_again(pipeline: Pipeline, redis: Redis) -> None:
    (before,) = await pipeline.execute([("CLIENT", "ID")])
    pipeline.close_unused(60)
    assert await pipeline.execute([("CLIENT", "ID")]) == [before]
    waiting = asyncio.create_task(pipeline.execute([("BLPOP", "list", 60)]))
    await asyncio.sleep(0)
    pipeline.close_unused(0)
    await redis.rpush("list", "a")  # type: ignore[misc]
    assert await waiting == [[b"list", b"a"]]
    pipeline.close_unused(0)
    (after,) = await pipeline.execute([("CLIENT", "ID")])
    assert after != before


async def test_callers_share_an_attempt_to_connect_that_began_after_their_call(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = list[asyncio.Future[None]]()

    async def get_connection() -> None:
        attempts.append(asyncio.get_running_loop().create_future())
        await attempts[-1]

    monkeypatch.setattr(pipeline._pool, "get_connection", get_connection)
    first = asyncio.create_task(pipeline.execute([("PING",)]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(pipeline.execute([("PING",)])) for _ in range(50)]
    await asyncio.sleep(0)
    for number in range(2):
        attempts[number].set_exception(RedisConnectionError(f"attempt {number}"))
        await asyncio.wait([first] if number == 0 else others)
    errors = await asyncio.gather(first, *others, return_exceptions=True)
    assert [str(error) for error in errors] == ["attempt 0"] + 50 * ["attempt 1"]
    assert len(attempts) == 2


async def test_caller_whose_attempt_is_cancelled_leaves_the_next_one_to_another(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def get_connection() -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            raise RedisConnectionError(f"attempt {attempts}")
        await asyncio.Event().wait()

    monkeypatch.setattr(pipeline._pool, "get_connection", get_connection)
    first = asyncio.create_task(pipeline.execute([("PING",)]))
    await asyncio.sleep(0)
    other = asyncio.create_task(pipeline.execute([("PING",)]))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(RedisConnectionError, match="attempt 2"):
        await other


async def test_empty_batch_sends_nothing() -> None:
    async with connect("redis://127.0.0.1:1/0") as redis:
        assert await Pipeline(redis).execute([]) == []
        with pytest.raises(RedisError):
            await Pipeline(redis).execute([("PING",)])


async def test_reset_before_the_first_command_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.reset()
    assert await pipeline.execute([("ECHO", "a")]) == [b"a"]
