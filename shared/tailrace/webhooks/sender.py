"""Sends one message to one URL, which a caller has named.

Each socket is opened for the very address that was checked, so a name that resolves differently a moment later changes
nothing. TLS is verified against the name of the URL. Redirects are not followed, proxies and cookies of this process
are not used, and the body of the answer is not read. Names are resolved in threads of their own: a name that takes long
must not delay the names of upstreams, which share the default ones.
"""

import asyncio
import errno
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tailrace.webhooks.addresses import is_public

TIMEOUT_S = 10.0
"""From the name to the status of the answer."""

RESOLVERS = 8
ADDRESS_FLAGS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
HEADERS = {"Content-Type": "application/json", "User-Agent": "Tailrace-Webhooks/1"}


class Unreachable(Exception):
    """There was no answer; the text is the reason."""


class Sender:
    """Built without I/O; the first call opens a session, `close` closes it.

    `allow_private`: whether addresses are taken unchecked.
    """

    def __init__(self, *, allow_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._resolver: Resolver | None = None
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """POST the body; the status of the answer.

        Raises:
            Unreachable: no answer within the timeout, or the address is not public.
        """
        session = self._session or self._open_session()
        all_headers = HEADERS | dict(headers)
        try:
            async with session.post(url, data=body, headers=all_headers, allow_redirects=False) as response:
                return response.status
        except TimeoutError as error:
            raise Unreachable(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        if self._session is not None and self._resolver is not None:
            await self._session.close()
            await self._resolver.close()

    def _open_session(self) -> aiohttp.ClientSession:
        """(A connection is not kept: its receiver may close it at the moment in which it is used again.)"""
        self._resolver = Resolver()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, resolver=self._resolver, socket_factory=self._open_socket
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session

    def _open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """
        Raises:
            PermissionError: the address that the socket would be connected to is not public.
        """
        family, type_, proto, _, (host, *_) = info
        if not self._allow_private and not is_public(str(host)):
            raise PermissionError(errno.EACCES, "the name resolves to an address that is not public")
        return socket.socket(family, type_, proto)


class Resolver(AbstractResolver):
    """The names of the operating system."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVERS, "webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Raises:
            OSError: the name has no address.
        """
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=each_family, proto=proto, flags=ADDRESS_FLAGS
            )
            for each_family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
