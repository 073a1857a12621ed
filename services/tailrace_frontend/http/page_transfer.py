"""How the page's files are transferred: compressed, and not at all where the browser has them already.

The files are small and few, so each is compressed once and kept, until it changes. Nothing else is compressed: an
answer of the API is sent while it is written, and may hold a secret beside text that a stranger chose (BREACH).
"""

import asyncio
import gzip
import hashlib
from collections.abc import Collection
from typing import NamedTuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES = 512
"""A smaller file fits into the packet of its headers."""


class _Compressed(NamedTuple):
    body: bytes
    compressed: bytes
    etag: str


class PageTransfer:
    """ASGI middleware for GET of these paths. Their responses have one body, below some hundred kilobytes."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = frozenset(paths)
        self._kept: dict[str, _Compressed] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope)
        if "range" in given:
            return await self._app(scope, receive, send)
        start: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(scope, receive, collect)
        if start["status"] == 200:
            await self._send(scope["path"], given, start, bytes(body), send)
        else:
            await send(start)
            await send({"type": "http.response.body", "body": bytes(body)})
        return None

    async def _send(self, path: str, given: Headers, start: Message, body: bytes, send: Send) -> None:
        file = self._kept.get(path)
        if file is None or file.body != body:
            file = self._kept[path] = await asyncio.to_thread(_compress, body)
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["ETag"] = file.etag
        headers.add_vary_header("Accept-Encoding")
        status = 200
        if _has(given.get("if-none-match", ""), file.etag):
            status, body = 304, b""
        elif len(body) >= MIN_BYTES and _accepts_gzip(given.get("accept-encoding", "")):
            headers["Content-Encoding"], body = "gzip", file.compressed
        if status == 304:
            del headers["Content-Length"]
        else:
            headers["Content-Length"] = str(len(body))
        await send({"type": "http.response.start", "status": status, "headers": headers.raw})
        await send({"type": "http.response.body", "body": body})


def _compress(body: bytes) -> _Compressed:
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: the same for both encodings
    return _Compressed(body, gzip.compress(body, 9, mtime=0), etag)


def _has(if_none_match: str, etag: str) -> bool:
    return etag.removeprefix("W/") in (each.strip().removeprefix("W/") for each in if_none_match.split(","))


def _accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named, and not with a weight of zero."""
    for each in accept_encoding.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
