"""The demo server under uvicorn.

The socket listens before `running` yields its address, so clients can connect at once. On exit, open streams are
aborted, because a demo model must never delay the exit of its host process.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from tailrace_demo.app import create_app
from tailrace_demo.transport import TransportProtocol

BACKLOG = 2048


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to its host and aborts open connections on shutdown."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the host handles signals

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


@contextlib.asynccontextmanager
async def running(
    host: str = "127.0.0.1", port: int = 0, app: ASGIApp | None = None, listener: socket.socket | None = None
) -> AsyncIterator[str]:
    """Serve during the block. Yields the base URL for OpenAI clients. Port 0 picks a free port. `app`: another one.
    `listener`: a socket that listens already, instead of host and port."""
    config = uvicorn.Config(
        app or create_app(),
        http=TransportProtocol,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
    )
    server = Server(config)
    with listener or socket.create_server((host, port), backlog=BACKLOG) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        try:
            yield f"http://{host}:{listening.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await serving


async def serve(
    host: str = "127.0.0.1", port: int = 8089, *, listener: socket.socket | None = None,
    on_listening: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM; `listener` as in `running`; `on_listening` receives the base URL."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopped.set)
    async with running(host, port, listener=listener) as base_url:
        on_listening(base_url)
        await stopped.wait()
