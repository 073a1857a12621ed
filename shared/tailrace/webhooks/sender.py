"""Sends one message to one URL, which a caller has named.

Each socket is opened for the very address that was checked, so a name that resolves differently a moment later changes
nothing. TLS is verified against the name of the URL. Redirects are not followed, proxies and cookies of this process
are not used, and the body of the answer is not read. A message has a session of its own: its connection is not kept,
and the names of its owner wait for no other owner's (`resolver`).
"""

import errno
import socket
from collections.abc import Mapping

import aiohttp

from tailrace.webhooks.addresses import is_public
from tailrace.webhooks.resolver import OwnersResolver, Resolver

TIMEOUT_S = 10.0
"""From the name to the status of the answer."""

HEADERS = {"Content-Type": "application/json", "User-Agent": "Tailrace-Webhooks/1"}

NO_ADDRESS = "the name has no public address"
"""Also of a name that does not exist: a caller does not learn which names the host's own DNS knows."""


class Unreachable(Exception):
    """There was no answer; the text is the reason, with nothing of the URL but its host."""


class Sender:
    """Built without I/O; `close` ends its threads.

    `allow_private`: whether addresses are taken unchecked.
    """

    def __init__(self, *, allow_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._resolver = Resolver()

    async def send(self, owner: str, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """POST the body to a URL of this owner; the status of the answer.

        Raises:
            Unreachable: no answer within the timeout, or the address is not public.
        """
        all_headers = HEADERS | dict(headers)
        try:
            async with (
                self._session(owner) as session,
                session.post(url, data=body, headers=all_headers, allow_redirects=False) as response,
            ):
                return response.status
        except TimeoutError as error:
            raise Unreachable(f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(_reason(error)) from error

    async def close(self) -> None:
        """Send nothing more. What is under way is to be cancelled before."""
        self._resolver.close()

    def _session(self, owner: str) -> aiohttp.ClientSession:
        """A session for one message, without a cache of names, which owners would share."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=OwnersResolver(self._resolver, owner), socket_factory=self._open_socket,
                use_dns_cache=False, force_close=True,
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )  # fmt: skip

    def _open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """
        Raises:
            PermissionError: the address that the socket would be connected to is not public.
        """
        family, type_, proto, _, (host, *_) = info
        if not self._allow_private and not is_public(str(host)):
            raise PermissionError(errno.EACCES, NO_ADDRESS)
        return socket.socket(family, type_, proto)


def _reason(error: Exception) -> str:
    """The kind of an error. The text of aiohttp's has the whole URL, and bytes of the answer."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno in (socket.EAI_NONAME, errno.EACCES):
        return NO_ADDRESS
    kind, text = type(error).__name__, error.strerror if isinstance(error, OSError) else None
    return f"{kind}: {text}" if text else kind
