"""One bulk string: however the bytes arrive, and what else a server may reply."""

import asyncio
from typing import Any

import pytest
import uvloop
from redis.asyncio import Redis

from tailrace.errors import RedisUnavailable
from tailrace.redis import bulk_reader
from tailrace.redis.bulk_reader import HEADER_BYTES, BulkReader, ErrorReply
from tailrace.redis.server import RedisServer
from tailrace_cli.embedded import EmbeddedServer


def feed(reader: BulkReader, data: bytes, step: int) -> None:
    while data:
        buffer = reader.get_buffer(-1)
        size = min(step, len(buffer), len(data))
        buffer[:size] = data[:size]
        reader.buffer_updated(size)
        data = data[size:]


@pytest.mark.parametrize("step", [1, 2, 7, HEADER_BYTES, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 8, HEADER_BYTES, 50_000])
async def test_bulk_string_is_read_in_pieces_of_any_size(step: int, size: int) -> None:
    reader, body = BulkReader(), bytes(i % 251 for i in range(size))
    feed(reader, b"$%d\r\n%b\r\n" % (size, body), step)
    assert bytes(await reader.reply or b"") == body


async def test_bulk_string_that_holds_line_ends_is_read() -> None:
    reader = BulkReader()
    feed(reader, b"$6\r\n\r\n\r\n\r\n\r\n", 3)
    assert bytes(await reader.reply or b"") == b"\r\n" * 3


async def test_missing_value_is_none() -> None:
    reader = BulkReader()
    feed(reader, b"$-1\r\n", 2)
    assert await reader.reply is None


async def test_error_reply_is_raised_with_its_text() -> None:
    reader = BulkReader()
    feed(reader, b"-WRONGTYPE not a string\r\n", 5)
    with pytest.raises(ErrorReply, match=r"^WRONGTYPE not a string$"):
        await reader.reply


async def test_reply_of_another_type_is_refused() -> None:
    reader = BulkReader()
    feed(reader, b":1\r\n", 4)
    with pytest.raises(ValueError, match="not a bulk string"):
        await reader.reply


@pytest.mark.parametrize("received", [b"", b"$5", b"$5\r\n", b"$5\r\nabc", b"$5\r\nabcde"])
async def test_connection_lost_before_the_end_is_raised(received: bytes) -> None:
    reader = BulkReader()
    feed(reader, received, 64)
    reader.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await reader.reply


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connection_is_kept_and_closes_at_once_on_every_loop(valkey: EmbeddedServer, make_loop: Any) -> None:
    """uvloop asks for one more buffer than asyncio does."""
    errors: list[Any] = []

    async def read() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        server = RedisServer.connect(valkey.url)
        ids = set()
        for size in (1, HEADER_BYTES - 8, HEADER_BYTES, 70_000, 3_000_000):
            await server.execute("SET", "key", b"x" * size)
            for _ in range(5):
                assert len(await server.read_bulk("GET", "key") or b"") == size
            ids.add(await server.execute_alone("CLIENT", "ID"))
        assert len(ids) == 1
        async with asyncio.timeout(1):  # redis-py gives a lost connection two seconds
            await server.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(read())
    assert errors == []


async def until_blocked(server: RedisServer) -> None:
    while b"blocked_clients:1" not in await server.execute("INFO", "clients"):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connection_killed_during_a_read_is_replaced_and_closes_at_once(valkey: EmbeddedServer, make_loop: Any) -> None:
    async def read() -> None:
        server, other = RedisServer.connect(valkey.url), RedisServer.connect(valkey.url)
        client_id = await server.execute_alone("CLIENT", "ID")
        reading = asyncio.create_task(server.read_bulk("BLPOP", "no such list", 60))
        async with asyncio.timeout(3):
            await until_blocked(other)
            await other.execute("CLIENT", "KILL", "ID", client_id)
            await until_blocked(other)  # the command was sent again
        reading.cancel()
        await asyncio.wait([reading])
        async with asyncio.timeout(1):
            await server.close()
            await other.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(read())


async def test_cancelled_read_leaves_no_reply_for_the_next_command(redis: Redis) -> None:
    server = RedisServer(redis)
    await redis.set("key", "x" * (1 << 20))
    for _ in range(20):
        reading = asyncio.create_task(server.read_bulk("GET", "key"))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert bytes(await server.read_bulk("ECHO", "next") or b"") == b"next"
        assert await server.execute_alone("ECHO", "other") == b"other"


@pytest.mark.parametrize("rest", [b"abc\r\n", None])
async def test_reply_for_a_reader_that_has_left_is_dropped(rest: bytes | None) -> None:
    reader = BulkReader()
    feed(reader, b"$3\r\n", 64)
    reader.reply.cancel()
    if rest is None:
        reader.connection_lost(ConnectionResetError())
    else:
        feed(reader, rest, 64)
    assert reader.reply.cancelled()


async def test_read_on_a_closed_connection_is_sent_on_another(redis: Redis) -> None:
    """An idle connection of the pool may close between the pool's check and the command."""
    server = RedisServer(redis)
    await redis.set("key", "value")
    taken: list[Any] = []
    get_connection = redis.connection_pool.get_connection

    async def closed_at_first(*arguments: Any) -> Any:
        taken.append(connection := await get_connection(*arguments))
        if len(taken) == 1:
            connection._writer.transport.close()
        return connection

    redis.connection_pool.get_connection = closed_at_first
    assert bytes(await server.read_bulk("GET", "key") or b"") == b"value"
    assert len(taken) == 2


async def test_read_without_a_reply_in_time_closes_its_connection(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_reader, "COMMAND_TIMEOUT_S", 0.1)
    server = RedisServer(redis)
    before = await server.execute_alone("CLIENT", "ID")
    with pytest.raises(RedisUnavailable, match="no reply in time"):
        await server.read_bulk("BLPOP", "no such list", 60)
    assert bytes(await server.read_bulk("ECHO", "next") or b"") == b"next"
    assert await server.execute_alone("CLIENT", "ID") != before
