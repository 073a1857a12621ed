"""The way to the upstream: the OpenAI SDK for everything but the body.

The SDK carries authentication, retries, base URL, proxies and errors, over its own aiohttp transport. The body is
parsed here, from bytes: a chunk costs 29-35 µs that way and 176 µs as SDK objects (measured on a real socket), and
`iter_lines` would split inside JSON at U+2028.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import httpx2
import msgspec
import openai

from tailrace import jsoncodec
from tailrace.events import Failure, Json
from tailrace.settings import Settings
from tailrace_worker.upstream.sse import Splitter

MAX_EVENT_BYTES = 8 * 1024 * 1024
MAX_MESSAGE = 500
READ_OUT_S = 0.05
MIN_KEY = 8  # shorter ones are placeholders, and words


class Lost(Exception):
    """The connection broke before the answer was complete."""


class Empty(Lost):
    """The answer was a clean end and nothing else."""


class ChatStream:
    """One answer. Iterate it for lists of payloads, a list for each read of the socket.

    `complete`: `[DONE]` was seen.
    """

    def __init__(self, client: openai.AsyncOpenAI, request: Json) -> None:
        self._client = client
        self._request = request
        self.complete = False

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        """Raises Lost if the connection breaks, openai.APIError before there is an answer, ValueError for an event
        beyond all bounds."""
        splitter = Splitter(MAX_EVENT_BYTES)
        create = self._client.chat.completions.with_streaming_response.create
        body = {**self._request, "stream": True, "stream_options": self._stream_options()}
        # The body goes out as it came in; the SDK's own arguments are placeholders that it replaces.
        async with create(messages=[], model=str(body.get("model")), stream=True, extra_body=body) as response:
            try:
                async with contextlib.aclosing(_bytes_of(response.http_response)) as reads:
                    async for data in reads:
                        if payloads := self._up_to_end(splitter.feed(data)):
                            yield payloads
                        if self.complete:
                            await _read_out(reads)
                            return
            except httpx2.HTTPError as error:
                raise Lost(type(error).__name__) from error
        if payloads := self._up_to_end(splitter.close()):
            yield payloads

    def _stream_options(self) -> Json:
        options = self._request.get("stream_options")
        return {**(options if isinstance(options, dict) else {}), "include_usage": True}

    def _up_to_end(self, payloads: list[bytes]) -> list[bytes]:
        for i, payload in enumerate(payloads):
            if payload.startswith(b"[DONE]"):
                self.complete = True
                return payloads[:i]
        return payloads


async def _read_out(reads: AsyncGenerator[bytes, None]) -> None:
    """What comes behind the end is the end of HTTP: once it was read the connection serves the next answer as well."""
    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(READ_OUT_S):
            async for _ in reads:
                pass


def _bytes_of(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as it is read from the socket. What is not compressed comes from the transport itself: four generators
    less for each read."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    reads = response.aiter_bytes() if "content-encoding" in response.headers else aiter(response.stream)
    return cast("AsyncGenerator[bytes, None]", reads)


class Upstream:
    """The default upstream: `OPENAI_BASE_URL` and `OPENAI_API_KEY`, as the SDK reads them."""

    def __init__(self, settings: Settings) -> None:
        limits = httpx2.Limits(max_connections=settings.max_jobs, max_keepalive_connections=settings.max_jobs)
        timeout = httpx2.Timeout(None, connect=settings.upstream_connect_timeout_s)
        self._key = os.environ.get("OPENAI_API_KEY", "")
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # local servers need none, the SDK insists on one
            max_retries=settings.upstream_retries,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
        )

    def chat(self, request: Json) -> ChatStream:
        return ChatStream(self._client, request)

    def discreet(self, failure: Failure) -> Failure:
        """The same failure without our key, which some upstreams repeat in what they say of it."""
        if len(self._key) < MIN_KEY:
            return failure
        told = {name: text.replace(self._key, "***") for name, text in msgspec.structs.asdict(failure).items() if text}
        return msgspec.structs.replace(failure, **told)

    async def close(self) -> None:
        await self._client.close()


def failure_of(error: Exception) -> Failure:
    """What is told of an upstream's error: its own words where they are about the request, never our credentials."""
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return Failure(f"The upstream refused us ({error.status_code}).", "upstream_auth")
        case openai.RateLimitError():
            return Failure(_message(error), "upstream_rate_limited", "rate_limit_exceeded")
        case openai.APIStatusError() if error.status_code < 500:
            return Failure(_message(error), error.code or "upstream_refused", error.type or "invalid_request_error")
        case openai.APIStatusError():
            return Failure(f"The upstream failed ({error.status_code}).", "upstream_error")
        case openai.APITimeoutError():
            return Failure("The upstream did not answer in time.", "upstream_timeout")
        case Empty():
            return Failure("The upstream ended without an answer.", "upstream_empty")
        case openai.APIConnectionError() | Lost():
            return Failure("The connection to the upstream was lost.", "upstream_unreachable")
        case TimeoutError():
            return Failure("The upstream fell silent.", "upstream_timeout")
        case ValueError():
            return Failure(f"The upstream's answer cannot be read: {error}"[:MAX_MESSAGE], "upstream_unreadable")
    return Failure("The worker failed.", "internal_error")


def _message(error: openai.APIStatusError) -> str:
    body: Any = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(
        jsoncodec.replace_lone_surrogates(
            message if isinstance(message, str) else f"The upstream answered {error.status_code}."
        )
    )[:MAX_MESSAGE]
