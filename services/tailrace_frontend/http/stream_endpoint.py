"""Answering a request with an event stream: headers, admission, cursor, refusal, and the end of a log.

    GET /v1/generations/{id}/events     `answer_events`, from the table of `app`
    POST /v1/generations, /api/chat     `send_log`, by `LogResponse`

A refusal that may pass (429, 503) is sent to a client of event streams as a stream of one retry hint: an `EventSource`
that receives an error status never reconnects. For the same reason a log that was read to its end is answered with 204,
after which an `EventSource` stops.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from starlette.types import Scope, Send

from tailrace import jsoncodec, tracing
from tailrace.errors import NotFound, RateLimited, RetryableError, TailraceError, Unauthenticated, Unavailable
from tailrace.ids import EntryId, is_generation_id
from tailrace.log.state import GenerationState
from tailrace.scopes import READERS
from tailrace.wire import JSON_VALUES, WIRE_FORMATS, Encode, WireFormat
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.http import cors
from tailrace_frontend.http.head import refuse_stream
from tailrace_frontend.http.negotiation import check_value, native_format, wants_events
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.stream_connection import StreamConnection, retry_ms
from tailrace_frontend.turnstile import OPEN

RawHeaders = list[tuple[bytes, bytes]]

GENERATION_HEADER = "x-tailrace-generation"
"""The generation's id, on an answer that created or found one."""

STREAM_HEADERS: RawHeaders = [
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
"""Of every event stream: nothing on the way may keep, change or buffer it."""


async def answer_events(services: Services, generation_id: str, scope: Scope, send: Send) -> None:
    """Send a log from the request's cursor, or the reason why not.

    (This frame lives as long as the stream; what is needed only at the beginning is local to `_open_or_refuse`.)
    """
    stream = await _open_or_refuse(services, generation_id, scope, send)
    if stream is not None:
        stream.request_scope = scope
        await stream.run()


async def send_log(
    services: Services, wire: WireFormat, state: GenerationState, caller: ApiKey, extra: RawHeaders, scope: Scope,
    send: Send,
) -> None:  # fmt: skip
    """Send a log from its beginning; `extra`: more response headers.

    Where the last place was taken meanwhile, the client gets a retry hint, or 429 in a format that has none.
    """
    try:
        stream = await open_stream(services, wire, state, None, caller, extra, scope, send)
    except RateLimited as error:
        await refuse(services, error, wire, extra, send)
    else:
        await stream.run()


def stream_headers(wire: WireFormat, extra: Iterable[tuple[bytes, bytes]] = ()) -> RawHeaders:
    """The response headers of an event stream in a format."""
    media_type = f"{wire.media_type}; charset=utf-8".encode()
    return [(b"content-type", media_type), *STREAM_HEADERS, *wire.headers, *extra]


async def _open_or_refuse(services: Services, generation_id: str, scope: Scope, send: Send) -> StreamConnection | None:
    """The stream that the request asks for; None where the request has been answered: refused, or at the log's end."""
    headers = first_values(scope["headers"])
    accept, query = headers.get("accept", ""), dict(parse_qsl(scope["query_string"].decode("latin-1")))
    wire = WIRE_FORMATS["native"]
    allowed = cors.headers_for(headers.get("origin"), services.settings.origins)
    try:
        wire = native_format(accept, query.get("view"))
        caller, state, cursor = await _find(services, generation_id, scope, headers, query)
        if wire is JSON_VALUES:
            check_value(state.record)
        if state.is_final and cursor == state.position:
            services.metrics.resumed("ended")
            await respond(send, 204, allowed)
            return None
        stream = await open_stream(services, wire, state, cursor, caller, allowed, scope, send)
        if cursor is not None:
            services.metrics.resumed("continued")
        return stream
    except TailraceError as error:
        if headers.get("last-event-id") or query.get("last_event_id"):
            services.metrics.resumed("refused")
        await refuse(services, error, wire if wants_events(accept) else None, allowed, send)
        return None


async def _find(
    services: Services, generation_id: str, scope: Scope, headers: Mapping[str, str], query: Mapping[str, str]
) -> tuple[ApiKey, GenerationState, EntryId | None]:
    """The key of the request or of its ticket, the generation's state and the request's cursor. `headers`: the first of
    each name.

    Raises:
        TailraceError: the request is refused, or Redis did not answer.
    """
    caller = await _caller(services, generation_id, headers, query.get("ticket"))
    cursor = parse_cursor(values_of(b"last-event-id", scope["headers"]), query.get("last_event_id"))
    if not is_generation_id(generation_id):
        raise NotFound
    if services.hub.draining:
        raise Unavailable("This frontend is stopping.")
    await services.rate_limits.charge_stream(caller.owner)
    async with services.rate_limits.turn(caller.owner):
        state = await services.generations.find(generation_id, caller.owner)
    await services.hub.arrivals.enter(OPEN)
    if not services.callers.may_read(caller):
        raise Unauthenticated  # it was withdrawn meanwhile
    return caller, state, cursor


async def open_stream(
    services: Services, wire: WireFormat, state: GenerationState, cursor: EntryId | None, caller: ApiKey,
    extra: RawHeaders, scope: Scope, send: Send, *, watches: bool = False,
) -> StreamConnection:  # fmt: skip
    """An admitted connection. `watches`: as for `StreamConnection`.

    Raises:
        RateLimited: as `Hub.join`.
    """
    encode = await services.encoders.bind(wire, state, cursor)
    return connect(services, wire, encode, state, cursor, caller, extra, scope, send, watches=watches)


def connect(
    services: Services, wire: WireFormat, encode: Encode, state: GenerationState, cursor: EntryId | None,
    caller: ApiKey, extra: RawHeaders, scope: Scope, send: Send, seen_to: int = -1, watches: bool = False,
) -> StreamConnection:  # fmt: skip
    """An admitted connection that sends a log; in one step, so that a place that was left for it is not lost.
    `seen_to`: as for `LogCursor`; `watches`: as for `StreamConnection`.

    Raises:
        MethodNotAllowed: the request was a HEAD.
        RateLimited: as `Hub.join`.
    """
    refuse_stream(scope)
    stream = StreamConnection(
        services.hub, wire, encode, state, cursor, headers=stream_headers(wire, extra), client=scope[SCOPE], send=send,
        caller=caller, may_read=services.callers.may_read, seen_to=seen_to, watches=watches,
    )  # fmt: skip
    services.metrics.streams.inc()
    if tracing.is_on():
        stream.cursor.span = tracing.subscription(state.record, wire=wire.media_type, resumed=cursor is not None)
    return stream


async def _caller(services: Services, generation_id: str, headers: Mapping[str, str], ticket: str | None) -> ApiKey:
    """The key that the request was sent with, or for which its ticket was issued.

    A ticket is sent as `Authorization: Ticket …`, or in the query by a client that cannot send headers.

    Raises:
        TailraceError: as `Services.authorize` and `Services.redeem`.
    """
    ticket = ticket_of(headers, ticket)
    if ticket is not None and not services.callers.are_open:
        return await services.redeem(ticket, generation_id)
    return await services.authorize(headers, READERS)


def first_values(headers: RawHeaders) -> Mapping[str, str]:
    """The first header of each name. (Starlette's `Headers` searches them all for each name: 1.5 µs a search.)"""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(headers)}


