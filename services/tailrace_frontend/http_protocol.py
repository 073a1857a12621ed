"""uvicorn's HTTP/1.1 protocol with limits of size and time on everything that a client does.

    phase      the connection …                                   limit
    ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
    HEAD       waits for a whole request head                     `HEAD_BYTES`, `URL_BYTES`, `MAX_HEADERS`: 431;
                                                                  `HEAD_S`: 408, or, without one byte, closed
    BODY       receives a request's body                          408 below `BODY_BYTES_S`; `LINGER_BYTES` if no route
                                                                  reads it: 413
    ANSWER     has a whole request; its response is under way     aborted if the socket is full for `write_timeout_s`
    CLOSING    was refused, or its client has pipelined           closed after the response; input is discarded

After a response the phase is HEAD again with the next byte; until then uvicorn's keep-alive timer runs.

Bytes are counted before the parser is given them, because httptools keeps a head of any size, and copies a header's
value with each read (16 MiB: 2.0 s of CPU, measured). The framing of a body (the sizes of its chunks, their extensions,
trailers) may have `HEAD_BYTES` more than the body.

A request that begins before the previous one is answered is discarded, and the connection closes after the response:
by RFC 9112, section 9.3.2, the client repeats it. uvicorn would queue it, several thousands for each read, and stop
reading, so that it does not notice when the client leaves.

The application does not receive the headers in `UNREAD_HEADERS`: nothing here needs them, and libraries parse them.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from tailrace.errors import HeadTooLarge, InvalidRequest, RequestTimeout, RequestTooLarge, TailraceError, Unavailable
from tailrace.ids import new_request_id
from tailrace.sizes import size_text
from tailrace_frontend.access_log import ACCESS_LOG
from tailrace_frontend.client_connection import REQUEST_ID, SCOPE, ClientConnection
from tailrace_frontend.client_limits import (
    ANSWER,
    BODY,
    CLOSING,
    DEFERRED_BYTES,
    HEAD,
    HEAD_BYTES,
    MAX_HEADERS,
    SESSION_COOKIE,
    SESSION_HEADER,
    SMALL_HEAD_BYTES,
    UNREAD_HEADERS,
    URL_BYTES,
    WITHOUT_BODY,
    ClientLimits,
    ExceedingHead,
    PipelinedRequest,
    ReceivedRequest,
    check_head,
    refusal_bytes,
)
from tailrace_frontend.inflight import Inflight
from tailrace_frontend.late_event import LateEvent

MIB = 1024 * 1024
AUDITED = "/v1/admin/"
"""Requests to these paths have the client's address in their scope. uvicorn asks for both addresses of every socket,
which takes 30 µs a connection."""

HEAD_S = 10.0
BODY_S = 10.0
"""The interval in which `BODY_S * BODY_BYTES_S` of a body must arrive."""

BODY_BYTES_S = 1024
LINGER_S, LINGER_BYTES = 10.0, 8 * MIB
"""For how long, and how much, a client may send of a body that was answered before it was complete. A body that is
discarded (`WITHOUT_BODY`) may have as much."""

REFUSED_S, REFUSED_BYTES = 2.0, MIB
"""For how long, and how much, a refused connection is read: a socket that is closed with unread input is reset, and its
client may lose the response."""


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits, and with a `ClientConnection` in the scope of each request."""

    limits: ClassVar = ClientLimits(10_000, 30.0, Inflight(32 * MIB))

    _client_connection: ClientConnection
    _request: ReceivedRequest  # (one object for all of it: an instance with more than 30 attributes costs 1.2 KB)

    @classmethod
    def with_limits(cls, limits: ClientLimits) -> "type[Protocol]":
        """The protocol of one process. uvicorn creates its instances, so the limits are the class's."""
        return type("Protocol", (cls,), {"limits": limits})

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # In place of uvicorn's, which asks for addresses (`AUDITED`).
        self.connections.add(self)
        self.transport, self.flow, self.scheme = transport, FlowControl(transport), "http"
        self.access_logger, self.access_log = ACCESS_LOG, ACCESS_LOG.is_on  # type: ignore[assignment]
        self.flow._is_writable_event = LateEvent(is_set=True)  # type: ignore[assignment] # noqa: SLF001
        self._client_connection = ClientConnection(transport, self.flow, self.limits.inflight)
        self._request = ReceivedRequest()
        if not self.limits.make_room(len(self.connections)):
            # Without a response: an `EventSource` reconnects after a lost connection, and never after a 503.
            return transport.abort()
        self.limits.set_idle(self)
        return self._start_timer(HEAD_S, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_timer()
        self._stop_write_timer()
        self.limits.set_busy(self)
        connection = self._client_connection
        self._release()
        connection.lost = True
        if connection.on_lost:
            connection.on_lost()

    @property
    def _is_new(self) -> bool:
        """Whether nothing was received on the connection."""
        return self._request.phase == HEAD and not self._request.framing and self.cycle is None

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_discarded(self) -> bool:
        """Whether the request's body is."""
        return self._request.phase in (BODY, ANSWER) and self.scope["method"] in WITHOUT_BODY

    # ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        request = self._request
        if request.phase == ANSWER and not self._is_answering:
            request.phase, request.framing, request.body = HEAD, 0, 0
        if self._is_new and len(data) <= DEFERRED_BYTES and not self.limits.parsing.take_step():
            self._defer(data)
        else:
            self._receive(data)

    def _defer(self, data: bytes) -> None:
        """Parse the first piece of a connection's first head in a later turn of the event loop.

        (Readers that arrive have a connection each. Pausing and resuming the socket costs two system calls.)
        """
        self._stop_timer()
        self.limits.set_busy(self)  # an idle connection may be closed for another
        self.flow.pause_reading()
        self.limits.parsing.wait(partial(self._receive_deferred, data))

    def _receive_deferred(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.limits.set_idle(self)
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        request = self._request
        left = memoryview(data)
        while left:
            room = HEAD_BYTES - request.framing + (request.body if request.phase == BODY else 0)
            if request.phase == CLOSING:
                return self._discard(len(left))
            if room <= 0:
                return self.refuse(HeadTooLarge())
            self._feed(left[:room])
            left = left[room:]
        return self._count()

    def _feed(self, piece: memoryview) -> None:
        request = self._request
        phase, body = request.phase, request.body
        if self.parser is None:
            self.parser = httptools.HttpRequestParser(self)  # type: ignore[unreachable]
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # the request is served without it; what follows is not HTTP/1.1
            self._close_after_response()
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, PipelinedRequest):
                self._close_after_response()
            elif isinstance(error.__context__, ExceedingHead):
                self.refuse(HeadTooLarge())
            else:
                self.refuse(InvalidRequest("Invalid HTTP request received."))
        if request.phase == phase:
            request.framing += len(piece) - (request.body - body)

    def _count(self) -> None:
        """After a read: what does the request hold, and is it complete?"""
        request = self._request
        is_answered = not self._is_answering
        if request.phase == BODY and is_answered:
            if request.body - request.seen > LINGER_BYTES:
                self.transport.abort()
            return
        is_incomplete = request.phase in (HEAD, BODY)
        if is_incomplete and request.timer is None:
            request.seen = request.body
            check = self._head_is_late if request.phase == HEAD else self._check_body
            self._start_timer(HEAD_S if request.phase == HEAD else BODY_S, check)
        if self._is_discarded and request.body > LINGER_BYTES:
            self.refuse(
                RequestTooLarge(f"Nothing reads a body of {self.scope['method']}: {size_text(LINGER_BYTES)} at most.")
            )
        elif not self._hold():
            self._cut()

    def _hold(self) -> bool:
        """Count what the request holds; whether there is room."""
        request = self._request
        held = request.framing + request.body
        if request.phase == HEAD:
            return held <= SMALL_HEAD_BYTES or self.limits.heads.hold(self._client_connection, held, self._cut)
        is_large = request.phase == BODY or held > HEAD_BYTES
        is_wanted = self._is_answering and not (self.cycle.disconnected or self._is_discarded)
        if is_large and is_wanted:
            return self.limits.inflight.hold(self._client_connection, held, self._cut)
        return True

    def _release(self) -> None:
        self.limits.heads.release(self._client_connection)
        self.limits.inflight.release(self._client_connection)

    def _cut(self) -> None:
        self.refuse(Unavailable("This frontend receives too much at once."))

    def _discard(self, size: int) -> None:
        self._request.framing += size
        if self._request.framing > REFUSED_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        if self._is_answering:
            raise PipelinedRequest
        self._request.headers = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            raise ExceedingHead

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request.phase == BODY:
            return  # a trailer: it must not become a header of the request
        self._request.headers += 1
        if self._request.headers > MAX_HEADERS:
            raise ExceedingHead
        if name.lower() not in UNREAD_HEADERS:
            super().on_header(name, value)
        elif name.lower() == b"cookie" and (session := SESSION_COOKIE.search(value)):
            super().on_header(SESSION_HEADER, session[1])

    def on_headers_complete(self) -> None:
        check_head(self.parser.get_http_version(), self.parser.should_upgrade(), self.headers)
        self._stop_timer()
        self.limits.set_busy(self)
        self.limits.heads.release(self._client_connection)
        scope: Any = self.scope
        scope[SCOPE] = self._client_connection
        scope[REQUEST_ID] = new_request_id()
        super().on_headers_complete()
        if scope["path"].startswith(AUDITED):
            scope["client"] = get_remote_addr(self.transport)
        self.cycle.message_event = LateEvent()  # type: ignore[assignment]
        self.cycle.transport = self._client_connection  # type: ignore[assignment]
        self.cycle.keep_alive = self.cycle.keep_alive and self.limits.keeps_alive
        self.cycle.default_headers = [*self.cycle.default_headers, (b"x-request-id", scope[REQUEST_ID].encode())]
        request = self._request
        request.phase, request.framing, request.body = BODY, 0, 0

    def on_body(self, body: bytes) -> None:
        self._request.body += len(body)
        if not self._is_discarded:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._request.phase, self._request.framing = ANSWER, 0
        super().on_message_complete()
        if not self._is_answering:
            self._await_next()

    def release_parser(self) -> None:
        """Free the parser, which knows nothing any more: it and what it calls take 1.0 KB a reader. The next bytes have
        another one. (A request that has begun behind this one keeps it.)"""
        if self._request.phase == ANSWER and not self._request.framing:
            self.parser = None  # type: ignore[assignment]

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._request.timer = self.loop.call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._request.timer is not None:
            self._request.timer.cancel()
            self._request.timer = None

    def _head_is_late(self) -> None:
        if self._request.framing:
            self.refuse(RequestTimeout(f"The request's head was not complete within {HEAD_S:g} s."))
        else:
            self.transport.close()

    def _check_body(self) -> None:
        request = self._request
        if request.body - request.seen >= BODY_S * BODY_BYTES_S or self.flow.read_paused:
            request.seen = request.body
            self._start_timer(BODY_S, self._check_body)
        else:
            self.refuse(RequestTimeout(f"The body arrived with less than {BODY_BYTES_S} bytes a second."))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def _start_write_timer(self) -> None:
        if self._request.write_timer is None:
            self._request.write_timer = self.loop.call_later(self.limits.write_timeout_s, self._reset)

    def _reset(self) -> None:
        """Abort, and free the megabytes that the kernel has buffered too: it would offer them for minutes."""
        with contextlib.suppress(OSError):
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._request.write_timer is not None:
            self._request.write_timer.cancel()
            self._request.write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """The client has sent no further request. It may not have taken the last response either."""
        if self.transport.get_write_buffer_size():
            self._reset()
        super().timeout_keep_alive_handler()

    # ── responses ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.cycle.body = bytearray()  # what the application has not read: up to 320 KiB until the next request
        self.limits.inflight.release(self._client_connection)
        if self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self._start_write_timer()
        elif self._request.phase == BODY:
            self._request.seen = self._request.body
            self.limits.set_lingering(self)
            self._start_timer(LINGER_S, self.transport.abort)
        else:
            self.limits.set_idle(self)

    def _await_next(self) -> None:
        """A body that was answered early is complete now. (Its bytes have stopped the timer of the response's end.)"""
        self.limits.set_idle(self)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _close_after_response(self) -> None:
        self._stop_timer()
        self._request.phase, self._request.framing = CLOSING, 0
        self.cycle.keep_alive = False
        if not self._is_answering:
            self.transport.close()

    def _forget(self) -> None:
        """Free the request: a refused connection is still read. (The parser keeps what it has of a header.)"""
        self.parser = self.scope = self.headers = None  # type: ignore[assignment]
        if self.cycle is not None:
            self.cycle.body = bytearray()

    def refuse(self, error: TailraceError) -> None:
        """Answer with an error and close; abort if a response has already started."""
        self._stop_timer()
        self.limits.set_lingering(self)
        self._release()
        self._forget()
        self._request.phase, self._request.framing = CLOSING, 0
        if self._is_answering:
            if self.cycle.response_started:
                return self.transport.abort()
            self.cycle.disconnected = True  # the application's response is dropped
            self.cycle.message_event.set()
        self.transport.write(refusal_bytes(error))
        self.transport.write_eof()
        return self._start_timer(REFUSED_S, self.transport.abort)
