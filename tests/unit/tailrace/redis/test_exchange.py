from typing import Any

import pytest

from tailrace.redis.exchange import LARGE_BYTES, exchange
from tailrace.redis.pipeline import pack


class Connection:
    """Keeps what is sent."""

    _parser = None

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    async def send_packed_command(self, parts: list[bytes]) -> None:
        self.parts += parts

    async def read_response(self) -> str:
        return "OK"


@pytest.mark.parametrize("size", [0, LARGE_BYTES, LARGE_BYTES + 1, 5 * LARGE_BYTES])
async def test_command_is_the_same_in_one_part_and_in_several(size: int) -> None:
    connection, large = Connection(), b"\r\n$" + b"x" * size
    command: tuple[Any, ...] = ("EVALSHA", "ab", 1, b"key", "käse", large, 10**13, 1.5, b"")
    assert await exchange(connection, command) == "OK"
    assert b"".join(connection.parts) == pack(command)


async def test_large_argument_is_not_copied() -> None:
    connection, large = Connection(), b"x" * (LARGE_BYTES + 1)
    await exchange(connection, ("SET", b"key", large))
    assert any(part is large for part in connection.parts)
