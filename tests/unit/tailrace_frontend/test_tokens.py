"""Which tokens are accepted, and which are not."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from support.issuer import AUDIENCE, PUBLIC, Issuer, claims_of, public_key
from tailrace.errors import Unauthenticated
from tailrace.scopes import CALLER_SCOPES
from tailrace.settings import Settings
from tailrace_frontend.tokens import Tokens, UnknownSigner, owner_of

ISSUER = "https://login.example.org"


def tokens(*kids: str, **settings: Any) -> Tokens:
    of = Tokens(Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, **settings))
    of.use([jwt.PyJWK(public_key(kid)) for kid in kids or PUBLIC])
    return of


def token(**given: Any) -> str:
    issuer = Issuer()
    issuer.url = ISSUER
    return issuer.token(**given)


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Any, secret: bytes | None) -> str:
    """A token that is not signed by a private key: by HMAC with this secret, or not at all."""
    signed = f"{encoded(header)}.{encoded(claims_of(ISSUER))}"
    signature = b"" if secret is None else hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{encoded(signature)}"


@pytest.mark.parametrize("kid", PUBLIC)
def test_signed_token_names_its_owner_and_scopes(kid: str) -> None:
    key = tokens().identify(token(kid=kid, owner="lea", scope="openid tailrace:read tailrace:fly"))
    assert (key.owner, sorted(key.scopes)) == ("lea", ["read"])
    assert 0 < key.expires - time.time() < 700


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (None, CALLER_SCOPES), ("openid profile", CALLER_SCOPES), ("read admin", CALLER_SCOPES), ("", CALLER_SCOPES),
        (["tailrace:read", "x", 7], {"read"}), (7, CALLER_SCOPES), ("tailrace:admin:view", {"admin:view"}),
        ("tailrace:unknown", set()),
    ],
)  # fmt: skip
def test_scopes_are_those_of_the_claim_that_are_ours(scope: Any, expected: Any) -> None:
    assert tokens().identify(token(scope=scope)).scopes == expected


def test_settings_choose_claims_and_default_scopes() -> None:
    of = tokens(jwt_owner_claim="azp", jwt_scope_claim="roles", jwt_scopes="read")
    assert of.identify(token(azp="shop")).owner == "shop"
    assert of.identify(token(azp="shop")).scopes == {"read"}
    assert of.identify(token(azp="shop", roles=["tailrace:create"])).scopes == {"create"}
    with pytest.raises(Unauthenticated):
        of.identify(token())


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "others"}, {"aud": None}, {"aud": []}, {"iss": "https://evil.example.org"}, {"iss": None},
        {"exp": 1}, {"exp": None}, {"exp": "soon"}, {"nbf": 2**40}, {"owner": None}, {"owner": ""}, {"owner": 7},
        {"owner": "x" * 257}, {"headers": {"kid": "rsa", "crit": ["x"], "x": 1}}, {"x": "y" * 9000},
    ],
)  # fmt: skip
def test_token_with_a_wrong_claim_is_refused(wrong: dict[str, Any]) -> None:
    of = tokens()
    of.identify(token())
    with pytest.raises(Unauthenticated):
        of.identify(token(**wrong))


def test_token_that_no_private_key_has_signed_is_refused() -> None:
    of = tokens()
    pem = jwt.PyJWK(public_key("rsa")).key.public_numbers()
    public = json.dumps(PUBLIC["rsa"]).encode()
    good = token()
    head, body, signature = good.split(".")
    for text in (
        forged({"alg": "none", "kid": "rsa"}, None),
        forged({"alg": "None", "kid": "rsa"}, None),
        forged({"alg": "HS256", "kid": "rsa"}, public),
        forged({"alg": "HS256", "kid": "rsa"}, str(pem).encode()),
        forged({"alg": "HS256", "kid": "rsa"}, b""),
        forged({"alg": "RS256", "kid": "rsa"}, public),
        forged({"alg": ["RS256"], "kid": "rsa"}, public),
        forged({"kid": "rsa"}, public),
        f"{head}.{body}.",
        f"{head}.{encoded(claims_of(ISSUER, 'eve'))}.{signature}",
        f"{encoded({'alg': 'RS256', 'kid': 'ec'})}.{body}.{signature}",
        f"{encoded({'alg': 'ES256', 'kid': 'rsa'})}.{body}.{signature}",
        "..", "a.b.c", f"{encoded([])}.{body}.{signature}", f"{encoded(bytes([255]))}.{body}.{signature}",
        f"{encoded({'alg': 'RS256', 'kid': ['rsa']})}.{body}.{signature}",
    ):  # fmt: skip
        with pytest.raises(Unauthenticated):
            of.identify(text)
    assert of.identify(good).owner == "zoe"


def test_algorithm_that_the_settings_or_the_key_do_not_allow_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        tokens(jwt_algorithms="ES256").identify(token(kid="rsa"))
    of = Tokens(Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    of.use([jwt.PyJWK(public_key("rsa", alg="PS256"))])
    with pytest.raises(Unauthenticated):
        of.identify(token(kid="rsa"))


def test_secret_and_encryption_keys_of_a_set_verify_nothing() -> None:
    of = Tokens(Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE))
    secret = b"a secret that is in a set of keys"
    of.use([jwt.PyJWK({"kty": "oct", "kid": "oct", "k": encoded(secret)}), jwt.PyJWK(public_key("rsa", use="enc"))])
    assert not of.are_known
    for text in (token(), forged({"alg": "HS256", "kid": "oct"}, secret)):
        with pytest.raises(UnknownSigner):
            of.identify(text)


def test_token_without_a_key_id_is_verified_by_the_only_key() -> None:
    assert tokens("rsa").identify(token(headers={})).owner == "zoe"
    with pytest.raises(UnknownSigner):
        tokens().identify(token(headers={}))


def test_token_ends_with_its_key_and_its_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    of = tokens()
    text = token()
    key = of.identify(text)
    assert of.is_valid(key)
    of.use([jwt.PyJWK(public_key("ec"))])
    assert not of.is_valid(key)
    with pytest.raises(UnknownSigner):
        of.identify(text)
    of.use([jwt.PyJWK(public_key("rsa"))])
    assert of.identify(text) == key
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 700)
    assert not of.is_valid(key)
    with pytest.raises(Unauthenticated):
        of.identify(text)


def test_owner_is_a_name_and_different_claims_are_different_owners() -> None:
    assert owner_of("anna.b-2") == "anna.b-2"
    claims = ["auth0|7", "auth0-7", "auth0:7", "ann@example.org", "Ω" * 99, "a\nb", "x" * 65, "\ud800"]
    owners = [owner_of(claim) for claim in claims]
    assert len(set(owners)) == len(owners)
    assert all(owner.isascii() and len(owner) <= 64 and not set(owner) & set("~/:|\n ") for owner in owners)
    assert owners[0].startswith("auth0-7-")


def test_verification_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    of = tokens()
    text = token()
    key = of.identify(text)
    monkeypatch.setattr(jwt, "decode", None)
    assert of.identify(text) is key
