"""What `tailrace doctor` measures through a proxy: streams of known times, files, and the protocol that TLS agrees on.

Nothing is judged here (`proxy_findings` does that), and nothing is created at the frontend.
"""

import asyncio
import contextlib
import gzip
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from tailrace.errors import Misconfigured, TailraceError, Unavailable
from tailrace.events import Json
from tailrace_cli.frontend_client import FrontendClient, failures_in_words

PATH = "/v1/diagnostics/stream"
FILE = "/tailrace.js"
CURSOR = "7-7"
PROBE_KEY = "tailrace-doctor"
"""What is sent as a key where none is configured: a frontend in open mode ignores it."""

SENT = {
    "accept": "text/event-stream",
    "accept-encoding": "gzip",
    "last-event-id": CURSOR,
    "idempotency-key": "tailrace-doctor",
}
"""Headers of every stream, as a browser and a client that creates send them."""

CONNECT_S = 15.0
GRACE_S = 20.0
"""How much later than planned a stream may end."""

ATTEMPTS = 3
"""A frontend that stops ends the stream with a retry hint: another one is asked."""

CUT = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
"""How a proxy ends a silent stream whose head it has held back until more follows. Or it closes the connection."""

GZIP = 16 + zlib.MAX_WBITS


class Received(NamedTuple):
    """An event, and when it came: seconds since the request was sent."""

    name: str
    data: Json
    at_s: float


class StreamResult(NamedTuple):
    """What came of a stream. `lasted_s`: until its end, since the request was sent; `silent_s`: since its last byte."""

    headers: Mapping[str, str]
    events: list[Received]
    lasted_s: float
    silent_s: float
    has_hint: bool

    @property
    def is_whole(self) -> bool:
        return any(each.name == "end" for each in self.events)

    @property
    def hello(self) -> Received | None:
        return next((each for each in self.events if each.name == "hello"), None)

    @property
    def is_stopped(self) -> bool:
        """Whether the frontend has ended it, and no proxy."""
        return self.has_hint and not self.is_whole


class FileResult(NamedTuple):
    """A file, asked for as it is and compressed. `is_equal`: the compressed one is the same, unpacked."""

    encoding: str
    is_equal: bool


class KeyMissing(TailraceError):
    """The frontend has received no Authorization header."""


class ProxyProbe:
    """Requests through whatever is at an address."""

    def __init__(self, frontend: FrontendClient, key: str, http: aiohttp.ClientSession) -> None:
        """`http`: a session that does not unpack."""
        self._frontend = frontend
        self._http = http
        self._authorization = {"authorization": f"Bearer {key or PROBE_KEY}"}
        self.has_key = bool(key)

    @property
    def url(self) -> str:
        return self._frontend.url

    async def stream(self, *, events: int, interval_ms: int = 100, silence_s: int = 0) -> StreamResult:
        """A stream until its end, or until it is cut.

        Raises:
            KeyMissing: a key was sent, and has not arrived.
            Unavailable, Misconfigured, TailraceError: there is no stream.
        """
        query = {"events": events, "interval_ms": interval_ms, "silence_s": silence_s}
        for _ in range(ATTEMPTS):
            result = await self._stream(query, events * interval_ms / 1000 + silence_s)
            if not result.is_stopped:
                return result
        raise Unavailable(f"{self.url} ends its streams: its frontends are being stopped")

    async def _stream(self, query: Mapping[str, int], planned_s: float) -> StreamResult:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=planned_s + GRACE_S)
        reader, is_silent = _StreamReader(), query["silence_s"] > 0
        cuts = (aiohttp.ServerDisconnectedError,) if is_silent else ()
        with failures_in_words(self.url, planned_s + GRACE_S), contextlib.suppress(*cuts):
            async with self._http.get(
                self.url + PATH, params=query, headers=SENT | self._authorization, timeout=timeout,
                allow_redirects=False,
            ) as answer:  # fmt: skip
                if is_silent and answer.status in CUT:
                    return reader.result(answer.headers)
                if answer.status != HTTPStatus.OK or answer.content_type != "text/event-stream":
                    raise self._refusal(answer, await answer.read())
                reader.is_compressed = answer.headers.get("content-encoding", "") == "gzip"
                try:
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # it is cut
                        while data := await answer.content.readany():
                            reader.feed(data)
                except (ValueError, zlib.error):
                    raise Misconfigured(f"{self.url} changes the bytes of an event stream") from None
                return reader.result(answer.headers)
        return reader.result({})

    def _refusal(self, answer: aiohttp.ClientResponse, data: bytes) -> TailraceError:
        with contextlib.suppress(ValueError):
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(data)["error"]["param"] == "authorization" and self.has_key:
                return KeyMissing()
        error = self._frontend.error_of(answer, data)
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(error, Misconfigured):
            return Misconfigured(f"{self.url} is a frontend of an earlier version, without {PATH}")
        return error

    async def file(self) -> FileResult:
        """A file that a frontend sends compressed to those who accept that.

        Raises:
            Unavailable, Misconfigured: it cannot be had.
        """
        plain, _ = await self._get("identity")
        packed, encoding = await self._get("gzip")
        try:
            unpacked = gzip.decompress(packed) if encoding == "gzip" else packed
        except (OSError, EOFError, zlib.error):
            return FileResult(encoding, is_equal=False)
        return FileResult(encoding, is_equal=unpacked == plain)

    async def _get(self, encoding: str) -> tuple[bytes, str]:
        timeout = aiohttp.ClientTimeout(total=CONNECT_S)
        with failures_in_words(self.url, CONNECT_S):
            async with self._http.get(
                self.url + FILE, headers={"accept-encoding": encoding} | self._authorization, timeout=timeout
            ) as answer:
                return await answer.read(), answer.headers.get("content-encoding", "")

    async def protocol(self) -> str:
        """The protocol that TLS agrees on with one who speaks HTTP/2 and HTTP/1.1, as browsers do; empty without TLS.

        Raises:
            Unavailable: the connection fails.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "https":
            return ""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port or 443, ssl=context)
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"{self.url} does not answer: {error}") from None
        agreed: str | None = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.transport.abort()
        return agreed or "http/1.1"


class _StreamReader:
    """Bytes in, events out, with the times at which they came."""

    def __init__(self) -> None:
        self.is_compressed = False
        self._began = self._last = time.monotonic()
        self._unpacker = zlib.decompressobj(GZIP)
        self._rest = b""
        self._events: list[Received] = []
        self._has_hint = False

    def feed(self, data: bytes) -> None:
        self._last = time.monotonic()
        *frames, self._rest = (self._rest + (self._unpacked(data))).split(b"\n\n")
        for frame in frames:
            fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
            self._has_hint |= b"retry" in fields
            if b"event" in fields:
                value = json.loads(fields.get(b"data", b"{}"))
                self._events.append(Received(fields[b"event"].decode(), value, self._last - self._began))

    def _unpacked(self, data: bytes) -> bytes:
        return self._unpacker.decompress(data) if self.is_compressed else data

    def result(self, headers: Mapping[str, str]) -> StreamResult:
        now = time.monotonic()
        return StreamResult(headers, self._events, now - self._began, now - self._last, self._has_hint)


@contextlib.asynccontextmanager
async def opened_probe(frontend: FrontendClient, key: str) -> AsyncIterator[ProxyProbe]:
    """A probe during the block."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        yield ProxyProbe(frontend, key, http)
