"""A proxy between a browser and a frontend, with the failures of real proxies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Mode = Literal["pass", "refuse", "cut", "stall"]

PAGE = b"<html><h1>502 Bad Gateway</h1></html>"
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(PAGE), PAGE)
)


class Proxy:
    """Passes bytes both ways, or answers every request with 502, or cuts every connection, or stalls: it accepts
    connections, keeps the open ones, and passes nothing."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._mode: Mode = "pass"
        self._refusals = asyncio.Semaphore(0)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_mode(self, mode: Mode) -> None:
        """Treat connections by this mode from now on. "refuse" and "cut" also cut the open ones."""
        self._mode = mode
        self._refusals = asyncio.Semaphore(0)
        self._flows.clear() if mode == "stall" else self._flows.set()
        if mode in ("refuse", "cut"):
            for writer in self._writers:
                writer.transport.abort()

    async def wait_for_refusals(self, times: int) -> None:
        """Wait for so many connections refused or cut since the mode was set."""
        for _ in range(times):
            await self._refusals.acquire()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            match self._mode:
                case "pass" | "stall":
                    await self._pass(reader, writer)
                case "refuse":
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(BAD_GATEWAY)
                    self._refusals.release()
                case "cut":
                    writer.transport.abort()
                    self._refusals.release()
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        pair = {writer, target_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, target_writer, self._flows))
                group.create_task(pump(target_reader, writer, self._flows))
        except* OSError:
            pass
        finally:
            self._writers -= pair
            target_writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    """Copy until one side ends, then end the other; nothing while `flows` is not set."""
    while data := await reader.read(65536):
        await flows.wait()
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port on loopback that ends with the block."""
    passing = Proxy(target)
    server = await asyncio.start_server(passing.serve, "127.0.0.1", 0)
    passing.port = server.sockets[0].getsockname()[1]
    try:
        yield passing
    finally:
        server.close()
        passing.set_mode("cut")
