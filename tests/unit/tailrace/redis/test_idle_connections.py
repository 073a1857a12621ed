import time

import pytest
from redis.asyncio import Redis

from tailrace.redis import idle_connections as module
from tailrace.redis.idle_connections import MOST, IdleConnections


async def client_id(connection: object) -> int:
    await connection.send_command("CLIENT", "ID")  # type: ignore[attr-defined]
    return int(await connection.read_response())  # type: ignore[attr-defined]


@pytest.fixture
def left_at() -> list[float]:
    """When the server was left last."""
    return [float("-inf")]


@pytest.fixture
def idle(redis: Redis, left_at: list[float]) -> IdleConnections:
    return IdleConnections(redis.connection_pool, lambda moment: left_at[0] > moment)


async def test_connection_is_used_again_by_one_call_at_a_time(idle: IdleConnections) -> None:
    first = await idle.take()
    number = await client_id(first)
    await idle.give(first)
    again, other = await idle.take(), await idle.take()
    assert again is first
    assert other is not first
    assert await client_id(again) == number
    await idle.give(again)
    await idle.give(other)


async def test_connection_that_the_server_has_closed_is_not_used_again(redis: Redis, idle: IdleConnections) -> None:
    first = await idle.take()
    number = await client_id(first)
    await idle.give(first)
    await redis.execute_command("CLIENT", "KILL", "ID", number)
    while not first._reader.at_eof():
        await redis.ping()
    second = await idle.take()
    assert await client_id(second) != number
    await idle.give(second)


async def test_connection_to_a_server_that_was_left_is_not_used_again(
    idle: IdleConnections, left_at: list[float]
) -> None:
    first = await idle.take()
    number = await client_id(first)
    await idle.give(first)
    left_at[0] = time.monotonic() + 1
    second = await idle.take()
    assert await client_id(second) != number
    await second.disconnect()


async def test_no_more_connections_are_kept_than_pages_are_read_at_a_time(redis: Redis, idle: IdleConnections) -> None:
    taken = [await idle.take() for _ in range(MOST + 3)]
    for connection in taken:
        await idle.give(connection)
    given_back = redis.connection_pool._available_connections
    assert len(given_back) == 3
    assert not any(connection.is_connected for connection in given_back)
    broken = await idle.take()
    await broken.disconnect()
    await idle.give(broken)
    assert len(redis.connection_pool._available_connections) == 4


async def test_connection_that_no_call_has_used_for_a_while_is_closed(
    redis: Redis, idle: IdleConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await idle.take(), await idle.take()
    await idle.give(first)
    await idle.close_unused()
    assert first.is_connected
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    await idle.close_unused()
    assert not first.is_connected
    assert second.is_connected, "a call uses it"
    assert first in redis.connection_pool._available_connections
    await idle.give(second)
