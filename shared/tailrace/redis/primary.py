"""One primary of a cluster, and how to connect to those that an address names."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from tailrace.errors import Misconfigured
from tailrace.redis.hash_slots import tags
from tailrace.redis.redirects import Address
from tailrace.redis.server import RedisServer


class Primary(RedisServer):
    """A server of a cluster that has slots. `slots`: which; `address`: where; `has_failed`: as the others see it."""

    address: Address = ("", 0)
    slots: Sequence[range] = ()
    has_failed = False

    def __str__(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    @property
    def tag(self) -> str:  # type: ignore[override]
        """A hash tag of the lowest of its slots. Keys of this server alone have it."""
        return tags()[self.slots[0].start]


class Connect(Protocol):
    """Makes the connections to a server."""

    def __call__(self, address: Address, *, quietly: bool) -> "Primary": ...


class Connector:
    """What `redis+cluster://[user:password@]host:port[,host:port…]` names; `rediss+cluster://` with TLS (`tls`).

    `seeds`: the addresses in it. `setting`: the variable that has it.

    Raises:
        Misconfigured: the address has another form.
    """

    def __init__(self, url: str, setting: str) -> None:
        parts = urlsplit(url)
        login, at, places = parts.netloc.rpartition("@")
        self._setting = setting
        self._scheme, self._login = parts.scheme.partition("+")[0], login + at
        self._query = f"?{parts.query}" if parts.query else ""
        self.tls = self._scheme == "rediss"
        try:
            self.seeds = [_address(place) for place in places.split(",")]
            if parts.path.strip("/") not in ("", "0"):
                raise ValueError
        except ValueError:  # its text may hold part of a password
            raise Misconfigured(
                f"{setting} is not the address of a cluster, as redis+cluster://127.0.0.1:7000,127.0.0.1:7001."
            ) from None

    def connect(self, address: Address, *, quietly: bool) -> Primary:
        """As `Connect`."""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        url = f"{self._scheme}://{self._login}{host}:{address[1]}/0{self._query}"
        server = Primary.connect(url, "" if quietly else self._setting, retries=0)
        server.address = address
        return server


def _address(place: str) -> Address:
    """
    Raises:
        ValueError
    """
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(place)
    return parts.hostname, parts.port or 6379
