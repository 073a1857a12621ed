"""What a loop costs that does nothing but write: `python -m bench.floor`, the port on its first line.

Each client that connects is a log's reader; every 2 ms as many events as have come due are made and written, one write
a reader, as a hub does that reads in batches. No HTTP beyond a status line, no Redis, no log: below this no web process
on this loop can be.
"""

import asyncio
import sys
import time
from typing import Any

import uvloop

from bench.timestamps import stamped

RATE = 4000.0
READERS = 200
BATCH_INTERVAL_S = 0.002
RECORD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reader(asyncio.Protocol):
    """Joins when it has asked."""

    def __init__(self, readers: list[Any]) -> None:
        self._readers = readers
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - one request, and it is a GET
        self._transport.write(RECORD)
        self._readers.append(self._transport)


async def main() -> None:
    readers: list[Any] = []
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: Reader(readers), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{serving.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while len(readers) < READERS:  # noqa: ASYNC110 - it is the same beat as below
        await asyncio.sleep(BATCH_INTERVAL_S)
    began, k = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * RATE)
        for event in range(k, due):
            told = b'id: 1795235902664-%d\nevent: text\ndata: {"text":"%b"}\n\n' % (event, stamped().encode())
            readers[event % READERS].write(b"%x\r\n%b\r\n" % (len(told), told))
        k = due
        await asyncio.sleep(BATCH_INTERVAL_S)


if __name__ == "__main__":
    uvloop.run(main())
