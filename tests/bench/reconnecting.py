"""Readers that lose their frontend and come back: `python -m bench.reconnecting`, commands in `Reconnecting`.

Each reader keeps the id of the newest event that it has read and reconnects with it, as an `EventSource` does. It is
live again once it has read the marked event that was the log's last when it was away.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from typing import Any

from bench.children import serve_commands
from bench.quantiles import Latency
from bench.reading import AT_ONCE, CLIENTS_AN_ADDRESS, MARK, Client

ID = b"\nid: "
END = "\r\n"


class Reader(Client):
    """Reads one log over one connection. `caught_up` is completed by data that contains `until`."""

    def __init__(self, request: bytes, until: bytes) -> None:
        super().__init__(request)
        self._until = until
        self.caught_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.newest = b""
        self.marks = 0

    def on_data(self, data: bytes) -> None:
        begins = data.rfind(ID)
        if begins >= 0:
            self.newest = data[begins + len(ID) :].partition(b"\n")[0]
        self.marks += data.count(MARK)
        if self._until in data and not self.caught_up.done():
            self.caught_up.set_result(None)


class Reconnecting:
    """Commands of a process of readers that reconnect."""

    def __init__(self) -> None:
        self._port = 0
        self._requests: list[str] = []
        self._readers: list[Reader] = []
        self._newest: list[bytes] = []

    async def follow(self, port: int, requests: Sequence[str]) -> None:
        """A reader for each request, a hundred at a time."""
        self._port, self._requests = port, list(requests)
        await self._connect([request.encode() for request in requests], AT_ONCE, until=ID)

    async def leave(self) -> None:
        """Lose all connections. (Each has read an event with an id.)"""
        self._newest = [reader.newest for reader in self._readers]
        assert all(self._newest)
        for reader in self._readers:
            reader.transport.abort()
        await asyncio.gather(*(reader.closed for reader in self._readers))

    async def reconnect(self, at_once: int) -> dict[str, Any]:
        """All come back with their cursors, so many of them at a time until they are live. Returns the seconds until
        all are live, and how long each has waited for that, ms."""
        requests = [
            request.removesuffix(END).encode() + b"Last-Event-ID: %b\r\n\r\n" % newest
            for request, newest in zip(self._requests, self._newest, strict=True)
        ]
        began = time.monotonic()
        waits_ms = await self._connect(requests, at_once, until=MARK)
        return {"seconds": time.monotonic() - began, "latency": Latency.of(waits_ms)._asdict()}

    async def report(self) -> dict[str, int]:
        """Readers that have lost their connection, and marks that all readers together have read since they came
        back."""
        lost = sum(reader.closed.done() for reader in self._readers)
        return {"cut": lost, "marks": sum(reader.marks for reader in self._readers)}

    async def _connect(self, requests: Sequence[bytes], at_once: int, *, until: bytes) -> list[float]:
        places = asyncio.Semaphore(at_once)
        self._readers = [Reader(request, until) for request in requests]
        waits_ms: list[float] = []

        async def connect(number: int, reader: Reader) -> None:
            async with places:
                began = time.monotonic()
                await self._dial(number, reader)
                await reader.opened
                await reader.caught_up
                waits_ms.append(1000 * (time.monotonic() - began))

        await asyncio.gather(*(connect(number, reader) for number, reader in enumerate(self._readers)))
        return waits_ms

    async def _dial(self, number: int, reader: Reader) -> None:
        loop, client_socket = asyncio.get_running_loop(), socket.socket()
        client_socket.setblocking(False)
        client_socket.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        client_socket.bind((f"127.0.0.{1 + number // CLIENTS_AN_ADDRESS}", 0))
        await loop.sock_connect(client_socket, ("127.0.0.1", self._port))
        await loop.create_connection(lambda: reader, sock=client_socket)


if __name__ == "__main__":
    serve_commands(Reconnecting())
