"""Fetches the keys of the issuer of tokens (a JWK Set, RFC 7517), and keeps fetching.

The set is read every `TTL_S`. A token that is signed by an unknown key causes one more fetch in `INTERVAL_S`, whatever
the number of such tokens. Where a fetch fails, the keys that were read last stay in use, however long that lasts: an
issuer that is down signs no new tokens, and need not end the old ones. A set without a usable key is such a failure.

Only https, but for loopback; no redirects; at most `MAX_BYTES`.
"""

import asyncio
import logging
import time
from typing import Any

import aiohttp
import jwt

from tailrace import jsoncodec
from tailrace.errors import Unavailable
from tailrace.events import Json
from tailrace.process.tasks import cancel_and_wait
from tailrace.settings import Settings, is_safe_url
from tailrace_frontend.tokens import Tokens, is_usable

TTL_S = 600.0
RETRY_S = 15.0
INTERVAL_S = 10.0
TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
MAX_KEYS = 100
DISCOVERY = "/.well-known/openid-configuration"

logger = logging.getLogger(__name__)


class BadKeys(Exception):
    """What the issuer sent is no set of keys; the text is the reason."""


class IssuerKeys:
    """Built without I/O; it fetches once it is started, or asked."""

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._issuer = settings.jwt_issuer
        self._url = settings.jwt_jwks_url
        self._tokens = tokens
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fetch now, and every `TTL_S`."""
        self._task = asyncio.create_task(self._run(), name="issuer's keys")

    async def close(self) -> None:
        await cancel_and_wait(self._task)

    async def look_again(self) -> bool:
        """Fetch for a token whose signer is unknown. False: that was done a moment ago, or has failed.

        Raises:
            Unavailable: the keys were never read.
        """
        before = self._fetched_at
        async with self._fetching:
            is_due = time.monotonic() - self._fetched_at > INTERVAL_S
            is_new = await self._fetch() if is_due else self._fetched_at != before
        if not self._tokens.are_known:
            raise Unavailable("The keys of the issuer of tokens cannot be read.")
        return is_new

    async def _run(self) -> None:
        while True:
            async with self._fetching:
                is_fresh = await self._fetch()
            await asyncio.sleep(TTL_S if is_fresh else RETRY_S)

    async def _fetch(self) -> bool:
        """Read the set, and use it. False: it could not be read; the log has the reason, once."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                keys = await self._read()
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, BadKeys) as error:
            problem = f"{type(error).__name__}: {error}"
            if problem != self._problem:
                logger.warning(
                    "the keys of %s cannot be read; those read before stay in use: %s", self._issuer, problem
                )
            self._problem = problem
            return False
        else:
            self._tokens.use(keys)
            if self._problem:
                logger.info("the keys of %s are read again", self._issuer)
            self._problem = ""
            return True
        finally:
            self._fetched_at = time.monotonic()

    async def _read(self) -> list[jwt.PyJWK]:
        async with aiohttp.ClientSession(trust_env=True) as session:
            url = self._url or await self._discovered(session)
            found = await _get(session, url)
        try:
            listed = found.get("keys")
            keys = jwt.PyJWKSet(listed[:MAX_KEYS] if isinstance(listed, list) else []).keys
        except jwt.PyJWTError as error:
            raise BadKeys(str(error)) from None
        usable = [key for key in keys if is_usable(key)]
        if not usable:
            raise BadKeys("it has no key for signatures")
        return usable

    async def _discovered(self, session: aiohttp.ClientSession) -> str:
        found = await _get(session, self._issuer.rstrip("/") + DISCOVERY)
        if found.get("issuer") != self._issuer:
            raise BadKeys("its configuration names another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise BadKeys("its configuration has no https URL of its keys")
        return url


async def _get(session: aiohttp.ClientSession, url: str) -> Json:
    """The JSON object at the URL."""
    async with session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response:
        if response.status != 200:
            raise BadKeys(f"{response.host} answered {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BYTES:
                raise BadKeys(f"{response.host} sent more than {MAX_BYTES} bytes")
    value: Any = jsoncodec.loads(bytes(body))
    if not isinstance(value, dict):
        raise BadKeys(f"{response.host} sent no JSON object")
    return value
