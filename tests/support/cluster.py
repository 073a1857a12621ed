"""Valkey Cluster as processes on loopback: it is formed, and its nodes die, pause, fail over, join and leave.

`support.slot_moves` moves slots between the nodes.
"""

import contextlib
import random
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from support.cluster_node import Node, Peer, until
from tailrace.errors import Misconfigured
from tailrace_cli.embedded import EmbeddedServer

SLOTS = 16384
PRIMARIES = 3
NODE_TIMEOUT_MS = 1000
PORTS = range(10_000, 22_000)
BUS = 10_000
"""Nodes have ports below those that the system gives to outgoing connections: one that is dead keeps its port free."""

CONFIG = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": str(NODE_TIMEOUT_MS),
    "repl-ping-replica-period": "1",
    "repl-diskless-sync-delay": "0",
}


class Cluster:
    """Primaries with a replica each. `config`: keys of `valkey.conf` of every node."""

    def __init__(
        self,
        root: Path,
        *,
        primaries: int = PRIMARIES,
        replicas: int = 1,
        config: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.root = root
        self.nodes: list[Node] = []
        self._config = {**CONFIG, **config}
        self._primaries = primaries
        self._replicas = replicas

    @property
    def url(self) -> str:
        return self.url_at("127.0.0.1")

    def url_at(self, host: str) -> str:
        """The address with the first nodes' ports at another address of loopback."""
        return f"redis+cluster://{','.join(f'{host}:{node.port}' for node in self.nodes[: self._primaries])}"

    # ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def form(self) -> None:
        """Start the nodes, share the slots among the first ones, and wait until all agree."""
        for _ in range(self._primaries * (1 + self._replicas)):
            await self.add_process()
        primaries, replicas = self.nodes[: self._primaries], self.nodes[self._primaries :]
        for i, node in enumerate(primaries):
            first, end = SLOTS * i // len(primaries), SLOTS * (i + 1) // len(primaries)
            await node.execute("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            await node.execute("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        await self._meet(self.nodes)
        for i, node in enumerate(replicas):
            await until(partial(_replicates, node, primaries[i % len(primaries)]), f"{node} is no replica")
        await self.wait_until_agreed()
        for node in replicas:
            await until(partial(_is_synced, node), f"{node} is not synced")

    async def add_process(self) -> Node:
        """Start a node that knows no other one."""
        while True:
            server = EmbeddedServer(self.root / f"node-{len(self.nodes)}", port=_free_port(), **self._config)
            node = Node(server)
            try:
                node.start()
            except Misconfigured:  # another process has taken the port in this moment
                continue
            node.id = await node.execute("CLUSTER", "MYID")
            self.nodes.append(node)
            return node

    async def _meet(self, nodes: Iterable[Node]) -> None:
        """Introduce these nodes to each other. Gossip alone would take seconds."""
        nodes = list(nodes)
        for i, node in enumerate(nodes):
            for other in nodes[:i]:
                await node.execute("CLUSTER", "MEET", "127.0.0.1", other.port, other.port + BUS)
        for node in nodes:
            await until(partial(_knows, node, [each.id for each in nodes]), f"{node} does not know all")

    async def join(self) -> Node:
        """A new primary without slots, which all others know."""
        node = await self.add_process()
        await self._meet([*(each for each in self.nodes if each.is_up and each is not node), node])
        await self.wait_until_agreed()
        return node

    async def join_as_replica(self, primary: Node) -> Node:
        node = await self.join()
        await self.replicate(node, primary)
        return node

    async def replicate(self, node: Node, primary: Node) -> None:
        """Make a node without slots the replica of this primary."""
        await until(partial(_replicates, node, primary), f"{node} is no replica")
        await until(partial(_is_synced, node), f"{node} is not synced")
        await self.wait_until_agreed()

    async def forget(self, node: Node) -> None:
        """Stop a node that has no slots and no replica, and make all others forget it."""
        node.kill()
        for other in self.running:
            with contextlib.suppress(RedisError):  # another one has passed that on already
                await other.execute("CLUSTER", "FORGET", node.id)
        self.nodes.remove(node)
        await self.wait_until_agreed()

    def kill(self) -> None:
        """SIGKILL to every process."""
        for node in self.nodes:
            node.kill()

    def start(self) -> None:
        """Start all nodes after `kill`. They agree some seconds later (`wait_until_agreed`)."""
        for node in self.nodes:
            node.start()

    # ── who is what ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> list[Node]:
        """The nodes that are neither dead nor paused."""
        return [node for node in self.nodes if node.is_up]

    def node(self, node_id: str) -> Node:
        return next(node for node in self.nodes if node.id == node_id)

    async def peers(self) -> dict[str, Peer]:
        """What a running node knows of all nodes."""
        return await self.running[0].peers()

    async def primaries(self) -> list[Node]:
        """The primaries with slots."""
        return [self.node(peer.id) for peer in (await self.peers()).values() if peer.slots]

    async def primary_of(self, key: str | int) -> Node:
        """The primary of a key, or of a slot."""
        slot = slot_of(key)
        return self.node(next(peer.id for peer in (await self.peers()).values() if slot in peer.slots))

    async def replica_of(self, primary: Node) -> Node:
        """A running replica of this primary."""
        peers = (await self.peers()).values()
        return next(node for peer in peers if peer.primary == primary.id and (node := self.node(peer.id)).is_up)

    async def wait_until_agreed(self) -> None:
        """Wait until all running nodes report the same owners of all slots, and none that is dead as alive."""
        await until(self._is_agreed, "the nodes do not agree")

    async def _is_agreed(self) -> bool:
        views, alive = set(), {node.id for node in self.running}
        for node in self.running:
            info, peers = await node.info("cluster"), await node.peers()
            if info["cluster_state"] != "ok" or not alive <= peers.keys():
                return False
            if any(peers[each].flags & {"fail", "fail?", "handshake"} for each in alive):
                return False
            views.add(frozenset((peer.id, peer.primary, peer.slots) for peer in peers.values() if peer.id in alive))
        return len(views) == 1

    # ── failover ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def fail_over(self, primary: Node, mode: str = "") -> Node:
        """Promote its replica; `mode`: "" with the primary's help, `FORCE` or `TAKEOVER`. Returns the new primary."""
        replica = await self.replica_of(primary)
        await replica.execute("CLUSTER", "FAILOVER", *([mode] if mode else []))
        await self.wait_for_promotion(replica)
        return replica

    async def wait_for_promotion(self, replica: Node) -> None:
        """Wait until a node has become a primary with slots, by its own view."""
        await until(partial(_has_slots, replica), f"{replica} is not promoted")


def slot_of(key: str | int) -> int:
    """The slot of a key; a slot is its own."""
    return key if isinstance(key, int) else int(key_slot(key.encode()))


async def _knows(node: Node, ids: Collection[str]) -> bool:
    peers = await node.peers()
    return all(each in peers and "handshake" not in peers[each].flags for each in ids)


async def _replicates(node: Node, primary: Node) -> bool:
    """Whether it replicates this primary; it is asked to each time, as it may not know the primary as one yet."""
    if (await node.peers())[node.id].primary == primary.id:
        return True
    return bool(await node.execute("CLUSTER", "REPLICATE", primary.id) == "OK")


async def _is_synced(node: Node) -> bool:
    return (await node.info("replication")).get("master_link_status") == "up"


async def _has_slots(node: Node) -> bool:
    return bool((await node.peers())[node.id].slots)


def _free_port() -> int:
    """A port that is free now, as is the one of the bus that belongs to it."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            return port


@contextlib.asynccontextmanager
async def running_cluster(root: Path, **options: Any) -> AsyncIterator[Cluster]:
    """A cluster that ends with the block."""
    cluster = Cluster(root, **options)
    try:
        await cluster.form()
        yield cluster
    finally:
        cluster.kill()
