"""The address of an upstream: what OPENAI_BASE_URL and `base_url` may be."""

from urllib.parse import urlsplit

FORM = "it begins with http:// or https:// and a host, as in http://127.0.0.1:8000/v1"
"""What the address must be, for people."""


MAX_CHARACTERS = 2048


def is_address(address: str) -> bool:
    """Whether it has a host in ASCII and the scheme of HTTP, and no space or control character inside: what the HTTP
    client of the worker accepts."""
    address = address.strip()
    try:
        parts = urlsplit(address)
        has_host = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    is_sent = len(address) <= MAX_CHARACTERS and address.isprintable() and " " not in address
    return has_host and is_sent and (parts.hostname or "").isascii()
