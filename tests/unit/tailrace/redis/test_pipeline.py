"""One shared connection: replies in order, errors as values, and the loss of the connection."""

import asyncio
import random
import re
from typing import Any

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


async def test_attempt_goes_on_without_the_caller_that_began_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller has only so much time: each that comes before an attempt ends would begin another one."""
    get_connection, is_open, attempts = pipeline._pool.get_connection, asyncio.Event(), 0

    async def slowly() -> Any:
        nonlocal attempts
        attempts += 1
        await is_open.wait()
        return await get_connection()

    monkeypatch.setattr(pipeline._pool, "get_connection", slowly)
    monkeypatch.setattr(pipeline_module, "COMMAND_TIMEOUT_S", 0.02)
    for _ in range(3):
        with pytest.raises(RedisTimeoutError):
            await pipeline.execute([("PING",)])
    monkeypatch.setattr(pipeline_module, "COMMAND_TIMEOUT_S", 5)
    last = asyncio.create_task(pipeline.execute([("PING",)]))
    is_open.set()
    assert await last == [b"PONG"]
    assert attempts == 1


async def test_caller_that_waited_for_the_connection_does_not_cut_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over soon after the connection was opened, which serves others."""
    get_connection = pipeline._pool.get_connection

    async def slowly() -> Any:
        await asyncio.sleep(0.3)
        return await get_connection()

    monkeypatch.setattr(pipeline._pool, "get_connection", slowly)
    monkeypatch.setattr(pipeline_module, "COMMAND_TIMEOUT_S", 0.4)
    late = asyncio.create_task(pipeline.execute([("BLPOP", "nothing", 60)]))
    await asyncio.sleep(0.35)
    monkeypatch.setattr(pipeline_module, "COMMAND_TIMEOUT_S", 60)
    other = asyncio.create_task(pipeline.execute([("PING",)]))
    with pytest.raises(RedisTimeoutError):
        await late
    assert pipeline._protocol is not None
    pipeline.reset()
    with pytest.raises(RedisConnectionError):
        await other


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_closed_pipeline_opens_no_other_connection(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Whenever it is closed: before the attempt has begun, and for callers that came during the attempt."""
    attempts = 0

    async def hanging() -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(pipeline._pool, "get_connection", hanging)
    first = asyncio.create_task(pipeline.execute([("PING",)]))
    await asyncio.sleep(0)
    second = asyncio.create_task(pipeline.execute([("PING",)]))
    for _ in range(turns):
        await asyncio.sleep(0)
    pipeline.close()
    for caller in (first, second, asyncio.create_task(pipeline.execute([("PING",)]))):
        with pytest.raises(RedisConnectionError, match="closed by this process"):
            async with asyncio.timeout(1):
                await caller
    assert attempts <= 1


async def test_failed_attempt_keeps_nothing_of_its_callers(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> None:
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(pipeline._pool, "get_connection", refused)
    errors = await asyncio.gather(*(pipeline.execute([("PING",)]) for _ in range(10)), return_exceptions=True)
    assert [(type(error), error.args) for error in errors if isinstance(error, OSError)] == 10 * [
        (ConnectionRefusedError, (111, "refused"))
    ]
    assert len(set(map(id, errors))) == 10
    assert pipeline._why.__traceback__ is None


async def test_empty_batch_sends_nothing() -> None:
    async with connect("redis://127.0.0.1:1/0") as redis:
        assert await Pipeline(redis).execute([]) == []
        with pytest.raises(RedisError):
            await Pipeline(redis).execute([("PING",)])


async def test_reset_before_the_first_command_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.reset()
    assert await pipeline.execute([("ECHO", "a")]) == [b"a"]
