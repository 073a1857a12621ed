"""Authentication of callers, and the tickets that let browsers read one log.

A caller is a name with an API key. The *owner* of a generation is the name of the caller that created it. Keys are
compared in constant time.

A browser cannot send headers with `EventSource`, so the generation's JSON carries a ticket: an HMAC over the id, the
owner and the expiry. It grants reading of that one log.

Without keys the server is in open mode: it listens on loopback only, and all requests have the same caller. The `Host`
must then be a loopback name and an `Origin` must be the server's own or a configured one; otherwise any web page could
use the model through its visitor's browser.
"""

import base64
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tailrace.errors import HostRefused, Misconfigured, OriginRefused, Unauthenticated
from tailrace.settings import Settings

OPEN = "open"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
RELOAD_S = 1.0

logger = logging.getLogger(__name__)


class Callers:
    """The known callers, from the settings or from a file that is re-read when it changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secret = settings.ticket_secret.get_secret_value().encode()
        given = settings.api_keys.get_secret_value().strip()
        self._file = Path(given[1:]) if given.startswith("@") else None
        self._checked_at = 0.0
        self._loaded_version: tuple[int, int] | None = None  # (mtime in ns, size) of the file when it was read
        self._checked_version: tuple[int, int] | None = None  # the same at the last check; None: unreadable
        self._keys = {} if self._file else _parse_keys(given)
        if self._file:
            self._reload(first=True)

    @property
    def are_open(self) -> bool:
        """Whether the server is in open mode: no API keys, one caller."""
        return not self._settings.has_callers

    def identify(self, headers: Mapping[str, str]) -> str:
        """The caller's name, found by `Authorization: Bearer <key>`.

        Raises:
            Unauthenticated: the key is missing or unknown.
            HostRefused, OriginRefused: the request could come from a foreign web page (open mode only).
        """
        if self.are_open:
            self._check_local(headers)
            return OPEN
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = _digest(key.strip())
        found = None
        for name, known in self._current().items():  # no early exit: the time must not depend on the matching key
            if hmac.compare_digest(known, digest):
                found = name
        if found is None or scheme.lower() != "bearer":
            raise Unauthenticated
        return found

    def may_read(self, owner: str) -> bool:
        """Whether the owner is still a known caller. Checked again with every keep-alive of a stream."""
        return self.are_open or owner in self._current()

    def ticket(self, generation_id: str, owner: str, expires: int) -> str | None:
        """A ticket that lets a browser read this log until `expires` (epoch seconds); None in open mode."""
        if self.are_open:
            return None
        signature = self._sign(generation_id, owner, expires)
        return f"{owner}~{expires}~{signature}"

    def redeem(self, ticket: str, generation_id: str) -> str:
        """The owner for whom the ticket was issued.

        Raises:
            Unauthenticated: the signature is wrong, the ticket is for another log or has expired, or its owner is no
            longer a caller.
        """
        owner, _, rest = ticket.partition("~")
        expires, _, signature = rest.partition("~")
        is_number = expires.isdecimal() and expires.isascii() and len(expires) < 16
        expected = self._sign(generation_id, owner, int(expires) if is_number else 0)
        if not hmac.compare_digest(expected.encode(), _bytes(signature)) or not is_number:
            raise Unauthenticated("The ticket is not valid for this generation.")
        if int(expires) < time.time() or not self.may_read(owner):
            raise Unauthenticated("The ticket has expired.")
        return owner

    def _sign(self, generation_id: str, owner: str, expires: int) -> str:
        message = "\n".join(("read", generation_id, owner, str(expires)))
        digest = hmac.digest(self._secret, _bytes(message), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _check_local(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if _hostname(host) not in LOOPBACK:
            raise HostRefused
        origin = headers.get("origin")
        if origin and origin not in self._settings.origins and _host_of_origin(origin) != host:
            raise OriginRefused

    def _current(self) -> dict[str, bytes]:
        if self._file and time.monotonic() - self._checked_at > RELOAD_S:
            self._reload()
        return self._keys

    def _reload(self, *, first: bool = False) -> None:
        """Read the file again if it has changed. An unreadable file is logged once and leaves the keys unchanged."""
        assert self._file is not None
        self._checked_at = time.monotonic()
        version: tuple[int, int] | None = None
        try:
            stat = self._file.stat()
            version = (stat.st_mtime_ns, stat.st_size)
            if version != self._loaded_version:
                self._keys = _read_keys(self._file)
                self._loaded_version = version
        except (OSError, Misconfigured) as error:
            problem = error.message if isinstance(error, Misconfigured) else _unreadable(self._file, error.strerror)
            if first:
                raise Misconfigured(problem) from None
            if version != self._checked_version:
                logger.warning("%s; the keys read before stay in use, so a key revoked since is still valid", problem)
        self._checked_version = version


def _read_keys(file: Path) -> dict[str, bytes]:
    try:
        return _parse_keys(",".join(file.read_text().split()))
    except UnicodeDecodeError:  # its text quotes the bytes that it cannot decode
        raise Misconfigured(_unreadable(file, "it is not UTF-8")) from None


def _unreadable(file: Path, reason: str | None) -> str:
    return f"TAILRACE_API_KEYS: cannot read {file}: {reason}"


def _parse_keys(text: str) -> dict[str, bytes]:
    keys = {}
    for position, pair in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        name, separator, key = pair.partition(":")
        if not separator or not NAME.fullmatch(name) or len(key) < 8:
            raise Misconfigured(
                f"TAILRACE_API_KEYS: entry {position} is not `name:key` "
                "(name of letters, digits, `_.-`; key of at least 8 characters)"
            )
        keys[name] = _digest(key)
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(_bytes(key)).digest()


def _bytes(text: str) -> bytes:
    """The text as UTF-8. Clients can send lone surrogates, which the strict encoder rejects."""
    return text.encode("utf-8", "surrogatepass")


def _host_of_origin(origin: str) -> str:
    """Host and port of an origin; empty if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
