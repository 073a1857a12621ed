"""Two servers behind a proxy that fail as a frontend does that is killed: with a request, or amid a stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from support.proxy_servers import Changes, ProxyServer, proxy_server


class Backend:
    """Keeps the bodies of the POSTs that arrive, and closes the connection of each in place of an answer. An event
    stream is cut after a comment; `/readyz` and `/page` are answered."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"post "):
                size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(size))
            elif b"/events" in head:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n:\n\n\r\n")
            elif b"/readyz" in head or b"/page" in head:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def backends(
    kind: str, folder: Path, changes: Changes | None = None
) -> AsyncIterator[tuple[ProxyServer, list[Backend]]]:
    """A proxy in front of two backends."""
    served = [Backend(), Backend()]
    servers = [await asyncio.start_server(each.serve, "127.0.0.1", 0) for each in served]
    try:
        ports = [each.sockets[0].getsockname()[1] for each in servers]
        async with proxy_server(kind, folder, ports, changes) as proxy:
            yield proxy, served
    finally:
        for each in servers:
            each.close()
