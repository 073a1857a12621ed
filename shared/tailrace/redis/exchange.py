"""A command and its reply on a connection of its own, through redis-py."""

from typing import Any

from tailrace.redis.pipeline import pack
from tailrace.scripts import Command

KEPT_BYTES = 256 * 1024
"""A connection that has carried a larger reply is closed: hiredis keeps a buffer of that size. A page is smaller."""


LARGE_BYTES = 64 * 1024
"""A larger argument is written as it is: packed, a request of 8 MiB is in memory once more until the reply."""


async def exchange(connection: Any, command: Command) -> Any:
    """Send the command and read its reply. Closes a connection that has carried a large reply."""
    await connection.send_packed_command(_packed(command))
    before = _received(connection)
    reply = await connection.read_response()
    if _received(connection) - before > KEPT_BYTES:
        await connection.disconnect(nowait=True)
    return reply


def _packed(command: Command) -> list[bytes]:
    """The command in RESP, in parts.

    hiredis packs: the command that restores a log has four arguments a row, for which redis-py's packer takes 4.5 µs.
    """
    if not any(isinstance(each, bytes) and len(each) > LARGE_BYTES for each in command):
        return [pack(tuple(command))]
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        parts += b"$%d\r\n" % len(value), value, b"\r\n"
    return parts


def _received(connection: Any) -> int:
    """Bytes received so far; 0 where the parser does not count, as another client's."""
    return getattr(connection._parser, "received", 0)  # noqa: SLF001 - counted in `redis.connection`
