"""One process of a Valkey Cluster on loopback, and what it knows of the others."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tailrace_cli.embedded import EmbeddedServer

TIMEOUT_S = 30.0
POLL_S = 0.02


class Peer(NamedTuple):
    """A node as another one sees it. `primary`: the id of the node that it replicates, "" for a primary."""

    id: str
    port: int
    flags: frozenset[str]
    primary: str
    slots: frozenset[int]


class Node:
    """One process of a cluster. `id` is known once it has started."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.id = ""
        self.is_up = False

    def __repr__(self) -> str:
        return f"<node {self.id[:8]} on port {self.port}{'' if self.is_up else ', down'}>"

    @property
    def port(self) -> int:
        return self.server.port

    async def execute(self, *command: Any) -> Any:
        """The reply to one command, as text where it is text."""
        async with Redis(port=self.port, decode_responses=True, socket_timeout=TIMEOUT_S) as client:
            return await client.execute_command(*command)

    async def peers(self) -> dict[str, Peer]:
        """All nodes that this one knows, with itself."""
        return {peer.id: peer for peer in map(_peer, (await self.execute("CLUSTER", "NODES")).splitlines())}

    async def info(self, section: str) -> dict[str, str]:
        """The fields of `INFO`; of `CLUSTER INFO` for the section `cluster`."""
        command = ("CLUSTER", "INFO") if section == "cluster" else ("INFO", section)
        reply = await self.execute(*command)
        if isinstance(reply, dict):  # redis-py parses INFO
            return {name: str(value) for name, value in reply.items()}
        return dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)

    def start(self) -> None:
        self.server.start()
        self.is_up = True

    def kill(self) -> None:
        """SIGKILL, in whatever state it is."""
        self.is_up = False
        self.server.kill()

    def pause(self) -> None:
        """SIGSTOP: its connections stay open, and nothing is answered on them."""
        self.is_up = False
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.server.pid, signal.SIGCONT)
        self.is_up = True


async def until(condition: Callable[[], Any], failure: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until an awaitable condition holds. A server that refuses or does not answer does not fulfil it."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(RedisError, OSError):
            if await condition():
                return
        assert time.monotonic() < deadline, failure
        await asyncio.sleep(POLL_S)


def _peer(line: str) -> Peer:
    """A line of `CLUSTER NODES`: id, address, flags, primary, ping, pong, epoch, link, and the ranges of slots."""
    node_id, address, flags, primary, _, _, _, _, *ranges = line.split()
    slots: set[int] = set()
    for each in ranges:
        if not each.startswith("["):  # one that is being moved
            first, _, last = each.partition("-")
            slots.update(range(int(first), int(last or first) + 1))
    port = int(address.partition("@")[0].rpartition(":")[2])
    return Peer(node_id, port, frozenset(flags.split(",")), primary.strip("-"), frozenset(slots))
