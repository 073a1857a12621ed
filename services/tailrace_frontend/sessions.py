"""Sessions of the dashboard: a browser logs in with an API key once, and has a signed cookie from then on.

The cookie names the caller and the expiry, and is signed for the key that it was given for: it ends with that key. A
token of the issuer is a key that no process knows, so its cookie has its digest, its scopes and who signed it as well:
it ends with the token. A cookie is HttpOnly, SameSite=Strict, and sent to `/v1/admin` alone. Nothing is stored. Where a
request has a cookie and no `Authorization`, it must come from a page of this server to change anything
(`Sec-Fetch-Site: same-origin`), which no page of another site can claim.

Failed logins are throttled by address. Beyond a burst, logins of that address are checked one a second, so that a valid
key is delayed and not locked out; beyond a few that wait, they are refused.
"""

import asyncio
import base64
import hashlib
import hmac
import math
import time
from collections.abc import Mapping

from tailrace import jsoncodec
from tailrace.errors import OriginRefused, RateLimited, Unauthenticated
from tailrace.scopes import names_of, scopes_of
from tailrace.settings import Settings
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.callers import Callers
from tailrace_frontend.tokens import GRANT as TOKEN_GRANT

COOKIE = "tailrace_admin"
HEADER = "tailrace-session"
"""What the protocol makes of the cookie (`client_limits.SESSION_HEADER`)."""

PATH = "/v1/admin"
LIFE_S = 12 * 3600

FREE_FAILURES = 10
FORGIVEN_S = 6.0
"""A failure is forgotten after so many seconds."""

DELAY_S = 1.0
MOST_WAITING = 5
MOST_ADDRESSES = 10_000

SAFE_METHODS = frozenset({"GET", "HEAD"})


class Sessions:
    """The sessions of one frontend's dashboard; every frontend with the same secret knows them."""

    def __init__(self, settings: Settings, callers: Callers) -> None:
        self._secret = settings.ticket_secret.get_secret_value().encode()
        self._callers = callers
        self.logins = LoginThrottle()

    def cookie(self, key: ApiKey, *, is_secure: bool) -> str:
        """The `Set-Cookie` of a login with this key."""
        expires = int(min(time.time() + LIFE_S, key.expires))
        token = _packed(key) if key.grant.startswith(TOKEN_GRANT) else ""
        value = "~".join(filter(None, (key.owner, str(expires), self._sign(key, expires, token), token)))
        return self._set_cookie(value, LIFE_S, is_secure=is_secure)

    def end_cookie(self, *, is_secure: bool) -> str:
        """The `Set-Cookie` that ends a session."""
        return self._set_cookie("", 0, is_secure=is_secure)

    def caller_of(self, headers: Mapping[str, str]) -> ApiKey | None:
        """The key of a request's session; None where it has none, or another credential.

        Raises:
            Unauthenticated: the session is over, or its key is.
        """
        if self._callers.are_open or "authorization" in headers:
            return None
        value = headers.get(HEADER)
        return self._redeem(value) if value else None

    def check_origin(self, method: str, headers: Mapping[str, str]) -> None:
        """
        Raises:
            OriginRefused: the request would change something, and a page of another site may have sent it.
        """
        if method in SAFE_METHODS or "authorization" in headers:
            return
        site = headers.get("sec-fetch-site")
        if site != "same-origin" and not (site is None and self._callers.are_open):
            raise OriginRefused("This request must come from the dashboard, or have an API key.")

    def _redeem(self, value: str) -> ApiKey:
        owner, expires, signature, token = [*value.split("~", 3), "", "", ""][:4]
        is_number = expires.isascii() and expires.isdecimal() and len(expires) < 16
        until = int(expires) if is_number else 0
        found = None
        for key in self._callers.keys_of(owner) if not token else self._token_keys(owner, until, token):
            expected = self._sign(key, until, token)
            if hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass")):
                found = key
        if found is None or until < time.time():
            raise Unauthenticated("The session has ended. Log in again.")
        return found

    def _token_keys(self, owner: str, expires: int, token: str) -> list[ApiKey]:
        """What a token has given, as its cookie has it, if the issuer still has the key that signed it."""
        try:
            digest, names, grant = jsoncodec.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            key = ApiKey(owner, bytes.fromhex(digest), expires, scopes_of(names), grant=str(grant))
        except (ValueError, TypeError):  # no cookie of ours
            return []
        return [key] if key.grant.startswith(TOKEN_GRANT) and self._callers.may_read(key) else []

    def _sign(self, key: ApiKey, expires: int, token: str = "") -> str:
        message = "\n".join(("session", key.owner, str(expires), token or key.digest.hex()))
        digest = hmac.digest(self._secret, message.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    @staticmethod
    def _set_cookie(value: str, life_s: int, *, is_secure: bool) -> str:
        secure = "; Secure" if is_secure else ""
        return f"{COOKIE}={value}; Path={PATH}; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"


def _packed(key: ApiKey) -> str:
    """What a cookie has of a token. The token itself, which other services accept, too, is not in it."""
    value = jsoncodec.dumps([key.digest.hex(), names_of(key.scopes), key.grant])
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


class LoginThrottle:
    """Slows those who guess."""

    def __init__(self) -> None:
        self._forgiven_at: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def admit(self, address: str) -> None:
        """Wait until a login of this address may be checked.

        Raises:
            RateLimited: too many wait already.
        """
        if self._failures(address) < FREE_FAILURES:
            return
        if self._waiting.get(address, 0) >= MOST_WAITING:
            raise RateLimited("Too many failed logins. Wait a minute.")
        self._waiting[address] = self._waiting.get(address, 0) + 1
        try:
            async with self._turns.setdefault(address, asyncio.Lock()):
                await asyncio.sleep(DELAY_S)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address], self._turns[address]

    def fail(self, address: str) -> None:
        """A login of this address has failed."""
        now = time.monotonic()
        if len(self._forgiven_at) >= MOST_ADDRESSES:
            self._forgiven_at = {each: at for each, at in self._forgiven_at.items() if at > now}
        if len(self._forgiven_at) < MOST_ADDRESSES:
            self._forgiven_at[address] = max(now, self._forgiven_at.get(address, 0.0)) + FORGIVEN_S

    def _failures(self, address: str) -> int:
        return math.ceil(max(0.0, self._forgiven_at.get(address, 0.0) - time.monotonic()) / FORGIVEN_S)
