"""The server under uvicorn.

The socket listens before `running` hands out its address, so whoever has the address may connect. Leaving it
cuts what still streams: a demo model must never keep its host from stopping.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn

from tailrace_demo.app import create_app

BACKLOG = 2048


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the host

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def running(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serves while the block runs; gives the base URL for OpenAI clients. Port 0 takes a free one."""
    config = uvicorn.Config(
        create_app(), log_config=None, log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    server = Server(config)
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://{host}:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


async def serve(
    host: str = "127.0.0.1", port: int = 8089, *, on_listening: Callable[[str], None] = lambda _: None
) -> None:
    """Serves until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopped.set)
    async with running(host, port) as base_url:
        on_listening(base_url)
        await stopped.wait()
