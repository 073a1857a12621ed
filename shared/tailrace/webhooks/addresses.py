"""The addresses that webhooks may be sent to.

A caller names the URL, so it must not reach what only this host can reach. A name is not checked when it is registered:
it may resolve to another address a second later. The address is checked that a socket is about to connect to
(`sender`), whether it was resolved or is part of the URL.
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from tailrace.errors import InvalidValue

MAX_URL = 2048
NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocols of the IETF; not global since Python 3.12.4
    IPv4Network("192.88.99.0/24"),  # the nearest 6to4 relay, RFC 7526
    IPv4Network("168.63.129.16/32"),  # Azure's own services for a host, under the same address on each
    IPv6Network("2001:20::/28"),  # names of hosts that no router knows, RFC 7343; not global since Python 3.11.4
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
"""Networks that `ipaddress` takes for global ones."""

NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address that a gateway connects to."""

ISATAP = 0x5EFE
"""RFC 5214: the upper half of an interface id, whose lower half is the IPv4 address that a router sends to."""

ISATAP_UNIQUE = 0x0200_0000
"""A bit of that half: whether the IPv4 address is unique."""


def is_public(address: str) -> bool:
    """Whether every host of the internet reaches the same one under this address."""
    given = ip_address(address.partition("%")[0])
    if any(given in network for network in NOT_PUBLIC):
        return False
    if isinstance(given, IPv4Address):
        return given.is_global and not given.is_multicast
    if carried := _carried_address(given):
        return is_public(str(carried))
    return given.is_global and not (given.is_multicast or given.is_site_local or given.is_reserved)


def _carried_address(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one are sent on to."""
    high, low = divmod(int(address) & (1 << 64) - 1, 1 << 32)
    if address in NAT64 or high & ~ISATAP_UNIQUE == ISATAP:
        return IPv4Address(low)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def check_url(url: str, *, allow_private: bool) -> None:
    """Check what can be seen of a URL without resolving its name.

    Raises:
        InvalidValue: webhooks cannot be sent to this URL.
    """
    if problem := _problem(url, allow_private=allow_private):
        raise InvalidValue(f"url: {problem}", param="url")


def _problem(url: str, *, allow_private: bool) -> str | None:
    if len(url) > MAX_URL:
        return f"has more than {MAX_URL} characters"
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "may only have printable ASCII characters without spaces"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is malformed"
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        return "must begin with https://"
    if not host or port == 0 or "@" in parts.netloc or "\\" in url or parts.fragment:
        return "must be https://host[:port][/path][?query]"
    if not allow_private and _is_private(host.removesuffix(".")):
        return "names a private address"
    return None


def _is_private(host: str) -> bool:
    """Whether it is so without a look at DNS: a name of this host (RFC 6761), or an address as resolvers read it."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except (ValueError, OSError):
        return False  # a name
