"""The product under test as processes, with the faults that were injected into it.

The log is on one server, or on a cluster, which dies, starts and goes back in time as a whole. Beside a cluster, the
queue has a server of its own.
"""

import asyncio
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from support.cluster import Cluster
from support.stack import Frontend, Process, Stack
from system import canaries
from system.wire_client import ask
from tailrace_cli.embedded import EmbeddedServer
from tailrace_demo import running

Topology = Literal["server", "cluster"]

LEASE_S = 1.5
PROBE = Path(__file__).parent / "probe"


class ChaosStack(Stack):
    """Valkey, upstream, workers and frontends. `faults`: times of the injected faults (monotonic).

    `log` has the logs, `queue` the queue: mostly the same server.
    """

    def __init__(
        self,
        root: Path,
        upstream: str,
        sources: list[Path],
        settings: dict[str, str],
        log: EmbeddedServer | Cluster,
        queue: EmbeddedServer | None,
    ) -> None:
        super().__init__(root, upstream, settings)
        self.log = log
        if queue is None:
            assert isinstance(log, EmbeddedServer)
            self.queue: EmbeddedServer = log
        else:
            self.queue = queue
        self.faults: list[float] = []
        self.environment |= {
            "TAILRACE_REDIS_URL": log.url,
            "TAILRACE_QUEUE_URL": queue.url if queue else "",
            "CHAOS_PROBE": str(root),
            "PYTHONPATH": os.pathsep.join(map(str, [*sources, PROBE])),
        }

    @property
    def ports(self) -> list[int]:
        return [frontend.port for frontend in self.frontends]

    @property
    def upstream_port(self) -> int:
        return int(self.upstream.rpartition(":")[2].partition("/")[0])

    @property
    def processes(self) -> list[Process]:
        return [*self.frontends, *self.workers]

    @property
    def cluster(self) -> Cluster:
        """The log's cluster, where it has one."""
        assert isinstance(self.log, Cluster)
        return self.log

    @property
    def log_servers(self) -> list[EmbeddedServer]:
        """All processes that store logs."""
        return [node.server for node in self.log.nodes] if isinstance(self.log, Cluster) else [self.log]

    async def log_primaries(self) -> list[EmbeddedServer]:
        """Those that accept writes now."""
        return [node.server for node in await self.log.primaries()] if isinstance(self.log, Cluster) else [self.log]

    @contextlib.asynccontextmanager
    async def client(self, server: EmbeddedServer) -> AsyncIterator[Redis]:
        """A connection of the injectors' own to this server."""
        async with Redis(host="127.0.0.1", port=server.port) as redis:
            yield redis

    @contextlib.asynccontextmanager
    async def log_client(self) -> "AsyncIterator[Redis | RedisCluster]":
        """A client for keys of the log."""
        if isinstance(self.log, Cluster):
            async with RedisCluster(host="127.0.0.1", port=self.log.nodes[0].port) as cluster:
                yield cluster
        else:
            async with self.client(self.log) as redis:
                yield redis

    async def on_each_primary(self, inject: Callable[[Redis], Awaitable[None]]) -> None:
        """Inject a fault by commands into every server that has logs."""
        for server in await self.log_primaries():
            async with self.client(server) as redis:
                await inject(redis)

    async def fill(self, workers: int, frontends: int) -> None:
        async with asyncio.TaskGroup() as starting:
            for _ in range(frontends):
                starting.create_task(self.add_frontend())
            for _ in range(workers):
                starting.create_task(self.add_worker())
        for worker in self.workers:
            await self.wait_until_working(worker)

    async def wait_until_working(self, worker: Process, starts: int = 1) -> None:
        """Wait until it takes generations, after so many starts."""
        try:
            await self.until(lambda: worker.output.count("runs up to") >= starts, 30, "")
        except AssertionError:
            raise AssertionError(f"a worker does not start:\n{worker.output[-2000:]}") from None

    async def until(self, condition: Callable[[], bool], timeout_s: float, failure: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(failure)
            await asyncio.sleep(0.02)

    def fault(self) -> float:
        """Record that a fault is injected now; its time."""
        self.faults.append(time.monotonic())
        return self.faults[-1]

    async def kill(self, process: Process) -> None:
        """SIGKILL, and start it again."""
        self.fault()
        process.send(signal.SIGKILL)
        await process.wait()
        await process.start()

    async def restart(self, process: Process) -> tuple[float, int]:
        """SIGTERM, and start it again; the seconds until it exited, and its status."""
        began = time.monotonic()
        process.send(signal.SIGTERM)
        status = await process.wait()
        took = time.monotonic() - began
        await process.start()
        if isinstance(process, Frontend):
            await process.ready()
        return took, status

    async def calls(self, tag: str) -> dict[str, int]:
        """The upstream's count of a generation's calls: started, open, finished, closed_by_client."""
        status, counts = await ask(self.upstream_port, "GET", f"/calls?script_id={tag}")
        assert status == 200, counts
        return {name: counts[name] for name in ("started", "open", "finished", "closed_by_client")}

    def lines_about(self, text: str) -> list[str]:
        """What the processes have logged with this text, and the faults' times."""
        files = sorted(self.root.glob("*.log"))
        lines = [f"{path.name}: {line}" for path in files for line in path.read_text().splitlines() if text in line]
        return [*lines, f"faults: {' '.join(f'{each:.3f}' for each in self.faults)}"]

    def leaks(self) -> list[str]:
        """What no process may log, and did."""
        logs = {path.name: path.read_text() for path in sorted(self.root.glob("*.log"))}
        return canaries.leaks(logs, canaries.secrets_of(self.environment))

    def tracebacks(self) -> list[str]:
        """The first traceback in the output of each process."""
        return [f"{path.name}: {tail}" for path in self.root.glob("*.log") if (tail := _traceback(path.read_text()))]


def _traceback(output: str) -> str:
    begin = output.find("Traceback (most recent call last)")
    return output[max(0, begin - 200) : begin + 6000] if begin >= 0 else ""


@contextlib.asynccontextmanager
async def chaos_stack(
    sources: list[Path],
    *,
    workers: int,
    frontends: int,
    config: dict[str, str],
    two_servers: bool,
    topology: Topology,
    **settings: str,
) -> AsyncIterator[ChaosStack]:
    """A whole product that stops with the block. `config`: of each server."""
    settings = {"lease_s": str(LEASE_S)} | settings
    with tempfile.TemporaryDirectory(prefix="tailrace-chaos-", ignore_cleanup_errors=True) as folder:
        async with running() as upstream:
            log = await _start_log(Path(folder), topology, config)
            queue = None
            if two_servers or topology == "cluster":
                queue = EmbeddedServer(Path(folder) / "queue", port=None, **config)
                queue.start()
            product = ChaosStack(Path(folder), upstream, sources, settings, log, queue)
            try:
                await product.fill(workers, frontends)
                yield product
            finally:
                await _kill(product)


async def _start_log(folder: Path, topology: Topology, config: dict[str, str]) -> EmbeddedServer | Cluster:
    if topology == "server":
        server = EmbeddedServer(folder / "valkey", port=None, **config)
        server.start()
        return server
    cluster = Cluster(folder / "cluster", config=config)
    await cluster.form()
    return cluster


async def _kill(product: ChaosStack) -> None:
    """Stop every process, in any state."""
    for process in product.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send(signal.SIGCONT)
    await asyncio.gather(*(process.stop(signal.SIGKILL) for process in product.processes))
    product.log.kill()
    product.queue.kill()


def seeded(seed: int, name: str) -> random.Random:
    return random.Random(f"{seed} {name}")
