"""The HTTP client to the upstream: the OpenAI SDK for everything but the response body.

The SDK provides authentication, base URL, proxies and errors, over its own aiohttp transport. The body is read
here, as bytes: a chunk costs 29-35 µs that way and 176 µs as SDK objects (measured on a real socket), and the SDK's
`iter_lines` would split a line inside JSON at U+2028.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx2
import msgspec
import openai

from tailrace import tracing
from tailrace.events import Failure
from tailrace.settings import Settings
from tailrace.upstreams import DEFAULT_UPSTREAM, UpstreamConfig
from tailrace_worker.upstream.error_bodies import bound_error_body
from tailrace_worker.upstream.errors import ConnectionLost, NotSent, Unreadable, detail_of
from tailrace_worker.upstream.no_stream import Beginning, whole_json
from tailrace_worker.upstream.redaction import Redaction
from tailrace_worker.upstream.sse import Splitter

MAX_EVENT_BYTES = 8 * 1024 * 1024
TURN_BYTES = 64 * 1024
DRAIN_S = 0.05
NOT_OF_OPENAI: Mapping[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
"""The SDK takes both from the environment, where they belong to OPENAI_API_KEY. No other upstream is sent them."""

LIMITS = ("requests", "tokens")
MAX_DIGITS = 15

SendRequest = Callable[[], AbstractAsyncContextManager[openai.AsyncAPIResponse[Any]]]
"""Sends a request when its result is entered: a `with_streaming_response` method of the SDK, with its arguments."""


class UpstreamClient:
    """The connections to one upstream; by default to that of `OPENAI_BASE_URL` and `OPENAI_API_KEY`.

    `redaction`: the keys of all upstreams, which no message repeats: behind a router an error may quote any of them.
    `remaining`: requests and tokens that the newest response has left of the upstream's limits, where it reports them.
    `sdk` is for the dialects, which know the SDK's method and the body that it sends. It retries nothing (`asking`
    does), and follows no redirect: the prompt goes to the configured address alone.
    """

    def __init__(
        self, settings: Settings, config: UpstreamConfig = DEFAULT_UPSTREAM, redaction: Redaction | None = None
    ) -> None:
        self.config = config
        self.remaining: dict[str, int] = {}
        self.idle_timeout_s = settings.upstream_idle_timeout_s
        limits = httpx2.Limits(max_connections=settings.max_jobs, max_keepalive_connections=settings.max_jobs)
        timeout = httpx2.Timeout(None, connect=settings.upstream_connect_timeout_s)
        key = config.key()
        self.redaction = redaction or Redaction()
        self.redaction.add([key])
        hooks = [_continue_trace] if settings.trace_upstreams else []
        self.sdk = openai.AsyncOpenAI(
            api_key=key or "none",  # local servers need no key, but the SDK requires one
            base_url=config.base_url or None,
            default_headers=NOT_OF_OPENAI if config.base_url else None,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(
                limits=limits,
                timeout=timeout,
                follow_redirects=False,
                event_hooks={"request": hooks, "response": [bound_error_body, self._note_limits]},
            ),
        )

    async def _note_limits(self, response: httpx2.Response) -> None:
        """Keep what is left of the upstream's limits, as it reports it in OpenAI's headers."""
        for kind in LIMITS:
            if (left := response.headers.get(f"x-ratelimit-remaining-{kind}", "")).isdecimal():
                self.remaining[kind] = int(left[:MAX_DIGITS])

    def redact(self, failure: Failure) -> Failure:
        """The same failure without any key (`Redaction`)."""
        return self.redaction.redacted(failure)

    def with_own_settings(self, failure: Failure) -> Failure:
        """The same failure with the keys of `tailrace.toml` where it names the variables of the one upstream without
        it."""
        if not self.config.base_url:
            return failure
        own = f"`base_url` of {self.config.name} in tailrace.toml"
        message = failure.message.replace("OPENAI_BASE_URL", own).replace("OPENAI_API_KEY", self._key_setting)
        return msgspec.structs.replace(failure, message=message)

    @property
    def _key_setting(self) -> str:
        return self.config.api_key_env or f"`api_key_env` of {self.config.name} in tailrace.toml, which is not set"

    def describe(self, error: Exception) -> str:
        """Where and how a request failed, for the log alone: the upstream's address, and its own words or those of the
        transport, without the key and without what looks like a part of it."""
        detail = " ".join(map(self.redaction.masked, detail_of(error).split()))
        return f"{self.address}: {detail}" if detail else self.address

    @property
    def address(self) -> str:
        """The upstream's address, without credentials."""
        url = self.sdk.base_url
        port = "" if url.port is None else f":{url.port}"
        return f"{url.scheme}://{url.host}{port}{url.path.rstrip('/')}"

    async def close(self) -> None:
        await self.sdk.close()


