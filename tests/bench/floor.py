"""The cost of a loop that only writes: `python -m bench.floor`, which prints its port first.

Each client that connects is the reader of a log. Every 2 ms the events that have come due are made and written, one
write a reader, as a hub does that reads in batches. There is no HTTP beyond a status line, no Redis and no log: no web
process on this loop can cost less.
"""

import asyncio
import sys
import time
from typing import Any

import uvloop

from bench.timestamps import timestamped_text

RATE = 4000.0
READERS = 200
BATCH_INTERVAL_S = 0.002
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reader(asyncio.Protocol):
    """Joins the readers when its request has arrived."""

    def __init__(self, readers: list[Any]) -> None:
        self._readers = readers
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - one request, and it is a GET
        self._transport.write(HEAD)
        self._readers.append(self._transport)


async def main() -> None:
    readers: list[Any] = []
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: Reader(readers), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{serving.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    while len(readers) < READERS:  # noqa: ASYNC110 - the same interval as below
        await asyncio.sleep(BATCH_INTERVAL_S)
    began, k = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * RATE)
        for event in range(k, due):
            frame = b'id: 1795235902664-%d\nevent: text\ndata: {"text":"%b"}\n\n' % (event, timestamped_text().encode())
            readers[event % READERS].write(b"%x\r\n%b\r\n" % (len(frame), frame))
        k = due
        await asyncio.sleep(BATCH_INTERVAL_S)


if __name__ == "__main__":
    uvloop.run(main())
