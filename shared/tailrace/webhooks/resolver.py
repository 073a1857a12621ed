"""Resolves the names of receivers, so that the names of one owner do not delay those of another.

The operating system's `getaddrinfo` knows the names of the host's own configuration (`/etc/hosts`, NSS, search
domains). It blocks a thread, it cannot be cancelled, and it returns as late as a name's DNS server wants: 20 s with the
defaults of glibc and two servers. So it runs in threads of its own, apart from those that resolve upstreams, and an
owner has a few of them: its further names wait for its own. Sends of one owner to one name at the same time share a
look-up.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

OWNER_THREADS = 4
"""Names of one owner that are resolved at the same time."""

THREADS = 32 * OWNER_THREADS
"""A thread is started when no other one is idle. Measured: 128 that wait take 4 MB."""

ADDRESS_FLAGS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Name(NamedTuple):
    """A name that an owner asks for, as `getaddrinfo` takes it."""

    owner: str
    host: str
    port: int
    family: socket.AddressFamily


class Resolver:
    """The names of all owners. Built without I/O."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "webhook-names")
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._running: dict[Name, asyncio.Future[Sequence[Any]]] = {}

    async def resolve(self, name: Name) -> Sequence[Any]:
        """The addresses of a name, as `getaddrinfo` returns them.

        Raises:
            OSError: the name has no address.
            ValueError: no name can be so.
        """
        if name not in self._running:
            turn = self._turns.setdefault(name.owner, asyncio.Semaphore(OWNER_THREADS))
            await turn.acquire()
            if name in self._running:
                turn.release()
            else:
                self._look_up(name, turn)
        found = self._running[name]
        await asyncio.wait([found])  # a send that is cut off here leaves it running
        return found.result()

    def close(self) -> None:
        """Resolve nothing more. A look-up that has begun ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, name: Name, turn: asyncio.Semaphore) -> None:
        look_up = partial(socket.getaddrinfo, name.host, name.port, name.family, socket.SOCK_STREAM)
        self._running[name] = asyncio.get_running_loop().run_in_executor(self._threads, look_up)

        def end(found: asyncio.Future[Sequence[Any]]) -> None:
            del self._running[name]
            turn.release()  # not before: the thread was held until now
            if not found.cancelled():
                found.exception()  # perhaps no send waits for it any more

        self._running[name].add_done_callback(end)


class OwnersResolver(AbstractResolver):
    """The resolver as one owner's connections use it."""

    def __init__(self, resolver: Resolver, owner: str) -> None:
        self._resolver = resolver
        self._owner = owner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Raises:
            OSError, ValueError: as `Resolver.resolve`.
        """
        found = await self._resolver.resolve(Name(self._owner, host, port, family))
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=each_family, proto=proto, flags=ADDRESS_FLAGS
            )
            for each_family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing: the resolver serves other owners, too."""
