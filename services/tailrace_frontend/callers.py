"""Authentication of callers, and the tickets that let browsers read one log.

A caller is a name with one or more API keys: those of the settings (`api_keys`), and those that were created at run
time (`run_time_keys`). The *owner* of a generation is the name of the caller that created it. A key is looked up by its
SHA-256, so the time that this takes tells nothing about any key.

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
from itertools import count
from urllib.parse import urlsplit

from tailrace.errors import CallerBlocked, HostRefused, OriginRefused, Unauthenticated
from tailrace.scopes import EVERY_SCOPE, Scope
from tailrace.settings import Settings
from tailrace_frontend.api_keys import ApiKey, ApiKeys, digest_of
from tailrace_frontend.run_time_keys import RunTimeKeys

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
        self._run_time = RunTimeKeys()

    @property
    def are_open(self) -> bool:
        """Whether the server is in open mode: no API keys, one caller."""
        return not self._settings.has_callers

    def identify(self, headers: Mapping[str, str]) -> ApiKey:
        """The key that the request was sent with (`Authorization: Bearer <key>`); `owner` is the caller's name.

        Raises:
            Unauthenticated: the key is missing, unknown, expired or revoked.
            CallerBlocked: the operator has blocked the caller.
            HostRefused, OriginRefused: the request could come from a foreign web page (open mode only).
        """
        if self.are_open:
            self._check_local(headers)
            return OPEN_KEY
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = digest_of(given.strip())
        found = self._keys.current().get(digest) or self._run_time.find(digest)
        if found is None or scheme.lower() != "bearer" or not self._is_valid(found):
            raise Unauthenticated
        if self._run_time.is_blocked(found.owner):
            raise CallerBlocked
        return found

    def apply(self, run_time: RunTimeKeys) -> None:
        """Use these keys, blocks and revocations from now on."""
        self._run_time = run_time

    @property
    def configured(self) -> list[ApiKey]:
        """The keys of the settings, those that have expired or were revoked among them."""
        return list(self._keys.current().values())

    @property
    def run_time(self) -> RunTimeKeys:
        """The keys, blocks and revocations of run time."""
        return self._run_time

    def may_read(self, key: ApiKey) -> bool:
        """Whether the key and the ticket are still valid; their scopes were checked when they were used. Asked for each
        open stream when something is revoked, and twice in each keep-alive interval."""
        return self.are_open or (self._is_valid(key) and not self._run_time.is_blocked(key.owner))

    def _is_valid(self, key: ApiKey) -> bool:
        run_time = self._run_time
        if run_time.is_revoked(key.digest.hex()) or (key.grant and run_time.is_revoked(key.grant)):
            return False
        return self._keys.is_valid(key) or run_time.is_valid(key)

    def ticket(self, generation_id: str, key: ApiKey, expires: int) -> str | None:
        """A ticket that lets a browser read this log until `expires` (epoch seconds), and for as long as the key is
        valid; None in open mode, and for a key that may not read."""
        if self.are_open or Scope.READ not in key.scopes:
            return None
        for until in count(expires):  # a ticket that was revoked is another one a second later
            ticket = f"{key.owner}~{until}~{self._sign(generation_id, key, until)}"
            if not self._run_time.is_revoked(grant_of(ticket)):
                return ticket
        raise AssertionError

    def redeem(self, ticket: str, generation_id: str) -> ApiKey:
        """The key for which the ticket was issued.

        Raises:
            Unauthenticated: the signature is wrong, the ticket is for another log or has expired, or its key is no
            longer valid, or the ticket was revoked.
            CallerBlocked: the operator has blocked the caller.
        """
        owner, _, rest = ticket.partition("~")
        signature, expires = rest.partition("~")[2], expiry_of(ticket)
        found = None
        known = [*self._keys.of(owner), *self._run_time.of(owner)]
        for key in known or [ApiKey(owner, b"")]:  # an unknown caller takes as long as a known one
            expected = self._sign(generation_id, key, expires)
            if hmac.compare_digest(expected.encode(), _bytes(signature)):
                found = key
        if found is None or Scope.READ not in found.scopes:
            raise Unauthenticated("The ticket is not valid for this generation, or its API key was withdrawn.")
        if expires < time.time():
            raise Unauthenticated("The ticket has expired.")
        found = found._replace(grant=grant_of(ticket))
        if not self._is_valid(found):
            raise Unauthenticated("The ticket or its API key was revoked.")
        if self._run_time.is_blocked(owner):
            raise CallerBlocked
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


def grant_of(shown: str) -> str:
    """By which a key, ticket or token is revoked."""
    return digest_of(shown).hex()


def expiry_of(ticket: str) -> int:
    """When a ticket expires (epoch seconds); 0 where it does not say so."""
    expires = ticket.partition("~")[2].partition("~")[0]
    is_number = expires.isdecimal() and expires.isascii() and len(expires) < 16
    return int(expires) if is_number else 0


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
