"""Bounds the body of an answer with an error status, which the SDK reads whole before it raises.

Without bounds an endless one takes all memory (3.8 GiB in 35 s, measured), and so does a compressed one: 2 KB that were
compressed twice took 12 GB (measured). One that stops in the middle lasts until the first token's timeout, and one that
breaks or cannot be decompressed raises the transport's error in place of the status.
"""

import asyncio
import contextlib
import zlib

import httpx2

MAX_ERROR_BYTES = 64 * 1024
"""Of the body as it is sent, and of the same when it is decompressed."""

ERROR_BODY_S = 5.0
"""Seconds for the body, once the status has arrived."""

ZLIB_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
OTHER_CODINGS = frozenset({"br", "zstd", "compress", "x-compress"})
"""Compressed bodies that are not decompressed: the worker does not ask for them."""

ZLIB_OR_GZIP = zlib.MAX_WBITS | 32
CHARSETS = frozenset({"utf-8", "iso-8859-1", "windows-1252", "gb18030", "gbk", "shift_jis"})
"""Read as their `charset`. Any other is read as UTF-8: Python has some that take a time which grows with the square of
the length (`punycode`), and some that are no charsets (`zlib`)."""


async def bound_error_body(response: httpx2.Response) -> None:
    """Replace the body of an error with as much of it as arrives within the bounds, decompressed: a hook of the HTTP
    client."""
    if response.status_code < 300:
        return
    body = await _beginning_of(response.stream)
    if "content-encoding" in response.headers:
        body = _decompressed(body, response.headers.get_list("content-encoding", split_commas=True))
        del response.headers["content-encoding"]
    if (response.charset_encoding or "").lower() not in CHARSETS:
        response.encoding = "utf-8"
    response.stream = httpx2.ByteStream(body)


async def _beginning_of(stream: object) -> bytes:
    assert isinstance(stream, httpx2.AsyncByteStream)
    body = bytearray()
    with contextlib.suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(ERROR_BODY_S):
            async for data in stream:
                body += data
                if len(body) >= MAX_ERROR_BYTES:
                    break
    with contextlib.suppress(httpx2.HTTPError):
        await stream.aclose()
    return bytes(body[:MAX_ERROR_BYTES])


def _decompressed(body: bytes, codings: list[str]) -> bytes:
    """The beginning of the body; nothing of one that was compressed several times, by another algorithm, or that is
    damaged. A name that is no compression (`utf-8`) leaves the body as it is."""
    names = [name for each in codings if (name := each.strip().lower()) in ZLIB_CODINGS | OTHER_CODINGS]
    if not names:
        return body
    if len(names) > 1 or names[0] in OTHER_CODINGS:
        return b""
    for window in (ZLIB_OR_GZIP, -zlib.MAX_WBITS) if names == ["deflate"] else (ZLIB_OR_GZIP,):
        with contextlib.suppress(zlib.error):  # (some servers send `deflate` without its header)
            return zlib.decompressobj(window).decompress(body, MAX_ERROR_BYTES)
    return b""