def values_of(wanted: bytes, headers: RawHeaders) -> list[str]:
    """The headers of a name, which is in lower case."""
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def ticket_of(headers: Mapping[str, str], in_query: str | None) -> str | None:
    """The ticket that a request was sent with, in its header or else in its query; None: it has another credential, or
    none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "ticket":
        return given.strip()
    return None if scheme else in_query


def parse_cursor(from_header: list[str], from_query: str | None) -> EntryId | None:
    """`Last-Event-ID`, else `?last_event_id=`; None where both are missing or empty.

    Raises:
        InvalidCursor: the cursor is not an event id, or the header occurs twice.
    """
    given = ",".join(from_header) or from_query
    return EntryId.parse(given) if given else None


async def refuse(
    services: Services, error: TailraceError, wire: WireFormat | None, allowed: RawHeaders, send: Send
) -> None:
    """Answer with an error, or, where it may pass, with an event stream that only asks its client to reconnect. `wire`:
    the format in which the client reads retry hints; None: it reads none."""
    hint = wire.encode_retry(error.message, retry_ms()) if wire and isinstance(error, RetryableError) else None
    if wire is not None and hint is not None:
        services.metrics.streams_deferred.inc()
        return await respond(send, 200, stream_headers(wire, allowed), hint)
    services.metrics.refused(error.status)
    own = [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
    headers = [(b"content-type", b"application/json"), *own, *allowed]
    return await respond(send, error.status, headers, jsoncodec.dumps(error.as_json()) + b"\n")


async def respond(send: Send, status: int, headers: RawHeaders, body: bytes = b"") -> None:
    """Answer with a whole body; 204 has none."""
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
