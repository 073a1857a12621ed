"""Answers that wait for their generation: its stream, or the whole of it as one JSON body.

The status of a foreground request is sent late: once there is output, or the end, or after a keep-alive interval. A
generation that fails before is answered with a true HTTP error, which SDKs understand. From then on

    a stream    has comments while nothing is sent, and ends with an error of its format, or is aborted
    a body      begins with a space for each keep-alive interval, which JSON allows; if the generation fails, its
                connection is aborted where the client will repeat the request, and gets the true status then; for any
                other client it is an `error` object

(openai-python and openai-node return an `error` object under the status 200 as if it were an answer.)

A process that stops before the status was sent aborts the connection: the client repeats the request elsewhere, and
gets the same generation (`retries`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace import jsoncodec
from tailrace.errors import Gone, NotFound, ObjectNotFound, TailraceError
from tailrace.failures import failure
from tailrace.ids import EntryId
from tailrace.log.state import GenerationState
from tailrace.wire import Encode, WireFormat
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE, ClientConnection
from tailrace_frontend.http.head import is_head, refuse_stream
from tailrace_frontend.http.json_response import JSONBytesResponse, send_slices
from tailrace_frontend.http.openai.errors import AnswerFailed, Refusal, is_abandoned, refusal_of
from tailrace_frontend.http.openai.lookup import headers_of
from tailrace_frontend.http.stream_endpoint import connect
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.completion_waiter import CompletionWaiter
from tailrace_frontend.streaming.stream_connection import StreamConnection

NO_OUTPUT = b"[]"
KEEP_ALIVE = b" "
UNBUFFERED = {"x-accel-buffering": "no"}
"""For bodies that begin long before they end."""

ReadAnswer = Callable[[GenerationState, bool], Awaitable[bytes]]
"""The answer of a generation that has ended, as JSON. Raises AnswerFailed where it has none. The flag: whether the
status 200 has been sent, so that a format which has an object for a failure uses it."""


class WaitingAnswer(Response):
    """The answer of one generation to one caller. `may_repeat`: as for `errors.refusal_of`."""

    def __init__(
        self, services: Services, caller: ApiKey, state: GenerationState, media_type: str | None, *, may_repeat: bool
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.media_type = media_type
        self._services = services
        self._caller = caller
        self._state = state
        self._may_repeat = may_repeat
        self.init_headers(headers_of(state) | UNBUFFERED)
        del self.headers["content-length"]

    def _waiter(self, client: ClientConnection) -> CompletionWaiter:
        """It waits for an absent Redis for as long as a stream does."""
        services, record = self._services, self._state.record
        find = partial(services.generations.find, record.id, record.owner)
        may_wait = partial(services.callers.may_read, self._caller)
        outage_s = services.settings.restart_grace_s + services.settings.lease_s
        return CompletionWaiter(services.hub, self._state, client, find=find, outage_s=outage_s, may_wait=may_wait)

    def _refusal(self, error: AnswerFailed | TailraceError) -> Refusal:
        if isinstance(error, (NotFound, Gone)):
            error = ObjectNotFound("The answer was deleted.")
        refusal = refusal_of(error, may_repeat=self._may_repeat)
        self._services.metrics.refused(refusal.status)
        return refusal

    def _refused(self, error: AnswerFailed | TailraceError) -> Response:
        status, body, headers = self._refusal(error)
        return JSONBytesResponse(body, status, headers_of(self._state) | headers)


class StreamedAnswer(WaitingAnswer):
    """The log in a format. `after`: the position from which it is sent. Its status is sent at once then, and where the
    generation is not foreground. `seen_to`: as for `LogCursor`."""

    def __init__(
        self, services: Services, caller: ApiKey, state: GenerationState, wire: WireFormat,
        after: EntryId | None = None, *, seen_to: int = -1, may_repeat: bool,
    ) -> None:  # fmt: skip
        super().__init__(services, caller, state, wire.media_type, may_repeat=may_repeat)
        self._wire = wire
        self._after = after
        self._seen_to = seen_to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """(This frame lives as long as the stream; what is needed only at the beginning is local to `_open`.)"""
        try:
            stream = await self._open(scope, send)
        except (AnswerFailed, TailraceError) as error:
            return await self._refused(error)(scope, receive, send)
        if stream is None:
            return await abort(scope[SCOPE])
        return await stream.run()

    async def _open(self, scope: Scope, send: Send) -> StreamConnection | None:
        """The stream, once its status is known; None where the client has left, or has to repeat its request.

        Raises:
            AnswerFailed: as `_check_output`.
            TailraceError: the request is refused, or Redis was away.
        """
        refuse_stream(scope)  # at once: the wait for output may take a while
        state = self._state
        encode = await self._services.encoders.bind(self._wire, state)
        if self._after is not None or not state.record.foreground:
            return self._connect(encode, state, scope, send)
        if state.is_final:
            await self._check_output(state)
            return self._connect(encode, state, scope, send)
        with self._waiter(scope[SCOPE]) as waiter:
            state = await waiter.wait_for_output(self._services.settings.keepalive_s)
            if waiter.is_stopping:
                return None
            await self._check_output(state)
            waiter.leave()
            return self._connect(encode, state, scope, send)

    async def _check_output(self, state: GenerationState) -> None:
        """Raises AnswerFailed if the generation has failed before it had any output, or was cancelled then because the
        client of an equal request had left."""
        done = await self._services.generations.end(state) if state.status in ("failed", "cancelled") else None
        if done is None or bytes(memoryview(done.output)[: len(NO_OUTPUT)]) != NO_OUTPUT:
            return
        if state.status == "failed" or (self._may_repeat and is_abandoned(done.error)):
            raise AnswerFailed(done.error or failure("server_error"))

    def _connect(self, encode: Encode, state: GenerationState, scope: Scope, send: Send) -> StreamConnection:
        extra = [(name.encode(), value.encode()) for name, value in headers_of(state).items()]
        return connect(
            self._services, self._wire, encode, state, self._after, self._caller, extra, scope, send, self._seen_to
        )


class WholeAnswer(WaitingAnswer):
    """The answer as one JSON body, at the generation's end."""

    def __init__(
        self, services: Services, caller: ApiKey, state: GenerationState, read: ReadAnswer, *, may_repeat: bool,
        will_repeat: bool,
    ) -> None:  # fmt: skip
        """`will_repeat`: as `retries.will_repeat`."""
        super().__init__(services, caller, state, JSONBytesResponse.media_type, may_repeat=may_repeat)
        self._read = read
        self._will_repeat = will_repeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client: ClientConnection = scope[SCOPE]
        late = LateBody(self.raw_headers, send)
        if is_head(scope) and not self._state.is_final:
            return await late.end_head()
        try:
            if not (self._state.is_final or await self._wait_for_end(client, late)):
                return await abort(client)
            async with self._reading():
                body = await self._read(self._state, late.has_begun)
                self._services.rate_limits.charge_answer(self._caller.owner, len(body))
        except (AnswerFailed, TailraceError) as error:
            if not late.has_begun:
                return await self._refused(error)(scope, receive, send)
            refusal = self._refusal(error)
            if self._will_repeat:
                return await abort(client)
            body = jsoncodec.dumps(refusal.body)
        if late.has_begun:
            return await late.end(client, body)
        return await JSONBytesResponse(body, 200, headers_of(self._state))(scope, receive, send)

    def _reading(self) -> AbstractAsyncContextManager[None]:
        """A request that waited for its generation is not refused for what its caller has read meanwhile."""
        return nullcontext() if self._may_repeat else self._services.rate_limits.reading(self._caller.owner)

    async def _wait_for_end(self, client: ClientConnection, late: "LateBody") -> bool:
        """Wait for the end, and keep the connection alive. False: the client has left, or has to repeat its request, or
        its key was withdrawn."""
        with self._waiter(client) as waiter:
            while not (state := await waiter.wait_for_end(self._services.settings.keepalive_s)).is_final:
                if waiter.is_stopping or not self._services.callers.may_read(self._caller):
                    return False
                await late.keep_alive()
        self._state = state
        return True


class LateBody:
    """The body of a response whose status may have to be sent before its content is there."""

    def __init__(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self.has_begun = False
        self._headers = headers
        self._send = send

    async def keep_alive(self) -> None:
        """Send a space; before the first one, the status."""
        if not self.has_begun:
            self.has_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    async def end_head(self) -> None:
        """Answer a HEAD: with the status that a body has which is still waited for, and without its length."""
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": b""})

    async def end(self, client: ClientConnection, body: bytes) -> None:
        """Send the content."""
        client.inflight.hold(self, len(body), client.abort)
        try:
            await send_slices(body, self._send)
        finally:
            client.inflight.release(self)


async def abort(client: ClientConnection) -> None:
    """End the connection: its client sees that it broke."""
    client.abort()
    await asyncio.sleep(0)  # uvicorn learns of the abort before it sees a response without an end
