"""The stream of an answer that its upstream runs in the background: taken up where a connection, or a worker, is lost.

    create | retrieve ──▶ payloads ──▶ the end
        ▲                    ├─ lost: after a delay
        └────────────────────┴─ no byte for half the idle timeout: at once, and once

A connection may be dead without an error (a router has forgotten it): silence is the only sign. An upstream that is
silent on the second connection as well is left after the idle timeout, as any other.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from functools import partial

import openai

from tailrace_worker.idle_timeout import IdleTimeout
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.client import SendRequest, UpstreamClient, stream_payloads
from tailrace_worker.upstream.errors import ConnectionLost, is_retried, retry_delay
from tailrace_worker.upstream.responses.payload import FINAL, is_end, parsed

logger = logging.getLogger(__name__)

MAX_RESUMPTIONS = 10
"""In a row without a new event."""

AT_ONCE_S = 1.0
"""A connection that is lost is replaced at once, unless the one before it was lost within this time."""

MAX_ID_CHARACTERS = 256
"""An answer with a longer id is not taken up: each renewal of the lease stores the id."""

CANCEL_S = 0.8
"""An upstream that is silent is left within a second."""


class BackgroundStream:
    """Reads one answer that the upstream goes on with when a connection is lost, or a worker.

    `create`: sends the request. `background`: the response that an earlier attempt has left, which is read then.
    """

    def __init__(self, client: UpstreamClient, create: SendRequest, background: BackgroundResponse) -> None:
        self._client = client
        self._create = create
        self._background = background
        self._position = Position(background.id_at(client.config.name))
        self._send = self._retrieve() if self._position.response_id else create
        self._lost = 0
        self._lost_at = -AT_ONCE_S
        self._was_silent = False

    async def payloads(self) -> AsyncGenerator[list[bytes], None]:
        """The payloads of the answer, one list for each read.

        Raises:
            As `stream_payloads`, once the answer cannot be taken up.
        """
        try:
            while True:
                error: Exception | None = None
                try:
                    async with contextlib.aclosing(self._read()) as reads:
                        async for payloads in reads:
                            yield payloads
                except (TimeoutError, ConnectionLost, openai.APIConnectionError, openai.APIStatusError) as failed:
                    error = failed
                if self._position.has_ended:
                    return
                if (delay_s := self._delay_before_next(error)) is None:
                    if error:
                        raise error
                    return
                await asyncio.sleep(delay_s)
        finally:
            await self._leave()

    async def _read(self) -> AsyncGenerator[list[bytes], None]:
        """The payloads that one connection has of it.

        Raises:
            TimeoutError: nothing was read for half the idle timeout, for the first time since the last event.
        """
        position, silence_s = self._position, self._client.idle_timeout_s / 2
        async with (
            IdleTimeout(silence_s, silence_s) as silence,
            contextlib.aclosing(stream_payloads(self._send, is_end)) as stream,
        ):
            skipped = position.number if position.has_begun else None  # some upstreams repeat what was read
            if self._was_silent or not position.is_numbered:
                silence.pause()
            async for payloads in stream:
                silence.pause()
                if skipped is not None:
                    payloads = [each for each in payloads if is_behind(each, skipped)]
                if not payloads:
                    continue
                skipped = None
                position.update(payloads)
                if position.response_id:
                    await self._background.begin(self._client.config.name, position.response_id)
                self._lost, self._was_silent = 0, False
                yield payloads
                if position.is_numbered:
                    silence.reset(time.monotonic())

    def _delay_before_next(self, error: Exception | None) -> float | None:
        """Seconds until the answer is taken up; None: it cannot be, was lost too often, or the upstream asks for too
        long a delay. `error`: None where the stream ended without one and without an end."""
        is_lost = error is None or isinstance(error, TimeoutError) or is_retried(error, foreground=False)
        if self._send is not self._create and not (self._position.has_begun or is_lost):
            self._position, self._send = Position(), self._create  # the upstream keeps it no more
            return 0.0
        if not (self._position.can_resume and is_lost) or self._lost == MAX_RESUMPTIONS:
            return None
        if isinstance(error, TimeoutError):
            logger.info("%s: silent for %g s", self._position.response_id, self._client.idle_timeout_s / 2)
        self._send = self._retrieve()
        if isinstance(error, TimeoutError):
            self._was_silent = True
            return 0.0
        now = time.monotonic()
        is_first, self._lost_at = now - self._lost_at >= AT_ONCE_S, now
        self._lost += 1
        if is_first and not isinstance(error, openai.APIStatusError):
            return 0.0
        return retry_delay(error or ConnectionLost("ended"), self._lost - 1)

    def _retrieve(self) -> SendRequest:
        """Take the answer up behind the last event that was read."""
        position = self._position
        logger.info("%s: taken up behind event %d", position.response_id, position.number)
        after = {"starting_after": position.number} if position.has_begun else {}
        retrieve = self._client.sdk.responses.with_streaming_response.retrieve
        return partial(retrieve, position.response_id, stream=True, **after)

    async def _leave(self) -> None:
        """Read it no further: cancel what has not ended, unless another worker goes on with it."""
        if self._background.is_taken_over:
            return
        if self._position.response_id and not self._position.has_ended:
            await self._cancel()
        self._background.end()

    async def _cancel(self) -> None:
        """End an answer that is read no further, so that it is not written and billed to its end."""
        with contextlib.suppress(openai.APIError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await self._client.sdk.responses.cancel(self._position.response_id)


class Position:
    """How far an answer was read: the upstream's id of it, and the number of its last event.

    Only a loss looks into what was read: a token costs nothing here.
    """

    def __init__(self, response_id: str = "") -> None:
        self.response_id = response_id
        self._last = b""
        self._numbered: list[bytes] = []

    @property
    def number(self) -> int:
        """Of the last event that was read; -1 where there was none, or the upstream does not number them."""
        for payload in reversed(self._numbered):
            number = (parsed(payload) or {}).get("sequence_number")
            if type(number) is int:
                return number
        return -1

    @property
    def is_numbered(self) -> bool:
        """Whether the upstream seems to number its events: `has_begun`, without a look into them."""
        return bool(self._numbered and self.response_id)

    @property
    def has_begun(self) -> bool:
        return self.number >= 0

    @property
    def has_ended(self) -> bool:
        return _has_end(self._last)

    @property
    def can_resume(self) -> bool:
        """Whether the upstream has named the answer, and has numbered its events."""
        return bool(self.response_id) and self.has_begun

    def update(self, payloads: list[bytes]) -> None:
        """Note what was read: the last payload, and the last read with a number."""
        self._last = payloads[-1]
        if any(b'"sequence_number"' in payload for payload in reversed(payloads)):
            self._numbered = payloads
        for payload in payloads if not self.response_id else ():
            response = (parsed(payload) or {}).get("response")
            response_id = response.get("id") if isinstance(response, dict) else None
            if isinstance(response_id, str) and len(response_id) <= MAX_ID_CHARACTERS:
                self.response_id = response_id
                break


def is_behind(payload: bytes, number: int) -> bool:
    """Whether an event follows the one with this number, or is the end of the answer."""
    event = parsed(payload) or {}
    its_own = event.get("sequence_number")
    if type(its_own) is int:
        return its_own > number
    return _has_end(payload)


def _has_end(payload: bytes) -> bool:
    """Whether it is the last event, or the whole answer as one object."""
    if is_end(payload):
        return True
    event = parsed(payload) or {}
    return event.get("object") == "response" and f"response.{event.get('status')}" in FINAL
