"""Authentication of callers, and the tickets that let browsers read one log.

A caller is a name with one or more API keys (`api_keys`). The *owner* of a generation is the name of the caller that
created it. Keys are compared in constant time.

A browser cannot send headers with `EventSource`, so the generation's JSON carries a ticket: an HMAC over the id, the
owner, the expiry and the API key of the request. It grants reading of that one log, and ends with its key. A client
that can send headers sends it as `Authorization: Ticket …`, because proxies log URLs.

Without keys the server is in open mode: it listens on loopback only, and all requests have the same caller. The `Host`
must then be a loopback name and an `Origin` must be the server's own or a configured one; otherwise any web page could
use the model through its visitor's browser.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from tailrace.errors import HostRefused, OriginRefused, Unauthenticated
from tailrace.scopes import EVERY_SCOPE, Scope
from tailrace.settings import Settings
from tailrace_frontend.api_keys import ApiKey, ApiKeys, digest_of

OPEN = "open"
OPEN_KEY = ApiKey(OPEN, b"", scopes=EVERY_SCOPE)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Callers:
    """The known callers, and the tickets that they hand on."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            Misconfigured: as `ApiKeys`.
        """
        self._settings = settings
        self._secret = settings.ticket_secret.get_secret_value().encode()
        self._keys = ApiKeys(settings.api_keys.get_secret_value().strip())

    @property
    def are_open(self) -> bool:
        """Whether the server is in open mode: no API keys, one caller."""
        return not self._settings.has_callers

    def identify(self, headers: Mapping[str, str]) -> ApiKey:
        """The key that the request was sent with (`Authorization: Bearer <key>`); `owner` is the caller's name.

        Raises:
            Unauthenticated: the key is missing, unknown or expired.
            HostRefused, OriginRefused: the request could come from a foreign web page (open mode only).
        """
        if self.are_open:
            self._check_local(headers)
            return OPEN_KEY
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = digest_of(given.strip())
        found = None
        for key in self._keys.current().values():  # no early exit: the time must not depend on the matching key
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None or scheme.lower() != "bearer" or not self._keys.is_valid(found):
            raise Unauthenticated
        return found

    def may_read(self, key: ApiKey) -> bool:
        """Whether the key is still valid; its scopes were checked when it was used. Asked again twice in each
        keep-alive interval of a stream."""
        return self.are_open or self._keys.is_valid(key)

    def ticket(self, generation_id: str, key: ApiKey, expires: int) -> str | None:
        """A ticket that lets a browser read this log until `expires` (epoch seconds), and for as long as the key is
        valid; None in open mode, and for a key that may not read."""
        if self.are_open or Scope.READ not in key.scopes:
            return None
        signature = self._sign(generation_id, key, expires)
        return f"{key.owner}~{expires}~{signature}"

    def redeem(self, ticket: str, generation_id: str) -> ApiKey:
        """The key for which the ticket was issued.

        Raises:
            Unauthenticated: the signature is wrong, the ticket is for another log or has expired, or its key is no
            longer valid.
        """
        owner, _, rest = ticket.partition("~")
        expires, _, signature = rest.partition("~")
        is_number = expires.isdecimal() and expires.isascii() and len(expires) < 16
        found = None
        for key in self._keys.of(owner) or [ApiKey(owner, b"")]:  # an unknown caller takes as long as a known one
            expected = self._sign(generation_id, key, int(expires) if is_number else 0)
            if hmac.compare_digest(expected.encode(), _bytes(signature)):
                found = key
        if found is None or not is_number or Scope.READ not in found.scopes:
            raise Unauthenticated("The ticket is not valid for this generation, or its API key was withdrawn.")
        if int(expires) < time.time():
            raise Unauthenticated("The ticket has expired.")
        return found

    def _sign(self, generation_id: str, key: ApiKey, expires: int) -> str:
        message = "\n".join(("read", generation_id, key.owner, str(expires), key.digest.hex()))
        digest = hmac.digest(self._secret, _bytes(message), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _check_local(self, headers: Mapping[str, str]) -> None:
        if not has_local_host(headers):
            raise HostRefused
        if not has_own_origin(headers, self._settings.origins):
            raise OriginRefused


def has_local_host(headers: Mapping[str, str]) -> bool:
    """Whether the `Host` is a loopback name. A page that has rebound its own name by DNS sends that name."""
    return _hostname(headers.get("host", "")) in LOOPBACK


def has_own_origin(headers: Mapping[str, str], others: Collection[str] = ()) -> bool:
    """Whether the request comes from no web page, from a page of this server, or from one of the `others`."""
    origin = headers.get("origin")
    return not origin or origin in others or _host_of_origin(origin) == headers.get("host", "")


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