async def _continue_trace(request: httpx2.Request) -> None:
    request.headers.update(tracing.outgoing_headers())


async def stream_payloads(send: SendRequest, is_last: Callable[[bytes], bool]) -> AsyncGenerator[list[bytes], None]:
    """Send a request and yield the payloads of its SSE response, one list for each read of the socket.

    The stream ends with the payload that `is_last` recognizes, or with the response. Close it with `aclosing`: a
    generator that is left half-read keeps its connection until it is collected.

    Raises:
        ConnectionLost: the connection broke after the response had begun.
        openai.APIError: there was no response, or one with an error status.
        NotSent: there was no request.
        EventTooLarge: an event has more than MAX_EVENT_BYTES.
        Unreadable: the body is no event stream, nor an answer or an error in JSON, which is one payload.
    """
    splitter = Splitter(MAX_EVENT_BYTES)
    beginning, has_begun, has_payloads = Beginning(), False, False
    async with sent(send) as response:
        try:
            async with contextlib.aclosing(body_reads(response.http_response)) as reads:
                async for data in reads:
                    if not has_begun:
                        if not (has_begun := beginning.feed(data)):
                            continue
                        if beginning.is_json:
                            yield [await whole_json(beginning.data, reads, MAX_EVENT_BYTES)]
                            return
                        data = beginning.data
                    payloads = splitter.feed(data)
                    for i, payload in enumerate(payloads):
                        if is_last(payload):
                            yield payloads[: i + 1]
                            await _drain(reads)
                            return
                    if payloads:
                        has_payloads = True
                        yield payloads
        except httpx2.DecodingError as error:
            raise Unreadable("cannot be decompressed") from error
        except httpx2.HTTPError as error:
            raise ConnectionLost(type(error).__name__) from error
    cut = [] if has_begun else splitter.feed(beginning.data)
    if payloads := cut + splitter.close():
        yield payloads
    elif not has_payloads:
        beginning.check_end()


@contextlib.asynccontextmanager
async def sent(send: SendRequest) -> AsyncIterator[openai.AsyncAPIResponse[Any]]:
    """Send a request; the answer, whose body is not read yet.

    Raises:
        openai.APIError: as `stream_payloads`.
        NotSent: there was no request.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            response = await stack.enter_async_context(send())
        except ValueError as error:
            raise NotSent(type(error).__name__) from error
        yield response


async def _drain(reads: AsyncGenerator[bytes, None]) -> None:
    """Read the end of the HTTP body, so that the connection can serve the next request."""
    with contextlib.suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in reads:
                pass


def body_reads(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as it is read from the socket.

    An uncompressed body is taken from the transport itself: that saves four generators for each read.

    Raises:
        Unreadable: as it is read: it was compressed several times.
    """
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    reads = _decompressed_reads(response) if "content-encoding" in response.headers else aiter(response.stream)
    return cast("AsyncGenerator[bytes, None]", reads)


async def _decompressed_reads(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body, decompressed. One read may become a thousand times its size: other tasks have their turn after each
    64 KiB of it.

    Raises:
        Unreadable: it was compressed several times, so that one read may become any size.
    """
    codings = response.headers.get_list("content-encoding", split_commas=True)
    if sum(coding.strip().lower() not in ("", "identity") for coding in codings) > 1:
        raise Unreadable("is compressed several times")
    async with contextlib.aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), TURN_BYTES):
                yield piece[start : start + TURN_BYTES]
                await asyncio.sleep(0)
