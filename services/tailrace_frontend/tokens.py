"""JSON Web Tokens of an issuer, as what identifies a caller (OpenID Connect, RFC 7519).

A token is accepted if one of the issuer's keys has signed it by one of the algorithms of the settings, and if it has
the issuer, the audience, an expiry that is to come, and the claim that names its owner. The algorithms are asymmetric,
and each belongs to one type of key: a token cannot choose `none`, nor make a public key serve as a secret.

What was verified is remembered until it expires, so that a caller's requests cost one signature in all.
"""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import jwt

from tailrace.errors import Unauthenticated
from tailrace.events import Json
from tailrace.scopes import Scope, Scopes, scopes_of
from tailrace.settings import Settings
from tailrace_frontend.api_keys import NAME, ApiKey, digest_of

ALGORITHMS_OF = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC": frozenset({"ES256", "ES384", "ES512"}),
    "OKP": frozenset({"EdDSA"}),
}
"""By type of key."""

SCOPE_PREFIX = "tailrace:"
"""Of our scopes in a token: others mean something else by `read`, or by `admin`."""

GRANT = "token:"
LEEWAY_S = 30
MAX_TOKEN = 8 * 1024
MAX_OWNER = 256
MAX_REMEMBERED = 10_000
OWNER_DIGITS = 16


class UnknownSigner(Unauthenticated):
    """The token is signed by a key that is not among the issuer's."""


class Tokens:
    """The tokens of one issuer, by its keys as they were read last."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._algorithms = settings.jwt_algorithm_names
        self._owner_claim = settings.jwt_owner_claim
        self._scope_claim = settings.jwt_scope_claim
        self._default_scopes = scopes_of(settings.jwt_scopes.split("+"))
        self._keys: dict[str, jwt.PyJWK] = {}
        self._verified: OrderedDict[bytes, ApiKey] = OrderedDict()

    def use(self, keys: Iterable[jwt.PyJWK]) -> None:
        """Verify by these keys from now on."""
        self._keys = {str(key.key_id or ""): key for key in keys if is_usable(key)}
        self._verified.clear()

    @property
    def are_known(self) -> bool:
        """Whether the issuer's keys were read."""
        return bool(self._keys)

    def identify(self, token: str) -> ApiKey:
        """Whom the token names, and what it allows.

        Raises:
            UnknownSigner: the issuer may have a newer key that has signed it.
            Unauthenticated: the token is not valid.
        """
        digest = digest_of(token)
        found = self._verified.get(digest)
        if found is None:
            found = self._verified[digest] = self._verify(token, digest)
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)
        if found.expires <= time.time():
            raise Unauthenticated("The token has expired.")
        return found

    def is_valid(self, key: ApiKey) -> bool:
        """Whether a token that was accepted still is: it has not expired, and the issuer still has the key."""
        return time.time() < key.expires and key.grant.removeprefix(GRANT) in self._keys

    def _verify(self, token: str, digest: bytes) -> ApiKey:
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The token is too long.")
        try:
            kid = self._kid_of(token)
            key = self._keys[kid]
            claims = jwt.decode(
                token, key.key, algorithms=sorted(self._algorithms & algorithms_of(key)), audience=self._audience,
                issuer=self._issuer, leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud", self._owner_claim]},
            )  # fmt: skip
        except KeyError:
            raise UnknownSigner("The token is signed by an unknown key.") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(f"The token is not valid ({type(error).__name__}).") from None
        owner = owner_of(claims[self._owner_claim])
        return ApiKey(owner, digest, float(claims["exp"]) + LEEWAY_S, self._scopes(claims), grant=GRANT + kid)

    def _kid_of(self, token: str) -> str:
        """The id of the key that has signed the token; of the only one where the token names none.

        Raises:
            jwt.PyJWTError: the token is malformed.
            KeyError: there are several.
        """
        kid = jwt.get_unverified_header(token).get("kid")
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys))
        if not isinstance(kid, str):
            raise KeyError
        return kid

    def _scopes(self, claims: Json) -> Scopes:
        """The scopes that the token names; those of the settings where it names none of ours."""
        named = claims.get(self._scope_claim, "")
        words = named.split() if isinstance(named, str) else named if isinstance(named, list) else []
        own = [word.removeprefix(SCOPE_PREFIX) for word in words if isinstance(word, str)
               and word.startswith(SCOPE_PREFIX)]  # fmt: skip
        if not own:
            return self._default_scopes
        return scopes_of(name for name in own if name in set(Scope))


def is_usable(key: jwt.PyJWK) -> bool:
    """Whether a key of a set is for signatures that anyone can verify."""
    return key.key_type in ALGORITHMS_OF and key.public_key_use in (None, "sig")


def algorithms_of(key: jwt.PyJWK) -> frozenset[str]:
    """The algorithms that the key may be used with: the one that it names, or those of its type."""
    named = key._jwk_data.get("alg")  # noqa: SLF001 - `algorithm_name` has a default where the key names none
    of_type = ALGORITHMS_OF[key.key_type or ""]
    return of_type & {named} if named else of_type


def owner_of(claim: Any) -> str:
    """The owner that a claim names: itself where it can be a name, and otherwise what is readable of it and a digest.

    Raises:
        Unauthenticated: it is no text.
    """
    if not isinstance(claim, str) or not 0 < len(claim) <= MAX_OWNER:
        raise Unauthenticated("The token names no owner.")
    if NAME.fullmatch(claim):
        return claim
    digest = hashlib.sha256(claim.encode("utf-8", "surrogatepass")).hexdigest()[:OWNER_DIGITS]
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', claim)[:40]}-{digest}"
