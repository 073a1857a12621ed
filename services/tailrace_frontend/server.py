"""The frontend process: uvicorn, extended to drain the event streams before it shuts down.

uvicorn sends `lifespan.shutdown` only after it has waited for all responses, including the streams that should end.
The server itself therefore drains the hub first: readers receive a retry hint, spread over the drain period, and
reconnect to another frontend.
"""

import logging
import socket

import uvicorn

from tailrace.process.gc_tuning import tune_gc
from tailrace.process.malloc_tuning import tune_malloc
from tailrace.process.rlimits import available_files, raise_open_file_limit
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.client_limits import HEAD_BYTES, ClientLimits
from tailrace_frontend.http_protocol import Protocol
from tailrace_frontend.inflight import Inflight

OPERATIONS_CONNECTIONS = 100
OPERATIONS_INFLIGHT_BYTES = 1024 * 1024
"""No request to `/readyz` or `/metrics` has a body, and every answer is small."""

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server that drains the hub before it shuts down."""

    def __init__(
        self, config: uvicorn.Config, frontend: Frontend, drain_s: float, operations: uvicorn.Server | None = None
    ) -> None:
        super().__init__(config)
        self._frontend = frontend
        self._drain_s = drain_s
        self._operations = operations

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._operations:
            await self._operations.startup()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._frontend.services.drain(self._drain_s)
        await super().shutdown(sockets)
        if self._operations:
            await self._operations.shutdown()
        self._captured_signals.clear()  # otherwise uvicorn raises the signal again and the process does not exit with 0


def build(settings: Settings) -> Server:
    """A configured server; start it with `run()` or await `serve()`."""
    frontend = Frontend(settings)
    limits = ClientLimits(
        min(settings.connections, available_files()), settings.client_write_timeout_s,
        Inflight(max(settings.max_inflight_bytes, settings.max_body_bytes + HEAD_BYTES)),
    )  # fmt: skip
    config = uvicorn.Config(
        frontend,
        host=settings.host,
        port=settings.port,
        http=Protocol.with_limits(limits),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,  # query strings contain tickets
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # the address of a client is never used
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        timeout_keep_alive=15,
    )
    return Server(config, frontend, settings.drain_s, operations_server(frontend, settings))


def operations_server(frontend: Frontend, settings: Settings) -> uvicorn.Server | None:
    """The server of `/readyz` and `/metrics`, where they have an address of their own; it runs beside the other one.

    It has the same limits on what a connection does: without them, a header of 24 MiB was accepted, and kept the event
    loop of both servers for 0.8 s.
    """
    if frontend.operations is None:
        return None
    host, port = settings.operations_host_and_port
    limits = ClientLimits(OPERATIONS_CONNECTIONS, settings.client_write_timeout_s, Inflight(OPERATIONS_INFLIGHT_BYTES))
    config = uvicorn.Config(
        frontend.operations, host=host, port=port, http=Protocol.with_limits(limits), ws="none", lifespan="off",
        access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)  # what `serve` would set
    return server


def main(settings: Settings) -> None:
    """Run a frontend in this process until SIGINT or SIGTERM."""
    raise_open_file_limit(settings.connections)
    tune_malloc()
    server = build(settings)
    tune_gc()
    server.run()
