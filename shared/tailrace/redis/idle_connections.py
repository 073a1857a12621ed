"""Connections that are kept between two calls, outside of redis-py's pool.

The pool takes a lock and three timeouts to give a connection and to take it back, and reads from it in between to see
whether it is still open: 150 µs of CPU a page, as much as the page itself. Here a connection whose end has been seen is
closed when it is next needed; one that breaks later fails its call, which is repeated. Those that no call has used for
`IDLE_S` are closed: a fleet on a cluster has many processes and many servers, and a process at rest needs two to each.
"""

import time
from collections.abc import Callable
from typing import Any

MOST = 8
IDLE_S = 10.0


class IdleConnections:
    """Up to `MOST` connections of `pool`. `was_left_since`: of `PrimaryWatch`."""

    def __init__(self, pool: Any, was_left_since: Callable[[float], bool]) -> None:
        self._pool = pool
        self._was_left_since = was_left_since
        self._idle: list[tuple[Any, float]] = []

    async def take(self) -> Any:
        """A connection that no other call uses.

        Raises:
            RedisError, OSError: the server cannot be reached.
        """
        while self._idle:
            connection, kept_at = self._idle.pop()
            if _is_open(connection) and not self._was_left_since(kept_at):
                return connection
            await self._close(connection)
        return await self._pool.get_connection()

    async def give(self, connection: Any) -> None:
        """Keep a connection whose last reply was read, or give it back to the pool."""
        if len(self._idle) < MOST and _is_open(connection):
            self._idle.append((connection, time.monotonic()))
        else:
            await self._close(connection)

    async def close_unused(self) -> None:
        """Close those that no call has used for `IDLE_S`."""
        before = time.monotonic() - IDLE_S
        while self._idle and self._idle[0][1] <= before:
            await self._close(self._idle.pop(0)[0])

    async def _close(self, connection: Any) -> None:
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)


def _is_open(connection: Any) -> bool:
    reader = getattr(connection, "_reader", None)
    return bool(connection.is_connected) and not (reader is None or reader.at_eof())
