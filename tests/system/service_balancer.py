"""A balancer of TCP connections as a Service of Kubernetes is one: what it knows of its pods is a few seconds old.

Each connection goes to a random one of the pods that were ready `lag_s` ago, and stays there. Whether a pod is ready is
asked by its probe, once a `PERIOD_S`: nothing announces to the balancer that a process stops.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from system.wire_client import ask

PERIOD_S = 0.5
PIECE = 65536

Probe = Callable[[], Awaitable[bool]]


async def is_ready(port: int) -> bool:
    """The answer of a frontend or a worker to its probe."""
    status, _ = await ask(port, "GET", "/readyz", timeout=5)
    return status == 200


class ServiceBalancer:
    """`refused`: connections that a pod refused, or for which none was left: each is an error of a client."""

    def __init__(self, lag_s: float, rng: random.Random) -> None:
        self.port = 0
        self.refused = 0
        self._lag_s = lag_s
        self._rng = rng
        self._endpoints: set[int] = set()
        self._probing: dict[int, asyncio.Task[None]] = {}

    @property
    def endpoints(self) -> frozenset[int]:
        """The pods that new connections go to."""
        return frozenset(self._endpoints)

    def add(self, port: int) -> None:
        """Probe a pod from now on; it is an endpoint a while after it has become ready."""
        self._probing[port] = asyncio.create_task(self._probe(port))

    async def _probe(self, port: int) -> None:
        """Until it is gone. A pod that was ready once, and is not any more, has stopped."""
        loop, was_ready = asyncio.get_running_loop(), False
        while True:
            ready = await is_ready(port)
            if ready and not was_ready:
                loop.call_later(self._lag_s, partial(self._endpoints.add, port))
            elif was_ready and not ready:
                loop.call_later(self._lag_s, partial(self._endpoints.discard, port))
                return
            was_ready = ready
            await asyncio.sleep(PERIOD_S)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._endpoints:
                raise ConnectionRefusedError
            pod = await asyncio.open_connection("127.0.0.1", self._rng.choice(sorted(self._endpoints)), limit=PIECE)
        except OSError:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, pod[1]))
                both.create_task(_forward(pod[0], writer))
        except* OSError:
            pass
        finally:
            writer.transport.abort()
            pod[1].transport.abort()

    async def close(self) -> None:
        for task in self._probing.values():
            task.cancel()
        await asyncio.gather(*self._probing.values(), return_exceptions=True)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the one side ends; then the whole connection ends, once the other side has everything."""
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
    raise ConnectionAbortedError


@contextlib.asynccontextmanager
async def service_balancer(lag_s: float, rng: random.Random) -> AsyncIterator[ServiceBalancer]:
    """A balancer that listens, and closes with the block."""
    balancer, tasks = ServiceBalancer(lag_s, rng), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(balancer.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=PIECE, backlog=1024)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await balancer.close()
