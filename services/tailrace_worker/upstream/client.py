"""The HTTP client to the upstream: the OpenAI SDK for everything but the response body.

The SDK provides authentication, retries, base URL, proxies and errors, over its own aiohttp transport. The body is read
here, as bytes: a chunk costs 29-35 µs that way and 176 µs as SDK objects (measured on a real socket), and the SDK's
`iter_lines` would split a line inside JSON at U+2028.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx2
import msgspec
import openai

from tailrace.events import Failure
from tailrace.settings import Settings
from tailrace_worker.upstream.errors import ConnectionLost
from tailrace_worker.upstream.sse import Splitter

MAX_EVENT_BYTES = 8 * 1024 * 1024
DRAIN_S = 0.05
MIN_KEY_CHARACTERS = 8
"""Shorter keys are placeholders that also occur as ordinary words, so they are not redacted."""

SendRequest = Callable[[], AbstractAsyncContextManager[openai.AsyncAPIResponse[Any]]]
"""Sends a request when its result is entered: a `with_streaming_response` method of the SDK, with its arguments."""


class UpstreamClient:
    """The connections to the default upstream: `OPENAI_BASE_URL` and `OPENAI_API_KEY`, as the SDK reads them.

    `sdk` is for the dialects, which know the SDK's method and the body that it sends. `sdk_without_retries` uses the
    same connections.
    """

    def __init__(self, settings: Settings) -> None:
        limits = httpx2.Limits(max_connections=settings.max_jobs, max_keepalive_connections=settings.max_jobs)
        timeout = httpx2.Timeout(None, connect=settings.upstream_connect_timeout_s)
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self.sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",  # local servers need no key, but the SDK requires one
            max_retries=settings.upstream_retries,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
        )
        self.sdk_without_retries = self.sdk.with_options(max_retries=0)

    def redact(self, failure: Failure) -> Failure:
        """The same failure without the worker's API key, which some upstreams repeat in their error messages."""
        if len(self._key) < MIN_KEY_CHARACTERS:
            return failure
        fields = msgspec.structs.asdict(failure)
        texts = {name: text.replace(self._key, "***") for name, text in fields.items() if isinstance(text, str)}
        return msgspec.structs.replace(failure, **texts)

    async def close(self) -> None:
        await self.sdk.close()


async def stream_payloads(send: SendRequest, is_last: Callable[[bytes], bool]) -> AsyncGenerator[list[bytes], None]:
    """Send a request and yield the payloads of its SSE response, one list for each read of the socket.

    The stream ends with the payload that `is_last` recognizes, or with the response. Close it with `aclosing`: a
    generator that is left half-read keeps its connection until it is collected.

    Raises:
        ConnectionLost: the connection broke after the response had begun.
        openai.APIError: there was no response, or one with an error status.
        EventTooLarge: an event has more than MAX_EVENT_BYTES.
    """
    splitter = Splitter(MAX_EVENT_BYTES)
    async with send() as response:
        try:
            async with contextlib.aclosing(_raw_reads(response.http_response)) as reads:
                async for data in reads:
                    payloads = splitter.feed(data)
                    for i, payload in enumerate(payloads):
                        if is_last(payload):
                            yield payloads[: i + 1]
                            await _drain(reads)
                            return
                    if payloads:
                        yield payloads
        except httpx2.HTTPError as error:
            raise ConnectionLost(type(error).__name__) from error
    if payloads := splitter.close():
        yield payloads


async def _drain(reads: AsyncGenerator[bytes, None]) -> None:
    """Read the end of the HTTP body, so that the connection can serve the next request."""
    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in reads:
                pass


def _raw_reads(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as it is read from the socket.

    An uncompressed body is taken from the transport itself: that saves four generators for each read.
    """
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    reads = response.aiter_bytes() if "content-encoding" in response.headers else aiter(response.stream)
    return cast("AsyncGenerator[bytes, None]", reads)
