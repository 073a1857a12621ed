"""The frontend process: uvicorn, extended to drain the event streams before it shuts down.

uvicorn sends `lifespan.shutdown` only after it has waited for all responses, including the streams that should end.
The server itself therefore drains the hub first: readers receive a retry hint, spread over the drain period, and
reconnect to another frontend.

    t in s                 readiness   listener   streams           other requests
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    0                      503         open       get their hint    answered; each connection closes after its answer
    up to DRAIN_S          503         open       the rest is cut   the same
    then, up to GRACEFUL_S 503         closed     none              those under way are answered

What balances connections (a Service of Kubernetes, a proxy) learns with a delay that a process stops, also of one that
has no streams. So the listener stays open for `drain_accept_s` at least: a connection that it refuses is an error of a
client.
"""

import asyncio
import logging
import os
import socket
import time
from functools import partial
from typing import Any

import uvicorn

from tailrace.errors import Misconfigured, RedisRefused, Unavailable
from tailrace.process import startup
from tailrace.process.gc_tuning import tune_gc
from tailrace.process.listeners import inherited_listeners
from tailrace.process.malloc_tuning import tune_malloc
from tailrace.process.rlimits import available_files, raise_open_file_limit
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings
from tailrace.tracing.provider import Traces
from tailrace_frontend.app import Frontend
from tailrace_frontend.client_limits import HEAD_BYTES, ClientLimits
from tailrace_frontend.http_protocol import Protocol
from tailrace_frontend.inflight import Inflight

ACCEPTS_A_TURN = 4
"""Connections that are accepted in a turn of the event loop, 0.1 ms each."""

BACKLOG = 65_535
"""Connections that the kernel accepts for a process that is busy; it allows `net.core.somaxconn` (4,096) at most."""

OPERATIONS_CONNECTIONS = 100
OPERATIONS_INFLIGHT_BYTES = 1024 * 1024
"""No request to `/readyz` or `/metrics` has a body, and every answer is small."""

GRACEFUL_S = 5
"""What is under way when the listener closes is a body that arrives slowly, or a large answer that is read slowly."""

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server that drains the hub before it shuts down."""

    def __init__(
        self, config: uvicorn.Config, frontend: Frontend, limits: ClientLimits, operations: uvicorn.Server | None = None
    ) -> None:
        super().__init__(config)
        self._frontend = frontend
        self._limits = limits
        self._operations = operations
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._accept_more()
        if self._operations:
            await self._operations.startup()
        self._announcing = asyncio.create_task(self._announce(), name="announce")

    async def _accept_more(self) -> None:
        """Accept up to `ACCEPTS_A_TURN` connections in a turn of the event loop.

        libuv accepts one for each handle that listens, so more handles listen on the same sockets. (With one, the
        kernel's queue of 2,048 overflowed where 8,000 readers came at once; their systems repeated after 1, 3, 7 and
        15 s.)
        """
        loop, config = asyncio.get_running_loop(), self.config
        protocol: Any = config.http_protocol_class
        create = partial(protocol, config=config, server_state=self.server_state, app_state=self.lifespan.state)
        for listener in [each for server in self.servers for each in server.sockets]:
            for _ in range(ACCEPTS_A_TURN - 1):
                again = socket.socket(fileno=os.dup(listener.fileno()))
                self.servers.append(await loop.create_server(create, sock=again, backlog=config.backlog))

    async def _announce(self) -> None:
        """Log where the frontend listens, and whether it can serve."""
        where = " and ".join(f"http://{place}" for place in self._places())
        try:
            (wrong, warnings), workers = await self._frontend.services.problems(), await self._workers()
        except (Unavailable, RedisRefused) as error:
            logger.warning("listening on %s · Redis does not respond, so every request fails until it does", where)
            logger.debug("the error", exc_info=error)
            return
        for problem in (*wrong, *warnings):
            logger.warning("redis: %s", problem)
        startup.logger.info("listening on %s · Redis %s · %s", where, "is unfit" if wrong else "ok", workers)

    async def _workers(self) -> str:
        count = await self._frontend.services.queue.presence.count()
        return f"{count or 'no'} worker{'' if count == 1 else 's'}{'' if count else ' yet'}"

    def _places(self) -> list[str]:
        """Host and port of each socket; the true port where 0 was configured."""
        names = [listener.getsockname() for server in self.servers for listener in server.sockets]
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port, *_ in dict.fromkeys(names)]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await cancel_and_wait(self._announcing)
        await self._drain()
        await super().shutdown(sockets)
        if self._operations:
            await self._operations.shutdown()
        self._captured_signals.clear()  # otherwise uvicorn raises the signal again and the process does not exit with 0

    async def _drain(self) -> None:
        """Send the clients elsewhere, and serve those that still come. A second SIGINT ends the wait for them."""
        settings = self._frontend.services.settings
        accepts_until = time.monotonic() + min(settings.drain_s, settings.drain_accept_s)
        self._limits.keeps_alive = False
        await self._frontend.services.drain(settings.drain_s)
        while time.monotonic() < accepts_until and not self.force_exit:  # noqa: ASYNC110 - a signal handler sets it
            await asyncio.sleep(0.05)


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
        access_log=False,  # `access_log` has one without query strings, which contain tickets
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the address of a client is never used
        timeout_graceful_shutdown=min(GRACEFUL_S, max(1, round(settings.drain_s))),
        timeout_keep_alive=15,
        backlog=BACKLOG,
    )
    return Server(config, frontend, limits, operations_server(frontend, settings))


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
        access_log=False, log_config=None, server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)  # what `serve` would set
    return server


def main(settings: Settings) -> None:
    """Run a frontend in this process until SIGINT or SIGTERM.

    Raises:
        Misconfigured: it cannot listen on its address.
    """
    listeners = inherited_listeners()
    if listeners is None:
        check_address(settings.host, settings.port)
    raise_open_file_limit(settings.connections)
    tune_malloc()
    server, traces = build(settings), Traces(settings, "tailrace-frontend")
    traces.start()
    tune_gc()
    server.run(sockets=listeners)
    traces.stop()


def check_address(host: str, port: int) -> None:
    """Bind the address, and let it go. (uvicorn would log an error number, after it has started everything else.)

    Raises:
        Misconfigured: with the address and the reason.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {reason}; choose another with --host and --port"
        ) from None
