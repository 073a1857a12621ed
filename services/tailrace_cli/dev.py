"""`tailrace dev`: the whole product in one command, on an embedded server whose data is kept between runs.

    demo model ── worker ── Valkey ── frontend        (the demo model only where there is no other upstream)

Each part runs in a process of its own, as in production, so each part can be killed to see what happens. One Ctrl-C
stops all of them: first the frontend and the worker, which drain, then the rest.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import webbrowser
from typing import Self

from pydantic import SecretStr

from tailrace.errors import InvalidRequest, TailraceError
from tailrace.lifecycle.lost_worker import expire_leases, hand_over
from tailrace.log import Log
from tailrace.process import requested_kill
from tailrace.process.listeners import environment_for
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Queue
from tailrace.queue.models import UpstreamModels
from tailrace.queue.presence import WorkerPresence
from tailrace.redis.server import RedisServer
from tailrace.settings import DEV_PROCESSES, Settings, load
from tailrace_cli import banner, data_dir, ports, process_table, upstreams
from tailrace_cli.children import Child, OnExit
from tailrace_cli.embedded import EmbeddedServer
from tailrace_cli.load import LoadPlan, run_load
from tailrace_cli.load_mix import MAX_RATE, callers_in, description
from tailrace_cli.ports import BoundPort
from tailrace_cli.process_table import ProcessTable
from tailrace_cli.upstreams import Upstream
from tailrace_frontend.models import AllowedModels

STOP_S = 15.0
LOAD_END_S = 5.0
IDLE_TIMEOUT = "TAILRACE_UPSTREAM_IDLE_TIMEOUT_S"
DEMO_IDLE_TIMEOUT_S = "5"
"""The demo model never thinks for long: who watches it stall need not wait a minute for what Tailrace does then."""

DEFAULTS = {
    "drain_s": 1.0, "drain_accept_s": 0.0, "lease_s": 2.0, "retention_s": 7 * 86_400, "webhook_allow_private": True,
}  # fmt: skip
"""Settings that suit one machine, where they are not set. With a lease of 2 s a worker that hangs is replaced within
2.5 s; of one that exits the leases end at once (`_replace_worker`). Answers of yesterday can be opened."""

REPLACE_S = 1.0
"""For which a restart of the worker waits for Redis. The leases end by their time where Redis is slower."""

logger = logging.getLogger(__name__)


def main(
    settings: Settings, *, demo: bool = False, open_browser: bool = False, load_rate: float | None = None,
    has_faults: bool = True,
) -> int:  # fmt: skip
    """Run until Ctrl-C. `demo`: use the demo model, whatever other upstream there is. `load_rate`: generations a second
    that are created of it; `has_faults`: some of them fail, and workers are killed. Returns the exit status.

    Raises:
        Misconfigured: the port or the data directory is in use, or a setting is refused.
        InvalidRequest: the rate is out of range.
    """
    if load_rate is not None and not 0 < load_rate <= MAX_RATE:
        raise InvalidRequest(f"--load is a rate, above 0 and up to {MAX_RATE:g} generations a second")
    plan = None if load_rate is None else LoadPlan(load_rate, has_faults)
    return asyncio.run(_run(with_defaults(settings), wants_demo=demo, opens_browser=open_browser, plan=plan))


def with_defaults(settings: Settings) -> Settings:
    """The settings, with those of DEFAULTS that are not set."""
    return load(**DEFAULTS | {name: getattr(settings, name) for name in settings.model_fields_set})


def with_ticket_secret(settings: Settings) -> Settings:
    """The settings, with a secret that is kept in the data directory where keys need one and none is set."""
    if not settings.has_callers or settings.ticket_secret.get_secret_value():
        return settings
    return settings.model_copy(update={"ticket_secret": SecretStr(data_dir.ticket_secret(settings.data_dir))})


async def _run(settings: Settings, *, wants_demo: bool, opens_browser: bool, plan: LoadPlan | None) -> int:
    settings = with_ticket_secret(settings)
    settings.check_frontend()
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(
            ports.bind(settings.host, settings.port, is_chosen="port" in settings.model_fields_set)
        )
        server = EmbeddedServer(settings.data_dir, holder=f"{port.url}, pid {os.getpid()}")
        server.start()
        stack.callback(server.stop)
        data_dir.write_frontend_url(server.data_dir, port.url)
        stack.callback(data_dir.forget_frontend_url, server.data_dir)
        upstream = await asyncio.to_thread(
            upstreams.choose, wants_demo=wants_demo or plan is not None, settings=settings
        )
        processes = stack.enter_context(Processes(settings, server, port, upstream, plan))
        return await processes.run(stopping, opens_browser=opens_browser)


class Processes:
    """The children of `tailrace dev`, with the port and the file that they share. `plan`: of the load, if any."""

    def __init__(
        self, settings: Settings, server: EmbeddedServer, port: BoundPort, upstream: Upstream,
        plan: LoadPlan | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._server = server
        self._port = port
        self._upstream = upstream
        self._plan = plan
        self._is_loaded = False
        self._ending = asyncio.Event()
        self._table = ProcessTable(server.data_dir / process_table.FILE)
        self._demo_port = None if upstream.environment is not None else ports.bind("127.0.0.1", 0)
        self._children = self._create_children()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.remove()
        if self._demo_port:
            self._demo_port.close()

    def _create_children(self) -> list[Child]:
        """In the order in which they are started; the last two are the worker and the frontend."""
        given = {f"TAILRACE_{name.upper()}": str(getattr(self._settings, name)) for name in (*DEFAULTS, "host")}
        own = {
            "TAILRACE_REDIS_URL": self._server.url,
            "TAILRACE_QUEUE_URL": "",
            "TAILRACE_PORT": str(self._port.number),
            DEV_PROCESSES: str(self._table.path),
        }
        if self._upstream.environment is None:
            own["TAILRACE_CONFIG"] = ""  # --demo: the demo model, whatever the file has
        if self._settings.has_callers:
            own["TAILRACE_TICKET_SECRET"] = self._settings.ticket_secret.get_secret_value()
        environment = {**os.environ, **given, **own, **(self._upstream.environment or {})}
        children = []
        if self._demo_port:
            children.append(self._child("demo-model", environment, self._demo_port))
            environment |= {"OPENAI_BASE_URL": f"{self._demo_port.url}/v1", "OPENAI_API_KEY": "demo"}
            environment.setdefault(IDLE_TIMEOUT, DEMO_IDLE_TIMEOUT_S)
        worker = self._child("worker", environment, on_exit=self._replace_worker)
        return [*children, worker, self._child("frontend", environment, self._port)]

    def _child(
        self, name: str, environment: dict[str, str], port: BoundPort | None = None, *, on_exit: OnExit | None = None
    ) -> Child:
        sockets = port.sockets if port else []
        environment = {**environment, **(environment_for(sockets) if sockets else {})}
        return Child(name, environment=environment, sockets=sockets, on_start=self._table.record, on_exit=on_exit)

    async def _replace_worker(self, worker: str, pid: int) -> None:
        """End the leases of a worker that has exited: in production, where no process knows of that, they end by their
        time. What a worker ran that the page has killed is handed over: no generation was the cause."""
        settings = self._settings.model_copy(update={"redis_url": self._server.url, "queue_url": ""})
        log, queue = Log.connect(settings), Queue.connect(settings)
        try:
            async with asyncio.timeout(REPLACE_S):
                if requested_kill.take(self._table.path, pid):
                    await hand_over(log, queue, worker)
                else:
                    await expire_leases(log, worker)
        except (TimeoutError, TailraceError) as error:
            logger.warning("the leases of the worker end by their time: %s", str(error) or type(error).__name__)
        finally:
            await log.server.close()
            await queue.server.close()

    async def run(self, stopping: asyncio.Event, *, opens_browser: bool) -> int:
        """Run all of them until `stopping` is set, or one cannot start. Returns the exit status."""
        self._table.record("dev", os.getpid())
        running = [asyncio.create_task(child.keep_running(), name=child.name) for child in self._children]
        waiting = asyncio.create_task(stopping.wait())
        beside = asyncio.create_task(self._greet_and_load(opens_browser=opens_browser), name="greeting and load")
        done, _ = await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
        self._ending.set()
        if self._is_loaded:
            await asyncio.wait([beside], timeout=LOAD_END_S)
        await cancel_and_wait(beside)
        if waiting in done:
            if sys.stderr.isatty():
                print(file=sys.stderr)  # after ^C
            logger.info("stopping")
        waiting.cancel()
        await self._stop()
        await asyncio.gather(*running)
        return 0 if waiting in done else 1

    async def _stop(self) -> None:
        worker, frontend = self._children[-2:]

        async def stop_frontend() -> None:
            await frontend.stop(STOP_S)
            self._port.close()  # from now on connections are refused

        await asyncio.gather(stop_frontend(), worker.stop(STOP_S))
        await asyncio.gather(*(child.stop(STOP_S) for child in self._children))

    async def _greet_and_load(self, *, opens_browser: bool) -> None:
        if not await self._greet(opens_browser=opens_browser) or self._plan is None:
            return
        settings = self._settings.model_copy(update={"redis_url": self._server.url, "queue_url": ""})
        worker, _ = self._children[-2:]
        self._is_loaded = True
        try:
            await run_load(settings, self._plan, self._port.url, worker.kill, self._ending)
        except Exception:
            logger.exception("the load has ended")

    async def _greet(self, *, opens_browser: bool) -> bool:
        """Print the banner once everything runs, and open the page if that is wanted. Whether everything runs."""
        redis = RedisServer.connect(self._server.url)
        try:
            workers = WorkerPresence(redis, lease_ms=self._settings.lease_ms)
            if missing := await banner.wait_until_ready(self._port.url, workers):
                logger.error("%s after %.0f s", missing, banner.READY_S)
                return False
            models, problem = await banner.fetch_models(UpstreamModels(redis))
        finally:
            await redis.close()
        print(self._banner(models, problem), flush=True)
        if opens_browser and not await asyncio.to_thread(webbrowser.open, self._port.url):
            logger.warning("there is no browser to open %s", self._port.url)
        return True

    def _banner(self, upstream_models: list[str], problem: str) -> str:
        settings = self._settings
        allowed = AllowedModels(settings.models, settings.models_per_caller, settings.model)
        taken_by = self._port.taken_by
        children = [(each.name, self._table.pid_of(each.name) or 0) for each in self._children]
        return banner.text(
            url=self._port.url,
            note=f"port {settings.port} is taken by {taken_by}; --port chooses one" if taken_by else "",
            upstream=self._upstream.description,
            models=allowed.names_for("", upstream_models),
            no_models=problem,
            redis=self._server.url,
            data_dir=self._server.data_dir,
            retention_s=settings.retention_s,
            processes=[*reversed(children), ("Valkey", self._server.pid)],
            load=self._load_description(),
        )

    def _load_description(self) -> str:
        if self._plan is None:
            return ""
        names = list(callers_in(self._settings))
        return description(self._plan.rate, names, self._port.url, has_faults=self._plan.has_faults)
