"""Authentication of callers, and the tickets that let browsers read one log.

A caller is a name with one or more API keys: those of the settings (`api_keys`), and those that were created at run
time (`run_time_keys`). A token of the issuer of the settings (`tokens`) names a caller, too. The *owner* of a
generation is the name of the caller that created it. A key is looked up by its SHA-256, so the time that this takes
reveals nothing of any key.

A browser cannot send headers with `EventSource`, so the generation's JSON carries a ticket: an HMAC over the id, the
owner, the expiry and the API key of the request. It grants reading of that one log, and ends with its key. A client
that can send headers sends it as `Authorization: Ticket …`, because proxies log URLs.

Without keys the server is in open mode: it listens on loopback only, and all requests have the same caller. The `Host`
must then be a loopback name and an `Origin` must be the server's own or a configured one; otherwise any web page could
use the model through its visitor's browser.
"""

import time
from collections.abc import Collection, Mapping
from itertools import count
from urllib.parse import urlsplit

from tailrace.errors import CallerBlocked, HostRefused, OriginRefused, Unauthenticated
from tailrace.events import GenerationRecord
from tailrace.scopes import EVERY_SCOPE, READERS, Scope
from tailrace.settings import Settings
from tailrace.shares import Share
from tailrace_frontend.api_keys import ApiKey, ApiKeys, digest_of
from tailrace_frontend.run_time_keys import RunTimeKeys
from tailrace_frontend.tickets import OF_KEY, OF_SHARE, OF_TOKEN, SHARE_PREFIX, Ticket, Tickets, of_share
from tailrace_frontend.tokens import GRANT as TOKEN_GRANT
from tailrace_frontend.tokens import Tokens

OPEN = "open"
NO_KEY = b""
"""The digest of what reads without a key: a ticket or share of a token, or whom open mode serves."""

