"""The frontend as a process: uvicorn, told to drain the hub before it shuts down.

`lifespan.shutdown` comes only after uvicorn has waited for the very streams it should end, so the drain sits in the
server itself: readers are sent away with a retry hint, spread over the grace period, and then uvicorn goes.
"""

import logging
import socket

import uvicorn

from tailrace.process.gc_tuning import tune_gc
from tailrace.process.rlimits import raise_open_file_limit
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.http.connection import Protocol

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Drains, then shuts down."""

    def __init__(self, config: uvicorn.Config, frontend: Frontend, drain_s: float) -> None:
        super().__init__(config)
        self._frontend = frontend
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._frontend.services.hub.drain(self._drain_s)
        await super().shutdown(sockets)
        self._captured_signals.clear()  # it was asked to stop and has stopped: exit 0, not by the signal once more


def build(settings: Settings) -> Server:
    """A server that is ready to `run()` or to be awaited with `serve()`."""
    frontend = Frontend(settings)
    config = uvicorn.Config(
        frontend,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,  # query strings carry tickets
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nothing here asks where a request came from
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        timeout_keep_alive=15,
    )
    return Server(config, frontend, settings.drain_s)


def main(settings: Settings) -> None:
    """Run a frontend in this process until it is told to stop."""
    raise_open_file_limit(settings.max_readers)
    server = build(settings)
    tune_gc()
    server.run()
