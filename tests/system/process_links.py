"""The links of one process to the servers of the log, whose faults concern this process alone."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from support.cluster import Cluster
from system.chaos_stack import ChaosStack
from system.injectors import Link, link
from system.load import Run

UNNAMED = {"cluster-preferred-endpoint-type": "unknown-endpoint"}
"""Nodes of a cluster leave out their host when they redirect, so a client stays at the address by which it came."""


class ProcessLinks:
    """`settings`: of a process that connects by these links. Each fault of `Link` is switched for all of them, or for
    those to one port."""

    def __init__(self, links: list[Link], settings: dict[str, str]) -> None:
        self._links = links
        self.settings = settings

    @property
    def cuts(self) -> int:
        return sum(each.cuts for each in self._links)

    def switch(self, target: int | None = None, **faults: Any) -> None:
        """Set these attributes of each link, or of the one that leads to this port."""
        for each in self._links:
            if target in (None, each.target):
                for name, value in faults.items():
                    setattr(each, name, value)

    def cut(self) -> None:
        """Abort every connection now."""
        for each in self._links:
            each.cut()


@contextlib.asynccontextmanager
async def process_links(run: Run, stack: ChaosStack, number: int) -> AsyncIterator[ProcessLinks]:
    """Links for a process; `number`: another one for each process, from 0. A node of a cluster has its own port at
    another address of loopback; a single server has another port."""
    async with contextlib.AsyncExitStack() as opened:
        if isinstance(stack.log, Cluster):
            host = f"127.0.0.{number + 2}"
            ports = [node.port for node in stack.log.nodes]
            links = [await opened.enter_async_context(link(port, run.rng, host, port)) for port in ports]
            yield ProcessLinks(links, {"redis_url": stack.log.url_at(host)})
        else:
            one = await opened.enter_async_context(link(stack.log.port, run.rng))
            yield ProcessLinks([one], {"redis_url": f"redis://127.0.0.1:{one.port}/0"})