OPEN_KEY = ApiKey(OPEN, NO_KEY, scopes=EVERY_SCOPE)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Callers:
    """The known callers, and the tickets that they hand on."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            Misconfigured: as `ApiKeys`.
        """
        self._settings = settings
        self._tickets = Tickets(settings.ticket_secret.get_secret_value())
        self._keys = ApiKeys(settings.api_keys.get_secret_value().strip())
        self._run_time = RunTimeKeys()
        self.tokens = Tokens(settings) if settings.jwt_issuer else None

    @property
    def are_open(self) -> bool:
        """Whether the server is in open mode: no API keys, one caller."""
        return not self._settings.has_callers

    @property
    def names(self) -> list[str]:
        """The names of all callers that have a key."""
        if self.are_open:
            return [OPEN]
        of_run_time = (record.owner for record in self._run_time.state.keys.values())
        return sorted({*of_run_time, *(key.owner for key in self.configured)})

    def identify(self, headers: Mapping[str, str]) -> ApiKey:
        """The key that the request was sent with (`Authorization: Bearer <key>`); `owner` is the caller's name.

        Raises:
            Unauthenticated: the key or token is missing, unknown, expired or revoked.
            UnknownSigner: so is the key that has signed the token.
            CallerBlocked: the operator has blocked the caller.
            HostRefused, OriginRefused: the request could come from a foreign web page (open mode only).
        """
        if self.are_open:
            self._check_local(headers)
            return OPEN_KEY
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = digest_of(given.strip())
        found = self._keys.current().get(digest) or self._run_time.find(digest)
        if found is None and self.tokens and given.count(".") == 2:
            found = self.tokens.identify(given.strip())
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

    def keys_of(self, owner: str) -> list[ApiKey]:
        """The keys of a caller that may be used now."""
        return [key for key in (*self._keys.of(owner), *self._run_time.of(owner)) if self.may_read(key)]

    def has_admin(self, owner: str) -> bool:
        """Whether the caller has a valid key with the scope `admin`, blocked or not. A token's scopes are not known."""
        known = (*self._keys.of(owner), *self._run_time.of(owner))
        return any(Scope.ADMIN in key.scopes and self._is_valid(key) for key in known)

    def may_read(self, key: ApiKey) -> bool:
        """Whether the key and the ticket are still valid; their scopes were checked when they were used. Asked for each
        open stream when something is revoked, and twice in each keep-alive interval."""
        return self.are_open or (self._is_valid(key) and not self._run_time.is_blocked(key.owner))

    def _is_valid(self, key: ApiKey) -> bool:
        run_time = self._run_time
        if run_time.is_revoked(key.digest.hex()) or (key.grant and run_time.is_revoked(key.grant)):
            return False
        if key.grant.startswith(SHARE_PREFIX):
            return time.time() < key.expires and (key.digest == NO_KEY or self._is_known(key))
        if key.digest == NO_KEY:
            return bool(key.grant) and time.time() < key.expires
        if key.grant.startswith(TOKEN_GRANT):
            return self.tokens is not None and self.tokens.is_valid(key)
        return self._keys.is_valid(key) or run_time.is_valid(key)

    def _is_known(self, maker: ApiKey) -> bool:
        """Whether the key that has made a share was not withdrawn. It may have expired, as a rotated one does."""
        known = self._keys.current().get(maker.digest) or self._run_time.find(maker.digest)
        return known is not None and known.owner == maker.owner

    def ticket(self, generation_id: str, key: ApiKey, expires: int) -> str | None:
        """A ticket that lets a browser read this log until `expires` (epoch seconds), and for as long as the key is
        valid; None in open mode, and for a key that may not read."""
        if self.are_open or Scope.READ not in key.scopes:
            return None
        of_token = key.grant.startswith(TOKEN_GRANT)
        kind, bound_to = (OF_TOKEN, "") if of_token else (OF_KEY, key.digest.hex())
        last = min(expires, int(key.expires)) if of_token else expires
        for until in count(last):  # a ticket that was revoked is another one a second later
            ticket = self._tickets.issue(kind, generation_id, key.owner, until, bound_to)
            if not self._run_time.is_revoked(grant_of(ticket)):
                return ticket
        raise AssertionError

    def share_ticket(self, record: GenerationRecord, share: Share, maker: ApiKey) -> str:
        """The ticket of a share: until it expires, or it or the key that has made it is revoked."""
        digest = NO_KEY if maker.grant.startswith(TOKEN_GRANT) else maker.digest
        return self._tickets.issue(OF_SHARE, record.id, record.owner, share.expires, of_share(share.id, digest))

    def redeem(self, ticket: str, generation_id: str) -> ApiKey:
        """The key for which the ticket was issued.

        Raises:
            Unauthenticated: the signature is wrong, the ticket is for another log or has expired, or its key is no
            longer valid, or the ticket was revoked.
            CallerBlocked: the operator has blocked the caller.
        """
        parsed = Ticket.parse(ticket)
        found = self._holder_of(parsed, ticket, generation_id)
        if found is None or Scope.READ not in found.scopes:
            raise Unauthenticated("The ticket is not valid for this generation, or its API key was withdrawn.")
        if parsed.expires < time.time():
            raise Unauthenticated("The ticket has expired.")
        if not self._is_valid(found):
            raise Unauthenticated("The ticket or its API key was revoked.")
        if self._run_time.is_blocked(parsed.owner):
            raise CallerBlocked
        return found

    def _holder_of(self, ticket: Ticket, text: str, generation_id: str) -> ApiKey | None:
        """For whom the ticket was issued; None: its signature is wrong."""
        if ticket.kind == OF_SHARE:
            return self._share_of(ticket, generation_id)
        if ticket.kind == OF_TOKEN:
            is_signed = self.tokens is not None and self._tickets.is_signed(ticket, generation_id, "")
            return ApiKey(ticket.owner, NO_KEY, ticket.expires, READERS, grant=grant_of(text)) if is_signed else None
        found = None
        known = [*self._keys.of(ticket.owner), *self._run_time.of(ticket.owner)]
        for key in known or [ApiKey(ticket.owner, NO_KEY)]:  # an unknown caller takes as long as a known one
            if self._tickets.is_signed(ticket, generation_id, key.digest.hex()):
                found = key
        return found and found._replace(grant=grant_of(text))

    def _share_of(self, ticket: Ticket, generation_id: str) -> ApiKey | None:
        """What reads by the ticket of a share, with the digest of the key that has made it."""
        configured = [key for key in self.configured if key.owner == ticket.owner]
        found = None
        for maker in (ApiKey(ticket.owner, NO_KEY), *configured, *self._run_time.all_of(ticket.owner)):
            if self._tickets.is_signed(ticket, generation_id, of_share(ticket.name, maker.digest)):
                found = maker
        return found and ApiKey(ticket.owner, found.digest, ticket.expires, READERS, grant=ticket.name)

    def _check_local(self, headers: Mapping[str, str]) -> None:
        if not has_local_host(headers):
            raise HostRefused
        if not has_own_origin(headers, self._settings.origins):
            raise OriginRefused


def grant_of(shown: str) -> str:
    """By which a key, ticket or token is revoked."""
    return digest_of(shown).hex()


def has_local_host(headers: Mapping[str, str]) -> bool:
    """Whether the `Host` is a loopback name. A page that has rebound its own name by DNS sends that name."""
    return _hostname(headers.get("host", "")) in LOOPBACK


def has_own_origin(headers: Mapping[str, str], others: Collection[str] = ()) -> bool:
    """Whether the request comes from no web page, from a page of this server, or from one of the `others`."""
    origin = headers.get("origin")
    return not origin or origin in others or _host_of_origin(origin) == headers.get("host", "")


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
