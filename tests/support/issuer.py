"""An issuer of tokens on loopback, as OpenID Connect has it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "tailrace"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE_KEYS: dict[str, Any] = {"rsa": RSA_KEY, "ec": EC_KEY, "ed": ED_KEY}
ALGORITHM = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
PUBLIC: dict[str, dict[str, Any]] = {
    "rsa": RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True),
    "ec": ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True),
    "ed": OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True),
}


def public_key(kid: str, **fields: Any) -> dict[str, Any]:
    """A member of a JWK Set."""
    return {**PUBLIC[kid], "kid": kid, **fields}


def claims_of(issuer: str, owner: str = "zoe", **fields: Any) -> dict[str, Any]:
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": owner, "exp": int(time.time()) + 600, **fields}
    return {name: value for name, value in claims.items() if value is not None}


class Issuer:
    """`keys`: its set. `is_down`: it answers 500 to everything. `fetches`: how often its set was read."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: Any = [public_key("rsa"), public_key("ec"), public_key("ed")]
        self.is_down = False
        self.fetches = 0
        self.answer: web.StreamResponse | None = None
        self.configuration: dict[str, Any] = {}

    def token(self, owner: str = "zoe", kid: str = "rsa", headers: Any = None, **claims: Any) -> str:
        """A signed token; a claim that is None is left out."""
        header = {"kid": kid} if headers is None else headers
        payload = claims_of(self.url, owner, **claims)
        return jwt.encode(payload, PRIVATE_KEYS[kid], algorithm=ALGORITHM[kid], headers=header)

    async def discover(self, _: web.Request) -> web.StreamResponse:
        if self.is_down:
            return web.Response(status=500)
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.configuration})

    async def send_keys(self, _: web.Request) -> web.StreamResponse:
        self.fetches += 1
        if self.is_down:
            return web.Response(status=500)
        return self.answer or web.json_response({"keys": self.keys})


@asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer.discover)
    application.router.add_get("/keys", issuer.send_keys)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port, *_ = runner.addresses[0]
    issuer.url = f"http://{host}:{port}"
    yield issuer
    await runner.cleanup()
