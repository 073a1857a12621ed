"""A connection of its own for pipelines.

What redis-py does for a command is right for a command: a packer in Python, a task for each write, a timer for each
reply (and on Python 3.11 a system call for each look at the running loop). Here hiredis packs and reads, and one timer
guards the pipeline. An append costs its caller 47 µs instead of 71 where it goes alone, 9 instead of 23 where fifteen
ride together, 6 instead of 20 where sixty do (30,000 each).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tailrace.connection import COMMAND_TIMEOUT_S

READ_BYTES = 65536
pack: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command
MORE = object()


class Pipeline:
    """One pipeline at a time, over a connection of the client's pool, which closes it with the others."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._turn = asyncio.Lock()
        self._connection: Any = None
        self._replies: hiredis.Reader

    async def execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The replies in their order; one that is an error is the exception.

        Raises:
            RedisError, OSError: the server could not be reached; whether the commands were carried out is unknown.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT_S):
                    return await self._execute(b"".join(map(pack, commands)), len(commands))
            except BaseException as error:
                await self._hang_up()
                if isinstance(error, TimeoutError):
                    raise RedisTimeoutError("The log's server does not answer.") from None
                if isinstance(error, RuntimeError):  # uvloop's word for a line that has just been closed
                    raise RedisConnectionError(str(error)) from error
                raise

    async def _execute(self, packed: bytes, count: int) -> list[Any]:
        if self._connection is None:
            await self._dial()
        self._connection._writer.write(packed)  # noqa: SLF001 - redis-py has no call that only writes
        replies: list[Any] = []
        while len(replies) < count:
            reply = self._replies.gets()
            if reply is not MORE:
                replies.append(reply)
            elif data := await self._connection._reader.read(READ_BYTES):  # noqa: SLF001 - nor one that only reads
                self._replies.feed(data)
            else:
                raise RedisConnectionError("The log's server has closed the connection.")
        return replies

    async def _dial(self) -> None:
        self._connection = await self._pool.get_connection()
        parse_error = self._connection._parser.parse_error  # noqa: SLF001 - the names of its own exceptions
        self._replies = hiredis.Reader(replyError=parse_error, notEnoughData=MORE)

    async def _hang_up(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
