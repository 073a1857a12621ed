"""The product as processes: Valkey, a scripted upstream, workers and frontends, each on a free port."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
from starlette.types import ASGIApp

from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import EmbeddedServer, free_port
from tailrace_demo import running

READY_S = 20.0


class Process:
    """A `tailrace` command as a process of its own."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], output: Path) -> None:
        self._arguments = arguments
        self._environment = dict(environment)
        self._output = output
        self._process: asyncio.subprocess.Process | None = None

    @property
    def role(self) -> str:
        """The command."""
        return self._arguments[0]

    @property
    def environment(self) -> dict[str, str]:
        return self._environment

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until its output contains this text, so many times."""
        deadline = asyncio.get_running_loop().time() + READY_S
        while self.output.count(text) < times:
            assert asyncio.get_running_loop().time() < deadline, self.output
            await asyncio.sleep(0.02)

    async def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tailrace_cli", *self._arguments,
                env=self._environment, stdout=output, stderr=output, preexec_fn=die_with_parent,
            )  # fmt: skip

    async def restart_with(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        await self.start()

    def send(self, sign: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(sign)

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int | None:
        """Send the signal and wait; the exit status, or None if it was not running."""
        if self._process is None or self._process.returncode is not None:
            return None
        self._process.send_signal(sign)
        return await self._process.wait()


class Frontend(Process):
    """A frontend; its port is kept over restarts."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + READY_S
        async with aiohttp.ClientSession() as http:
            while asyncio.get_running_loop().time() < deadline:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/healthz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.02)
        raise AssertionError(f"the frontend is not ready:\n{self.output}")


class Worker(Process):
    """A worker. `operations_port`: of its probes and metrics; it is kept over restarts."""

    operations_port: int


class Stack:
    """Redis, workers and frontends. `settings` are those of every process, without `TAILRACE_`."""

    def __init__(self, root: Path, upstream: str, settings: Mapping[str, str]) -> None:
        self.root = root
        self.upstream = upstream
        self.redis = EmbeddedServer(root / "valkey")
        self.workers: list[Worker] = []
        self.frontends: list[Frontend] = []
        self._numbers = itertools.count()
        self.environment = {
            "PATH": os.environ["PATH"],
            "TAILRACE_REDIS_URL": self.redis.url,
            "TAILRACE_DRAIN_S": "1",
            "TAILRACE_DRAIN_ACCEPT_S": "0",  # nothing balances connections here
            "OPENAI_BASE_URL": upstream,
            "OPENAI_API_KEY": "sk-upstream-secret",
            **{f"TAILRACE_{name.upper()}": value for name, value in settings.items()},
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},  # coverage.py's
        }

    @property
    def url(self) -> str:
        return self.frontends[0].url

    @property
    def metrics_ports(self) -> list[int]:
        """The ports of all processes that answer `/metrics`: those of the frontends first."""
        return [*(each.port for each in self.frontends), *(each.operations_port for each in self.workers)]

    async def add_worker(self, **settings: str) -> Worker:
        port = free_port()
        environment = self._with({"worker_operations_address": f"127.0.0.1:{port}", **settings})
        worker = Worker("worker", environment=environment, output=self._output("worker"))
        worker.operations_port = port
        self.workers.append(worker)
        await worker.start()
        return worker

    async def point_workers_at(self, upstream: str) -> None:
        """Restart the workers with another upstream."""
        self.environment["OPENAI_BASE_URL"] = self.upstream = upstream
        for worker in self.workers:
            await worker.stop()
            address = {"worker_operations_address": f"127.0.0.1:{worker.operations_port}"}
            await worker.restart_with(self._with(address))

    async def add_frontend(self, **settings: str) -> Frontend:
        port = free_port()
        frontend = Frontend(
            "frontend", "--port", str(port), environment=self._with(settings),
            output=self._output("frontend"),
        )  # fmt: skip
        frontend.port = port
        self.frontends.append(frontend)
        await frontend.start()
        await frontend.ready()
        return frontend

    def forget(self, process: Process) -> None:
        """Leave a process that ends to the caller."""
        if isinstance(process, Frontend):
            self.frontends.remove(process)
        elif isinstance(process, Worker):
            self.workers.remove(process)

    def _output(self, role: str) -> Path:
        return self.root / f"{role}-{next(self._numbers)}.log"

    def _with(self, settings: Mapping[str, str]) -> dict[str, str]:
        return self.environment | {f"TAILRACE_{name.upper()}": value for name, value in settings.items()}

    async def stop(self) -> None:
        for process in [*self.frontends, *self.workers]:
            await process.stop()
        self.redis.stop()


@contextlib.asynccontextmanager
async def stack(
    *, workers: int = 1, frontends: int = 1, app: ASGIApp | None = None, **settings: str
) -> AsyncIterator[Stack]:
    """A whole product on the scripted upstream, or on this one; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="tailrace-", ignore_cleanup_errors=True) as folder:
        async with running(app=app) as upstream:
            product = Stack(Path(folder), upstream, settings)
            product.redis.start()
            try:
                for _ in range(frontends):
                    await product.add_frontend()
                for _ in range(workers):
                    await product.add_worker()
                yield product
            finally:
                await product.stop()
