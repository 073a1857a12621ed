"""Clients in a process of their own: `python -m bench.reading`, commands in `Reading`.

A client is a bare protocol on uvloop. It parses no more than necessary: the status, then timestamps (live) or marked
tokens and the end of the connection (replay). So one process holds thousands of clients, and the server is the limit.
"""

import array
import asyncio
import re
import socket
import time
from collections.abc import Sequence
from typing import Any

from bench.children import serve_commands
from bench.quantiles import Latency
from bench.timestamps import find_timestamps, now_us

MARK = b"~"
AT_ONCE = 100
CLIENTS_AN_ADDRESS = 5000
"""A client address has some 28,000 ephemeral ports towards one server; 127.0.0.0/8 has many addresses."""

ETHERNET_MSS = 1448
STALLED_BUFFER = 4096
STATUS = re.compile(rb"HTTP/1\.1 200 ")


class Client(asyncio.Protocol):
    """One HTTP/1.1 exchange. `opened` is completed by a 200, `closed` when the connection ends."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.transport: Any = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if STATUS.match(data):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(AssertionError(data[:200]))
                return
        self.on_data(data)

    def on_data(self, data: bytes) -> None:
        """Called with all data from the status line on."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError())
        if not self.closed.done():
            self.closed.set_result(None)


class LiveClient(Client):
    """Records the age of each timestamped event when it is read."""

    def __init__(self, request: bytes, ages_us: "array.array[int]") -> None:
        super().__init__(request)
        self._ages_us = ages_us
        self._rest = b""

    def on_data(self, data: bytes) -> None:
        now = now_us()
        timestamps, self._rest = find_timestamps(self._rest + data)
        for timestamp in timestamps:
            self._ages_us.append(now - timestamp)


class StalledClient(Client):
    """Reads the status and then nothing more."""

    def on_data(self, data: bytes) -> None:  # noqa: ARG002 - only the fact that data came
        self.transport.pause_reading()


class ReplayClient(Client):
    """Counts marked tokens until the end."""

    tokens = 0

    def on_data(self, data: bytes) -> None:
        self.tokens += data.count(MARK)


class Reading:
    """Commands of a process of readers."""

    def __init__(self) -> None:
        self._clients: list[Client] = []
        self._ages_us: array.array[int] = array.array("q")
        self._lost_before = 0

    async def follow(self, port: int, requests: Sequence[str]) -> None:
        """A live client for each request."""
        await self._connect(port, [LiveClient(request.encode(), self._ages_us) for request in requests])

    async def stall(self, port: int, requests: Sequence[str]) -> None:
        """A client for each request that stops reading at once.

        On loopback a socket would take megabytes first, so these have the segment size of Ethernet and a small buffer.
        """
        await self._connect(port, [StalledClient(request.encode()) for request in requests], stalled=True)

    async def leave(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.transport.abort()
        self._clients.clear()

    async def begin(self) -> None:
        """Start a window: drop all latencies so far."""
        del self._ages_us[:]

    async def report(self) -> dict[str, Any]:
        """Since `begin`: the count of events and their latency, ms; and how many clients have lost their connection."""
        latency = Latency.of([age / 1000 for age in self._ages_us])
        return {"latency": latency._asdict(), "cut": sum(client.closed.done() for client in self._clients)}

    async def replay(self, port: int, requests: Sequence[str], seconds: float) -> dict[str, float]:
        """Read each to its end, all at once, repeatedly until the time is over."""
        began, tokens, rounds = time.monotonic(), 0, 0
        while not rounds or time.monotonic() - began < seconds:
            clients = [ReplayClient(request.encode()) for request in requests]
            await self._connect(port, clients)
            await asyncio.gather(*(client.closed for client in clients))
            tokens += sum(client.tokens for client in clients)
            rounds += 1
            self._clients.clear()
        return {"tokens": tokens, "rounds": rounds, "seconds": time.monotonic() - began}

    async def _connect(self, port: int, clients: Sequence[Client], *, stalled: bool = False) -> None:
        """Connect in groups, from the next address when one is full; returns when every client has its status."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(clients), AT_ONCE):
            for client in clients[start : start + AT_ONCE]:
                client_socket = socket.socket()
                if stalled:
                    client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET_MSS)
                    client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
                client_socket.setblocking(False)
                client_socket.bind((f"127.0.0.{1 + len(self._clients) // CLIENTS_AN_ADDRESS}", 0))
                await loop.sock_connect(client_socket, ("127.0.0.1", port))
                await loop.create_connection(lambda client=client: client, sock=client_socket)  # type: ignore[misc]
                self._clients.append(client)
            await asyncio.gather(*(client.opened for client in clients[start : start + AT_ONCE]))


if __name__ == "__main__":
    serve_commands(Reading())
