"""One bulk string: however the bytes arrive, and what else a server may reply."""

import asyncio

import pytest
from redis.asyncio import Redis

from tailrace.redis.bulk_reader import HEADER_BYTES, BulkReader, ErrorReply
from tailrace.redis.server import RedisServer


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
