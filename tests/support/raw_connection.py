"""A connection to Redis that shows every reply as it comes, also those that no command asked for."""

import asyncio
from typing import Any

import hiredis

REPLY_S = 5.0


class RawConnection:
    """Replies are text, numbers and lists of these. An error reply is its text."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = hiredis.Reader(encoding="utf-8")

    @classmethod
    async def open(cls, port: int) -> "RawConnection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, *command: Any) -> None:
        self._writer.write(hiredis.pack_command(command))

    async def receive(self, timeout_s: float = REPLY_S) -> Any:
        """The next reply.

        Raises:
            TimeoutError: there is none.
            EOFError: the server has closed the connection.
        """
        async with asyncio.timeout(timeout_s):
            while (reply := self._parser.gets()) is False:
                if not (data := await self._reader.read(65536)):
                    raise EOFError
                self._parser.feed(data)
        return str(reply) if isinstance(reply, hiredis.ReplyError) else reply

    async def execute(self, *command: Any) -> Any:
        """The reply to a command, where no other one is due."""
        self.send(*command)
        return await self.receive()

    async def ask(self, *command: Any) -> Any:
        """The reply to a command that follows ASKING."""
        assert await self.execute("ASKING") == "OK"
        return await self.execute(*command)

    def close(self) -> None:
        self._writer.transport.abort()
