"""The ASGI application that uvicorn runs.

`GET /v1/generations/{id}/events` goes straight to a reader; everything else to FastAPI. (A reader costs 10.3 KB that
way and 21.4 as a FastAPI route, measured.) FastAPI documents the route by a stub.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers

from tailrace import jsoncodec
from tailrace.errors import NotFound, RedisUnavailable, TailraceError, Unavailable
from tailrace.ids import EntryId, is_generation_id
from tailrace.settings import Settings
from tailrace.wire import WIRES, Wire
from tailrace_frontend.http import cors, routes
from tailrace_frontend.http.api import create_api
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.reader import Reader, is_ahead

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

EVENTS = re.compile(r"/v1/generations/([^/]{1,64})/events", re.ASCII)


class Frontend:
    """What uvicorn calls."""

    def __init__(self, settings: Settings) -> None:
        self.services = Services(settings)
        self.api = create_api(self.services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and (match := EVENTS.fullmatch(scope["path"])):
            await self._events(match[1], scope, send)
        else:
            await self.api(scope, receive, send)  # type: ignore[arg-type]

    async def _events(self, generation_id: str, scope: Scope, send: Send) -> None:
        """Tell a log, or say why not. What may pass never closes an `EventSource`."""
        headers = Headers(scope=scope)
        wire = wire_for(headers.get("accept", ""))
        allowed = cors.headers_for(headers.get("origin"), self.services.settings.origins)
        try:
            reader = await self._reader(generation_id, headers, scope, wire, send)
        except TailraceError as error:
            await self._refuse(error, headers, allowed, send)
        except RedisUnavailable:
            await self._refuse(Unavailable(), headers, allowed, send)
        else:
            if reader is None:
                await _answer(send, 204, allowed)
            else:
                await reader.run(allowed)

    async def _reader(
        self, generation_id: str, headers: Headers, scope: Scope, wire: Wire, send: Send
    ) -> Reader | None:
        """None at the end of a log: 204 stops an `EventSource`."""
        services = self.services
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        owner = self._owner(generation_id, headers, query.get("ticket"))
        cursor = _cursor(headers.getlist("last-event-id"), query.get("last_event_id"))
        if not is_generation_id(generation_id):
            raise NotFound
        if services.hub.draining:
            raise Unavailable("This server is stopping.")
        try:
            state = await services.log.state(generation_id, owner)
        except NotFound:
            _, age = await services.log.server.run()
            if age < services.settings.restart_grace_s:
                raise Unavailable("The log's server has just started.") from None
            raise
        if cursor is not None:
            services.metrics.resumed.inc()
            if state.is_final and cursor.seq == state.seq and not is_ahead(cursor, state):
                return None
        return services.admit_reader(wire, state, cursor, scope, send)

    def _owner(self, generation_id: str, headers: Headers, ticket: str | None) -> str:
        callers = self.services.callers
        if ticket is not None and not callers.are_open and "authorization" not in headers:
            return callers.redeem(ticket, generation_id)
        return callers.identify(headers)

    async def _refuse(
        self, error: TailraceError, headers: Headers, allowed: list[tuple[bytes, bytes]], send: Send
    ) -> None:
        if error.status in (429, 503) and routes.wants_events(headers.get("accept", "")):
            return await self.services.defer_stream(error, allowed, send)
        self.services.metrics.refused.labels(error.status).inc()
        told = [(name.lower().encode(), value.encode()) for name, value in error.headers().items()]
        body = jsoncodec.dumps(error.as_json())
        return await _answer(send, error.status, [(b"content-type", b"application/json"), *told, *allowed], body)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    if status != 204:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def wire_for(accept: str) -> Wire:
    """SSE, unless the client accepts NDJSON or plain text alone."""
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    for name in ("ndjson", "text"):
        if wanted == {WIRES[name].media_type}:
            return WIRES[name]
    return WIRES["native"]


def _cursor(from_header: list[str], from_query: str | None) -> EntryId | None:
    """`Last-Event-ID`, else `?last_event_id=`; an empty one is none.

    Raises:
        InvalidCursor: it is not an event id, or there are two of them.
    """
    given = ",".join(from_header) or from_query
    return EntryId.parse(given) if given else None
