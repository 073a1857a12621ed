"""The HTTP API of a frontend, for commands: where it is, the key, and each failure in words.

The address is that of `--url` or TAILRACE_URL, else of a running `tailrace dev`, else of the host and port of the
settings. The key is TAILRACE_API_KEY; it is no argument, because every user of a machine sees those.
"""

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tailrace.errors import (
    CallerBlocked,
    Gone,
    InsufficientScope,
    InvalidRequest,
    Misconfigured,
    NotFound,
    RateLimited,
    TailraceError,
    Unauthenticated,
    Unavailable,
)
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli import data_dir
from tailrace_cli.ports import url_of

TIMEOUT_S = 15.0
"""For an answer."""

SILENCE_S = 90.0
"""For which an event stream may be silent: longer than any usual TAILRACE_KEEPALIVE_S."""

ADMIN = "/v1/admin"
PREFIX_OF_SDKS = "/v1"
MESSAGE = "message"
"""The name of an event that names none."""

LINE_BYTES = 4 * 1024 * 1024
"""Half of what a line of an event stream may have: a snapshot of many thousand workers."""

ERRORS: tuple[type[TailraceError], ...] = (Unauthenticated, InsufficientScope, CallerBlocked, NotFound, RateLimited)


class FrontendClient:
    """Requests to one frontend. `url`: its address."""

    def __init__(self, url: str, key: str, http: aiohttp.ClientSession, hint: str = "") -> None:
        self.url = url
        self._has_key = bool(key)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = http
        self._hint = hint

    async def get(self, path: str, **query: str | int) -> Json:
        """
        Raises:
            Unavailable, TailraceError: as `send`.
        """
        return await self.send("GET", path, query=query)

    async def send(
        self, method: str, path: str, body: Json | None = None, *, query: Mapping[str, str | int] | None = None
    ) -> Json:
        """The answer to a request.

        Raises:
            Unavailable: there is no answer, or the frontend has no Redis.
            Unauthenticated, InsufficientScope, CallerBlocked: the key is refused, or may not do this.
            NotFound, Gone, InvalidRequest, RateLimited: as the frontend has it.
            Misconfigured: no Tailrace frontend is at this address.
        """
        async with self._request(method, path, body, query) as answer:
            data = await answer.read()
            if answer.status == HTTPStatus.NO_CONTENT:
                return {}
            value = _object(data)
            if answer.ok and value is not None:
                return value
            raise self._error(answer, value)

    async def events(self, path: str, **query: str) -> AsyncIterator[tuple[str, Json]]:
        """The events of a stream, by name, until it ends.

        Raises:
            Unavailable, TailraceError: as `send`.
        """
        async with self._request("GET", path, None, query, is_stream=True) as answer:
            if not answer.ok or answer.content_type != "text/event-stream":
                raise self._error(answer, _object(await answer.read()))
            name = MESSAGE
            async for line in answer.content:
                field, _, value = line.rstrip(b"\r\n").partition(b":")
                if not field:
                    name = MESSAGE
                elif field == b"event":
                    name = value.strip().decode()
                elif field == b"data" and (decoded := _object(value)) is not None:
                    yield name, decoded

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Json | None, query: Mapping[str, str | int] | None, *,
        is_stream: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        total, silence = (None, SILENCE_S) if is_stream else (TIMEOUT_S, TIMEOUT_S)
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=TIMEOUT_S, sock_read=silence)
        with failures_in_words(self.url, silence, self._hint):
            async with self._http.request(
                method, self.url + path, json=body, params=query, headers=self._headers, timeout=timeout,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                yield answer

    def error_of(self, answer: aiohttp.ClientResponse, data: bytes) -> TailraceError:
        """The error that an answer is, with its body."""
        return self._error(answer, _object(data))

    def _error(self, answer: aiohttp.ClientResponse, value: Json | None) -> TailraceError:
        problem = (value or {}).get("error")
        if not isinstance(problem, dict) or not isinstance(problem.get("message"), str):
            got = f"{answer.status} {answer.headers.get('content-type', '')}".strip()
            to = f" and sends elsewhere ({answer.headers['location']})" if "location" in answer.headers else ""
            return Misconfigured(f"{self.url} is no Tailrace frontend: it answers {got}{to}. --url names another one")
        message, code = problem["message"], problem.get("code")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            has = "refuses the key of TAILRACE_API_KEY" if self._has_key else "needs an API key: set TAILRACE_API_KEY"
            return Unauthenticated(f"{self.url} {has}{f'. {message}' if self._has_key else ''}")
        for kind in ERRORS:
            if answer.status == kind.status and kind.code in (code, None):
                return kind(message)
        if answer.status == HTTPStatus.GONE:
            return Gone(message)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(f"{self.url}: {message}")
        return InvalidRequest(message)


@contextlib.contextmanager
def failures_in_words(url: str, silence_s: float, hint: str = "") -> Iterator[None]:
    """
    Raises:
        Unavailable: there was no answer, or no whole one.
        Misconfigured: what answered is no Tailrace frontend.
    """
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"{url} does not answer within {silence_s:.0f} s{hint}") from None
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise Misconfigured(f"{url} does not answer as a Tailrace frontend does: {error}") from None
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(f"{url} does not answer: {_reason(error.os_error)}{hint}") from None
    except (aiohttp.ClientError, asyncio.IncompleteReadError) as error:
        raise Unavailable(f"the connection to {url} was lost: {error or type(error).__name__}") from None


def _reason(error: OSError) -> str:
    """`Connection refused`: asyncio has a text of its own, with the address; and OpenSSL a number of its own."""
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or error.reason or error)
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def _object(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


@asynccontextmanager
async def opened_frontend(settings: Settings) -> AsyncIterator[FrontendClient]:
    """A client during the block.

    Raises:
        Misconfigured: TAILRACE_URL is no address, or a header cannot carry TAILRACE_API_KEY.
    """
    url, hint = address_of(settings)
    key = settings.api_key.get_secret_value().strip()
    if not (key.isascii() and key.isprintable()):
        raise Misconfigured(
            "TAILRACE_API_KEY has a character that a header cannot carry, such as a line end or a quote"
        )
    async with aiohttp.ClientSession(read_bufsize=LINE_BYTES) as http:
        yield FrontendClient(url, key, http, hint)


def address_of(settings: Settings) -> tuple[str, str]:
    """The frontend's address, and where else one was looked for, for a message where it does not answer.

    Raises:
        Misconfigured: TAILRACE_URL is no address.
    """
    if settings.url:
        return checked(settings.url), ""
    if running := data_dir.frontend_url(settings.data_dir):
        return running, ""
    looked = settings.data_dir.absolute()
    return url_of(settings.host, settings.port), f". No `tailrace dev` runs in {looked}; --url names a frontend"


def checked(url: str) -> str:
    """The address without its end: as it is, or as SDKs have it, with `/v1`.

    Raises:
        Misconfigured: it is none.
    """
    with contextlib.suppress(ValueError):
        parts = urlsplit(url.strip())
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and not (parts.query or parts.fragment or parts.username)
        ):
            _ = parts.port  # raises where it is no number
            return url.strip().rstrip("/").removesuffix(PREFIX_OF_SDKS).rstrip("/")
    raise Misconfigured("TAILRACE_URL (--url) is no address of a frontend, such as http://127.0.0.1:8080")


def rows_of(answer: Json) -> list[Any]:
    """The rows of a list.

    Raises:
        Misconfigured: it is none of Tailrace's.
    """
    if not isinstance(answer.get("data"), list):
        raise Misconfigured("the answer is none of a Tailrace frontend. --url names another one")
    return list(answer["data"])
