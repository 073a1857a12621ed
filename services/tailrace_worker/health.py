"""Whether a worker lives, has started, and can take work; and whether its servers may keep logs.

`/livez` and `/startupz` know nothing of Redis: no restart brings a server back, and all workers would restart at once.
`/readyz` does.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from tailrace.errors import Misconfigured, RedisRefused, Unavailable
from tailrace.process.recent import Recent
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import QUEUE_SERVER
from tailrace.redis.check_steps import Uses
from tailrace.redis.server import RedisServer
from tailrace_worker.operations import Answer, Route
from tailrace_worker.retry import retry_transient

LONGEST_PAUSE_S = 2.0
"""Between two questions to servers that are away when the worker starts."""

READINESS_S = 0.25
READINESS_KEPT_S = 5.0
"""Heartbeats are sent several times as often as the servers are asked."""

OK = Answer.of({"status": "ok"})

logger = logging.getLogger(__name__)


class Health:
    """Of one worker. `queue_server`: None if it is the log's. `disconnected`: which connections are down on which other
    processes' messages are received."""

    def __init__(
        self, log_server: RedisServer, queue_server: RedisServer | None, disconnected: Callable[[], list[str]]
    ) -> None:
        self._servers = {"redis": (log_server, Uses.LOG if queue_server else Uses.BOTH)}
        if queue_server:
            self._servers[QUEUE_SERVER] = queue_server, Uses.QUEUE
        self._disconnected = disconnected
        self._problems = Recent(self._find_problems)
        self._known_until = 0.0
        self._readiness: tuple[str, list[str]] = "", []
        self.has_started = False
        self.is_stopping = False

    def routes(self) -> dict[str, Route]:
        """The probes, by their paths."""
        return {"/livez": self._live, "/startupz": self._started, "/readyz": self._ready}

    async def _live(self) -> Answer:
        """The event loop turns."""
        return OK

    async def _started(self) -> Answer:
        """
        Raises:
            Unavailable: the worker is being built.
        """
        if not self.has_started:
            raise Unavailable("This worker is starting.")
        return OK

    async def _ready(self) -> Answer:
        """
        Raises:
            Unavailable: as `check_ready`.
        """
        return Answer.of({"status": "ok", "warnings": await self.check_ready()})

    async def check_ready(self) -> list[str]:
        """What merely deserves a warning.

        Raises:
            Unavailable: the worker stops, or a server is away or unfit.
        """
        if self.is_stopping:
            raise Unavailable("This worker is stopping.")
        wrong, warnings = await self._problems.get()
        if wrong:
            raise Unavailable("; ".join(wrong))
        lost = [f"the subscriber connection {name} is down" for name in self._disconnected()]
        return [*warnings, *lost]

    async def readiness(self) -> tuple[str, list[str]]:
        """For those who look: why the worker is not ready, empty where it is, and the warnings; at most
        `READINESS_KEPT_S` ago. A server that does not answer at once is no reason to wait: the heartbeat does."""
        if self.is_stopping or time.monotonic() >= self._known_until:
            self._readiness = await self._ask_readiness()
            self._known_until = time.monotonic() + READINESS_KEPT_S
        return self._readiness

    async def _ask_readiness(self) -> tuple[str, list[str]]:
        try:
            async with asyncio.timeout(READINESS_S):
                return "", await self.check_ready()
        except (Unavailable, RedisRefused) as error:
            return error.message, []
        except TimeoutError:
            return "A server does not answer.", []

    async def _find_problems(self) -> tuple[list[str], list[str]]:
        """What makes a server unfit, and what merely deserves a warning, each behind the name of its server.

        Raises:
            RedisUnavailable: a server cannot be reached.
        """
        wrong, warnings = [], []
        for name, (server, uses) in self._servers.items():
            unfit, notable = await server.problems(uses)
            wrong += [f"{name}: {each}" for each in unfit]
            warnings += [f"{name}: {each}" for each in notable]
        return wrong, warnings

    async def wait_for_servers(self, stopping: asyncio.Event) -> bool:
        """Check the servers, however long they are away. False: the process was asked to stop meanwhile.

        Raises:
            Misconfigured: a server's settings would lose logs.
        """
        checking, asked = asyncio.create_task(self.check_servers()), asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({checking, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(asked, *([] if checking.done() else [checking]))
        if checking.cancelled():
            return False
        await checking
        return True

    async def check_servers(self) -> None:
        """Wait for the servers, and check their settings.

        Raises:
            Misconfigured: a server's settings would lose logs.
        """
        for name, (server, uses) in self._servers.items():
            wrong, warnings = await retry_transient(partial(server.problems, uses), longest_s=LONGEST_PAUSE_S)
            for warning in warnings:
                logger.warning("%s: %s", name, warning)
            if wrong:
                raise Misconfigured(f"{name}: {'; '.join(wrong)}")
