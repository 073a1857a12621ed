"""A command and its reply on a connection of its own, through redis-py."""

from typing import Any

from tailrace.redis.pipeline import pack
from tailrace.scripts import Command

KEPT_BYTES = 256 * 1024
"""A connection that has carried a larger reply is closed: hiredis keeps a buffer of that size. A page is smaller."""


async def exchange(connection: Any, command: Command) -> Any:
    """Send the command and read its reply. Closes a connection that has carried a large reply.

    hiredis packs: the command that restores a log has four arguments a row, for which redis-py's packer takes 4.5 µs.
    """
    await connection.send_packed_command(pack(tuple(command)))
    before = _received(connection)
    reply = await connection.read_response()
    if _received(connection) - before > KEPT_BYTES:
        await connection.disconnect(nowait=True)
    return reply


def _received(connection: Any) -> int:
    """Bytes received so far; 0 where the parser does not count, as another client's."""
    return getattr(connection._parser, "received", 0)  # noqa: SLF001 - counted in `redis.connection`
