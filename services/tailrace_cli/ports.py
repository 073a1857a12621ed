"""The ports of `tailrace dev`. They are bound and listening before any child starts (`tailrace.process.listeners`)."""

import errno
import socket
from types import TracebackType
from typing import Self

from tailrace.errors import Misconfigured
from tailrace_cli import local_http

TRIES = 100
BACKLOG = 2048
ASK_S = 1.0
EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class BoundPort:
    """One port, bound on every address of a host; closed with the block.

    `number` is the port. `taken_by` describes the program that has the port that was asked for, if this is another one.
    """

    def __init__(self, host: str, sockets: list[socket.socket], taken_by: str = "") -> None:
        self.sockets = sockets
        self.number = int(sockets[0].getsockname()[1])
        self.url = url_of(host, self.number)
        self.taken_by = taken_by

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets of this process; those of its children stay open."""
        for each in self.sockets:
            each.close()


def bind(host: str, port: int, *, is_chosen: bool = True) -> BoundPort:
    """Bind a port and listen on it. 0 picks a free one. `is_chosen`: whether it must be this port; otherwise it is the
    first free one from there on.

    Raises:
        Misconfigured: the port is taken, or this machine has no such address, or this user may not have it.
    """
    candidates = range(port, port + 1 if is_chosen or port == 0 else min(port + TRIES, 65536))
    for number in candidates:
        try:
            sockets = _listen(host, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise Misconfigured(f"cannot listen on {host}:{number}: {error.strerror or error}") from None
        else:
            return BoundPort(host, sockets, describe_holder(host, port) if number != port else "")
    if len(candidates) > 1:
        raise Misconfigured(f"the ports {port} to {candidates[-1]} are taken; choose another with --port")
    raise Misconfigured(f"port {port} is taken by {describe_holder(host, port)}; choose another with --port")


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, all with the same port. An address that this machine lacks is left out, if
    there is another: `localhost` often has one of IPv6 where IPv6 is off."""
    addresses = dict.fromkeys(
        (family, address)
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    )
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, (name, _, *scope) in addresses:
        number = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_listener(family, (name, number, *scope)))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                _close(sockets)
                raise
            missing = error
    if missing and not sockets:
        raise missing
    return sockets


def _listener(family: int, address: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def url_of(host: str, port: int) -> str:
    """The address at which a browser of this machine finds the port."""
    host = EVERY_INTERFACE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def describe_holder(host: str, port: int) -> str:
    """Which program listens on the port, as far as it answers."""
    url = url_of(host, port)
    match local_http.get_json(f"{url}/dev", timeout_s=ASK_S):
        case {"dev": {"pid": int(pid)}}:
            return f"another `tailrace dev` (pid {pid})"
    try:
        is_tailrace = b"Tailrace" in local_http.get(f"{url}/tailrace.js", timeout_s=ASK_S)
    except OSError:
        is_tailrace = False
    return "another Tailrace" if is_tailrace else "another program"
