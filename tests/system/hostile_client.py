"""A client that keeps to no rule: a socket on which each byte is the attack's own choice."""

import asyncio
import contextlib
import re
import socket
from typing import Self

LOST = (ConnectionError, TimeoutError)


class Socket:
    """One connection. `buffer`: bytes of its receive buffer, for clients that read nothing."""

    def __init__(self, port: int, buffer: int | None = None) -> None:
        self._port = port
        self._socket = socket.socket()
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.setblocking(False)

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def send(self, data: bytes, timeout_s: float = 60) -> bool:
        """Whether the connection still took it."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except LOST:
            return False
        return True

    async def repeat(self, data: bytes, times: int, pause_s: float = 0) -> None:
        """Send it so often, or until there is an answer or an end."""
        for _ in range(times):
            if not await self.send(data) or await self.has_input(pause_s):
                return

    async def has_input(self, within_s: float = 0) -> bool:
        """Whether an answer or an end has come; it is not consumed."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                if asyncio.get_running_loop().time() >= deadline:
                    await asyncio.sleep(0)
                    return False
                await asyncio.sleep(0.02)
            except OSError:
                return True
            else:
                return True

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    async def receive(self, timeout_s: float = 60) -> bytes:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    async def answers(self, timeout_s: float = 60) -> str:
        """The statuses of the answers until the end, then how it ended: `closed`, `cut` (reset, or within an answer) or
        `hangs`."""
        received, end = b"", "closed"
        try:
            while data := await self.receive(timeout_s):
                received += data
        except ConnectionError:
            end = "cut"
        except TimeoutError:
            end = "hangs"
        parts = received.split(b"HTTP/1.1 ")[1:]
        if end == "closed" and parts and not _is_whole(parts[-1]):
            end = "cut"
        return " ".join([*(part[:3].decode() for part in parts), end])

    async def first_answer(self, timeout_s: float = 60) -> str:
        """The status of the first answer, whatever the connection does then; `closed` or `cut` without one."""
        received = b""
        with contextlib.suppress(*LOST):
            while len(received) < 12 and (data := await self.receive(timeout_s)):
                received += data
            return received[9:12].decode() or "closed"
        return "cut"


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
