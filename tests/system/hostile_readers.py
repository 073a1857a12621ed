"""Bystanders of an attack, in a process of their own: `python -m system.hostile_readers`, commands in `Readers`.

Each token of the scripted upstream carries the time at which it was sent. A reader records how old it is on arrival, so
a pause of the model is no delay.
"""

import array
import asyncio
import re
import time
from typing import Any

from bench.children import serve_commands

STAMP = re.compile(rb"@(\d{16}) ")
STAMP_BYTES = 18


class Reader(asyncio.Protocol):
    """A client of one event stream."""

    def __init__(self, request: bytes, ages_us: "array.array[int]") -> None:
        self._request = request
        self._ages_us = ages_us
        self._rest = b""
        self.is_cut = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, data = time.time_ns() // 1000, self._rest + data
        self._ages_us.extend(now - int(stamp) for stamp in STAMP.findall(data))
        at = data.rfind(b"@")
        self._rest = data[at:] if at > len(data) - STAMP_BYTES else b""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.is_cut = True


class Readers:
    """The commands."""

    def __init__(self) -> None:
        self._ages_us: array.array[int] = array.array("q")
        self._readers: list[Reader] = []

    async def follow(self, port: int, generation_ids: list[str], count: int) -> None:
        """So many readers, spread over the generations."""
        loop = asyncio.get_running_loop()
        for number in range(count):
            path = f"/v1/generations/{generation_ids[number % len(generation_ids)]}/events"
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
            reader = Reader(request, self._ages_us)
            await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
            self._readers.append(reader)

    async def begin(self) -> None:
        """Forget what was recorded so far."""
        del self._ages_us[:]

    async def report(self) -> dict[str, float]:
        """Since `begin`: tokens received, the oldest of them on arrival in ms; and how many readers were cut."""
        oldest = max(self._ages_us, default=0) / 1000
        return {"tokens": len(self._ages_us), "oldest_ms": oldest, "cut": sum(each.is_cut for each in self._readers)}


if __name__ == "__main__":
    serve_commands(Readers())
